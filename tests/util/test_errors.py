"""The real command line: one clear line, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retable.util import paths
from retable.util.errors import UserError, brief, nearest


def test_nearest_names_one_or_lists_a_few():
    assert nearest("hiden", ["hidden", "other"]) == "; did you mean 'hidden'?"
    assert nearest("zzz", ["b", "a", "a"]) == "; valid: a, b"
    assert nearest("zzz", [f"name{i}" for i in range(16)]) == ""
    assert nearest("", []) == ""
    assert len(nearest("x" * 100_000, ["x" * 50])) < 100


def test_brief_is_one_short_line():
    assert brief("a\n  b\tc") == "a b c"
    assert brief("x" * 500, 10) == "x" * 9 + "…"


def test_what_a_file_says_cannot_steer_the_terminal():
    assert brief("\x1b[31mred\udcff é") == "\\x1b[31mred\\udcff é"
    assert str(UserError("a\n\x1b]0;title\x07 \u202eb")) == "a \\x1b]0;title\\x07 \\u202eb"
    long = str(UserError("start " + "x" * 9000 + " end"))
    assert len(long) < 600
    assert long.startswith("start xx")
    assert long.endswith("xx end")


@pytest.mark.parametrize("value", ["/dev/null", "nowhere", "x" * 5000, "a/" * 3000])
def test_an_extra_root_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv("RETABLE_EXTRA", value)
    with pytest.raises(UserError, match="is not a folder; correct it or unset it"):
        paths.extra_root()


def test_capitals_do_not_hide_what_was_meant():
    assert nearest("TRAINER", ["trainer", "paper"]) == "; did you mean 'trainer'?"


TRAIN = ["train", "experiment=digits/base", "seed=0"]
CASES = [
    (["train", "experiment=digits/base"], "seed: is missing"),
    (["train", "experiment=digits/base", "model.hiden=3"], "did you mean 'hidden'?"),
    ([*TRAIN, "seed=-1"], "seed: -1"),
    ([*TRAIN, "+model.hiden=3"], "did you mean 'hidden'?"),
    ([*TRAIN, "model.optimizer.lrr=1"], "did you mean 'lr'?"),
    ([*TRAIN, "model._target_=os.system"], "model._target_: 'os.system' may not be built"),
    ([*TRAIN, "model.hidden=${paths.runs}"], "a keyed field may not"),
    ([*TRAIN, "hydra.run.dir=/tmp/x"], "Hydra's own settings"),
    (["train", "-m", "experiment=digits/base", "seed=0,1", "model.hiden=1,2"], "'hidden'"),
    (["train", "-m", "experiment=digits/base", "seed=0,-1"], "seed"),
    (["train", "-m", *TRAIN[1:], "hydra.sweep.dir=/tmp/x"], "Hydra's own settings"),
    ([*TRAIN, "experiment=digits/bse"], "did you mean 'digits/base'?"),
    (["show", "digit"], "did you mean 'digits'?"),
    (["table", "digits/accurcy"], "did you mean 'digits/accuracy'?"),
    (["plan", "digits/accuracy", "--protocol", "smok"], "did you mean 'smoke'?"),
    (["run", "digits/accuracy", "--row", "slw"], "no row 'slw'; did you mean 'slow'?"),
    (["run", "digits/accuracy", "--column", "acc"], "no column 'acc'; did you mean 'accuracy'?"),
    (["run", "digits/accuracy", "--seeds", "9"], "has 1 to 3 seeds"),
    (["run", "digits/accuracy", "model.hidden=3"], "would change what digits/accuracy runs"),
    (["run", "digits/accuracy", "--retry", "failed"], "only 'diverged'"),
    (["table", "digits", "--from", "run"], "did you mean 'runs'?"),
    (["publish", "digits/accuracy"], "nothing to publish"),
    (["rnu", "digits"], "'run'"),
    ([*TRAIN, "+model.optimizer.momentum=-1"], "model.optimizer: Invalid momentum value: -1.0"),
    (["run", "digits", "--sed", "1"], "--seeds"),
]


@pytest.mark.parametrize(("args", "message"), CASES, ids=lambda x: " ".join(x)[-40:])
def test_one_clear_line(retable, tmp_path, args, message):
    work = tmp_path / "work"
    work.mkdir()
    done = retable(*args, code=2, cwd=work)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(work.iterdir()) == []
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()


def test_a_broken_table_file_is_one_line_too(retable, tmp_path):
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    file = extra / "conf" / "table" / "digits" / "accuracy.yaml"
    file.write_text(file.read_text().replace("grade: primary", "grade: primry"), encoding="utf-8")
    for command in (["list"], ["show", "digits"], ["plan", "digits"], ["run", "digits/accuracy"]):
        done = retable(*command, code=2, RETABLE_EXTRA=extra)
        (line,) = done.stderr.splitlines()
        assert "accuracy.yaml, line 17: reported.slow.accuracy.grade: 'primry'" in line
        assert "did you mean 'primary'?" in line


def test_validation_does_without_torch(tmp_path):
    """``torch.optim.SGD(lrr=)`` is refused and ``torch.nn.Linear`` found, torch not imported."""
    code = """
import json, sys
from retable.config.compose import compose, hydra_ready
from retable.util.errors import UserError
from retable.config.targets import check
with hydra_ready():
    try:
        compose(["experiment=digits/base", "seed=0", "model.optimizer.lrr=1"])
    except UserError as error:
        said = str(error)
check({"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}, "x")
print(json.dumps([said, sorted({"torch", "pytorch_lightning", "numpy"} & set(sys.modules))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    said, loaded = json.loads(done.stdout)
    assert "torch.optim.SGD has no argument 'lrr'; did you mean 'lr'?" in said
    assert loaded == []
    assert list(Path(tmp_path).iterdir()) == []
