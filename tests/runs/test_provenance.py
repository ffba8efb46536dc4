"""Provenance: by reference, once, and nothing of the person or machine that is not said."""

from __future__ import annotations

import importlib.metadata
import subprocess

import msgspec
import pytest

from retable.runs import provenance
from retable.util import paths
from retable.util.errors import UserError


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of its own."""
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    (root / "conf").mkdir()
    (root / "src" / "a.py").write_text("a = 1\n")
    (root / "notes.md").write_text("n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    monkeypatch.setattr(paths, "project_root", lambda: root)
    return root


def git(root, *args):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *args], cwd=root, check=True, capture_output=True)


def stored(runs):
    return sorted((runs / "_store").iterdir())


def test_a_clean_checkout_has_a_commit_and_a_package_list(checkout, runs):
    first = provenance.collect(runs)
    assert len(first.commit) == 40
    assert first.dirty is None
    [packages] = stored(runs)
    assert packages.name == f"{first.packages}.txt"
    lines = packages.read_text().splitlines()
    assert lines == sorted(set(lines))
    assert any(line.startswith("torch==") for line in lines)
    written = packages.stat().st_mtime_ns
    assert provenance.collect(runs) == first
    assert stored(runs) == [packages]
    assert packages.stat().st_mtime_ns == written, "stored twice"


def test_changes_of_code_are_kept_by_hash_others_do_not_count(checkout, runs):
    (checkout / "notes.md").write_text("changed")
    (checkout / "results.txt").write_text("new")
    assert provenance.collect(runs).dirty is None
    (checkout / "src" / "a.py").write_text("a = 2\n")
    first = provenance.collect(runs)
    diff = runs / "_store" / f"{first.dirty}.diff"
    assert "-a = 1\n+a = 2\n" in diff.read_text()
    (checkout / "conf" / "new.yaml").write_text("x: 1\n")
    second = provenance.collect(runs)
    assert second.dirty != first.dirty
    assert "untracked conf/new.yaml" in (runs / "_store" / f"{second.dirty}.diff").read_text()
    (checkout / "conf" / "new.yaml").write_text("x: 2\n")
    assert provenance.collect(runs).dirty not in {first.dirty, second.dirty}


def test_code_that_changes_while_it_is_copied_is_refused(checkout, runs):
    before = provenance.code(())
    provenance.refuse_changed(before, ())
    (checkout / "src" / "a.py").write_text("a = 7\n")
    with pytest.raises(UserError, match="changed while it was read"):
        provenance.refuse_changed(before, ())
    assert not runs.exists(), "nothing is written before a run has started"


def test_odd_files_do_not_matter(checkout, runs):
    (checkout / "src" / 'näme with "quote".bin').write_bytes(b"\xff\xfe\x00")
    (checkout / "src" / "a.py").write_bytes(b"a = '\xe4'\n")
    (checkout / "src" / "dangling").symlink_to("nowhere")
    assert provenance.collect(runs).dirty


def test_a_repository_around_an_installed_copy_is_not_ours(checkout, runs, monkeypatch):
    inside = checkout / "venv" / "retable"
    inside.mkdir(parents=True)
    monkeypatch.setattr(paths, "project_root", lambda: inside)
    found = provenance.collect(runs)
    assert found.commit is None
    assert found.dirty is None


def test_without_git_or_a_gpu(checkout, runs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = provenance.collect(runs)
    assert (found.commit, found.dirty, found.accelerator, found.driver) == (None,) * 4
    assert found.cores >= 1
    assert found.cpu


def test_no_home_and_no_environment(checkout, runs, monkeypatch):
    home = checkout.parent / "home-of-somebody"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SECRET_OF_TEST", "hunter2hunter2")
    text = msgspec.json.encode(provenance.collect(runs)).decode()
    text += "".join(path.read_text() for path in stored(runs))
    assert "hunter2hunter2" not in text
    assert "home-of-somebody" not in text


def test_what_chooses_kernels_is_kept_where_it_is_set(checkout, runs, monkeypatch):
    for name in provenance._KERNELS:
        monkeypatch.delenv(name, raising=False)
    found = provenance.surroundings(runs)
    assert (found.kernels, found.kernels_shown) == ({}, "chosen by the processor")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("MKL_CBWR", "")
    found = provenance.collect(runs)
    assert found.kernels == {"ATEN_CPU_CAPABILITY": "default"}
    assert found.kernels_shown == "ATEN_CPU_CAPABILITY=default"


def test_a_processor_is_named_by_generation_and_vector_instructions(monkeypatch):
    facts = {"vendor_id": "AMD", "cpu family": "25", "model": "1", "stepping": "0"}
    known = []
    for flags in ("fpu sse2 avx2", "sse2 avx2 aperfmperf", "sse2 avx2 avx512f"):
        monkeypatch.setattr(provenance, "_cpu_facts", lambda f=flags: {**facts, "flags": f})
        known.append(provenance.cpu_id())
    assert known[0] == known[1] != known[2]
    assert all(text.startswith("AMD-25-1-0 ") for text in known)
    monkeypatch.setattr(provenance, "_cpu_facts", dict)
    assert provenance.cpu_id() is None
    assert provenance.cpu_model()


def test_packages_are_named_by_the_head_of_their_metadata(tmp_path, monkeypatch):
    head = "Metadata-Version: 2.1\nName: Odd_Name\nVersion: 1.0\nLicense: as\n        Version: 3\n"
    (tmp_path / "odd_name-1.0.dist-info").mkdir()
    (tmp_path / "odd_name-1.0.dist-info" / "METADATA").write_text(f"{head}\nName: x\nVersion: 9\n")
    monkeypatch.syspath_prepend(tmp_path)
    parsed = [one.metadata for one in importlib.metadata.distributions()]
    wanted = {f"{one['Name'].lower()}=={one['Version']}" for one in parsed if one["Name"]}
    found = provenance.packages.__wrapped__().splitlines()  # of this process they are remembered
    assert found == sorted(wanted)
    assert "odd_name==1.0" in found
