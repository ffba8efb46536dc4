"""A paper is asked about the config of its models, with defaults, before anything is launched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from retable.config import paper_refusals
from retable.config.compose import compose, hydra_ready
from retable.config.paper_refusals import check_paper, plain
from retable.config.schema import RunConfig
from retable.runs.identity import modules_of
from retable.util.paths import PACKAGE

PAPERS = PACKAGE / "papers"
SHIPPED = sorted(path.parent.name for path in PAPERS.glob("*/refusals.py"))
REFUSES = '''"""What the digits' options cannot mean together."""

from retable.util.errors import UserError


def refuse(run):
    """Refuse a hidden width above the batch size."""
    if run["model"]["hidden"] > run["data"]["batch_size"]:
        raise UserError(f"model.hidden: {run['model']['hidden']} is above data.batch_size")
'''


def composed(*overrides: str) -> RunConfig:
    with hydra_ready():
        return compose([*overrides, "seed=0"])


def test_it_gets_defaults_of_own_classes_and_what_others_are_given():
    got = plain(composed("experiment=weight_decay/lm_smoke"))
    model = got["model"]
    assert (model["l2"], model["snapshot"], model["snapshots"]) == (0.0, None, [])
    assert model["optimizer"].keys() == {"_target_", "_partial_", "betas", "fused"}
    assert got["start"] is None
    assert got["trainer"]["accumulate_grad_batches"] == 1


def test_it_gets_the_run_that_is_started_from_in_the_same_way():
    got = plain(composed("experiment=weight_decay/lm_smoke_match"))
    parent = got["start"]["run"]["model"]
    assert (parent["decay"], parent["match"]) == (0.1, False)
    assert parent["net"] == got["model"]["net"]


def test_what_it_changes_is_not_the_config(monkeypatch):
    config = composed("experiment=weight_decay/lm_smoke")
    before = config.model_dump()

    class Meddles:
        @staticmethod
        def refuse(run):
            run["model"]["net"]["width"] = 0
            run["trainer"].clear()

    monkeypatch.setattr(paper_refusals, "import_module", lambda _: Meddles)
    check_paper(config)
    assert config.model_dump() == before


def test_a_paper_without_refusals_is_asked_nothing(monkeypatch):
    monkeypatch.setattr(paper_refusals, "import_module", pytest.fail)
    composed("experiment=digits/base")


@pytest.mark.parametrize("paper", SHIPPED)
def test_nothing_that_computes_imports_it(paper):
    """A refusal that is added makes no record stale."""
    everything = [
        f"retable.papers.{paper}.{path.stem}.X"
        for path in (PAPERS / paper).glob("*.py")
        if path.stem not in {"__init__", "refusals"}
    ]
    assert f"retable.papers.{paper}.refusals" not in modules_of(everything)


@pytest.mark.parametrize("paper", SHIPPED)
def test_it_imports_nothing_heavy(paper):
    code = (
        f"import retable.papers.{paper}.refusals, sys;"
        "print(sorted({'torch', 'numpy', 'scipy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_said_by_every_command_with_the_place(tmp_path, retable):
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    (extra / "papers/digits/refusals.py").write_text(REFUSES)
    options = ("experiment=digits/base", "seed=0", "model.hidden=100000")
    for command in (("train", *options), ("show", *options)):
        done = retable(*command, code=2, RETABLE_EXTRA=extra)
        assert done.stderr.strip() == (
            "error: model.hidden: 100000 is above data.batch_size (override 'model.hidden=100000')"
        )
    assert not [*tmp_path.glob("**/config.yaml")]
    (extra / "papers/digits/refusals.py").write_text('"""Nothing yet."""\n')
    done = retable("show", *options, code=2, RETABLE_EXTRA=extra)
    assert "refusals.py: has no function refuse(run)" in done.stderr
