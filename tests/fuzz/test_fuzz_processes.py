"""The most different of the malformed inputs, through a process of its own."""

from __future__ import annotations

import os
import shutil

import pytest

from retable.util import paths
from support.fuzz_mutations import BOMB

HEAD = "# @package _global_\ndefaults: [/experiment/digits/base]\n"
TRAIN = ["train", "experiment=digits/base", "seed=0"]


@pytest.fixture
def refused(retable, tmp_path):
    """The line that a command is refused with; it has left nothing behind."""
    extra, work = tmp_path / "extra", tmp_path / "work"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    work.mkdir()

    def call(*args, **files):
        for name, data in files.get("files", {}).items():
            (extra / name).parent.mkdir(parents=True, exist_ok=True)
            (extra / name).write_bytes(data)
        done = retable(*args, code=2, cwd=work, RETABLE_EXTRA=extra, MARK=tmp_path / "PWNED")
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert line.isprintable()
        assert done.stdout == ""
        assert list(work.iterdir()) == []
        assert not (tmp_path / "runs").exists()
        assert not (tmp_path / "PWNED").exists()
        return line

    return call


def test_bytes_that_are_no_text_and_an_escape_on_the_command_line(refused):
    assert "'\\x1b[31m\\udcff=1'" in refused(*TRAIN, "\x1b[31m\udcff=1")


def test_a_text_that_cannot_be_written_is_no_value(refused):
    line = refused(*TRAIN, "callbacks={x: {_target_: torch.nn.ReLU, a: '\udcff'}}")
    assert "callbacks.x" in line


def test_a_bomb_of_aliases(refused):
    data = f"{BOMB}\ntitle: *b8\n".encode()
    line = refused("show", "digits/bomb", files={"conf/table/digits/bomb.yaml": data})
    assert "its aliases repeat more than 50000 values" in line


EVIL = b"{x: {_target_: os.system, command: touch $MARK}}\n"
SWEEP = ["train", "-m", "experiment=digits/evil", "seed=0,1"]


def test_hydra_calls_nothing_back_that_an_experiment_names(refused):
    data = HEAD.encode() + b"hydra:\n  callbacks: " + EVIL
    line = refused(*SWEEP, files={"conf/experiment/digits/evil.yaml": data})
    assert "evil.yaml, line 3: hydra: an experiment may not change" in line


def test_nor_what_an_experiment_inherits(refused):
    # The experiment says no word about Hydra; only what was composed shows it.
    files = {
        "conf/experiment/digits/evil.yaml": HEAD.replace("base]", "base, /evil/calls]").encode(),
        "conf/evil/calls.yaml": b"# @package hydra.callbacks\n" + EVIL,
    }
    line = refused(*SWEEP, files=files)
    assert "hydra.callbacks: no config may change Hydra's own settings" in line


def test_a_published_file_that_was_cut_off(refused):
    data = (paths.project_root() / "results/risk_parity/real_data.parquet").read_bytes()
    files = {"results/digits/accuracy.parquet": data[:900]}
    line = refused("table", "digits/accuracy", "--from", "results", files=files)
    assert "accuracy.parquet: cannot be read" in line
