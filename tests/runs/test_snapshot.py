"""A launch from a copy of the source survives edits of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from retable.runs import identity, records, snapshot
from retable.util import paths

TARGETS = ["retable.papers.digits.data.Digits", "retable.papers.digits.module.Perceptron"]


@pytest.fixture
def extra(tmp_path, monkeypatch):
    """An extra root of this test alone."""
    root = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], root)
    monkeypatch.setenv("RETABLE_EXTRA", str(root))
    return root


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_copy_is_named_after_its_content_and_made_once(extra, runs):
    (extra / "results").mkdir()
    (extra / "results" / "big.bin").write_bytes(b"0" * 1000)
    (extra / "papers" / "digits" / "__pycache__").mkdir(exist_ok=True)
    (extra / "papers" / "digits" / "__pycache__" / "x.pyc").write_bytes(b"")
    first = snapshot.make(runs, TARGETS)
    assert first.parent == runs / "_snapshots"
    assert (first / "retable" / "training" / "execute.py").read_bytes() == (
        paths.PACKAGE / "training" / "execute.py"
    ).read_bytes()
    names = files(first)
    assert f"{snapshot.EXTRA}/papers/digits/module.py" in names
    assert not [name for name in names if "__pycache__" in name or "big.bin" in name]
    assert snapshot.make(runs, TARGETS) == first
    # A data file counts as well as a module.
    (extra / "papers" / "digits" / "table.csv").write_text("1")
    second = snapshot.make(runs, TARGETS)
    assert second != first
    (extra / "papers" / "digits" / "table.csv").write_text("2")
    assert snapshot.make(runs, TARGETS) not in (first, second)
    assert len(list((runs / "_snapshots").iterdir())) == 3, "a temporary was left"


def test_without_an_extra_root(runs, monkeypatch):
    monkeypatch.delenv("RETABLE_EXTRA")
    made = snapshot.make(runs, [])
    assert sorted(p.name for p in made.iterdir()) == ["retable"]


@pytest.mark.slow
def test_an_edit_after_the_launch_began_changes_nothing(extra, runs, tmp_path):
    module = extra / "papers" / "digits" / "module.py"
    overrides = [
        "experiment=digits/smoke",
        "seed=0,1",
        "model.sleep=0.3",
        "trainer.max_epochs=4",
        "launcher.snapshot=true",
        "launcher.workers=1",
    ]
    # From a folder that holds another package of the name: it must not be taken.
    (tmp_path / "cwd" / "retable").mkdir(parents=True)
    (tmp_path / "cwd" / "retable" / "__init__.py").write_text("raise SystemExit('wrong package')")
    command = [sys.executable, "-P", "-m", "retable", "train", "-m", *overrides]
    process = subprocess.Popen(
        command, cwd=tmp_path / "cwd", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not list((runs / "_snapshots").glob("[0-9a-f]*")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    # Before its server has loaded anything.
    module.write_text("raise RuntimeError('edited')\n")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    found = [records.read(path) for path in runs.glob("digits/*/record.json")]
    assert len(found) == 2
    # Their fingerprint is the copy's.
    [copy] = (runs / "_snapshots").iterdir()
    code = "from retable.runs.identity import *; import sys; print(fingerprint(sys.argv[1:]))"
    targets = sorted(identity.targets_of(found[0].config))
    of_copy = subprocess.run(
        [sys.executable, "-P", "-c", code, *targets],
        env={**os.environ, "PYTHONPATH": str(copy), "RETABLE_EXTRA": str(copy / snapshot.EXTRA)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {record.fingerprint for record in found} == {of_copy.stdout.strip()}
