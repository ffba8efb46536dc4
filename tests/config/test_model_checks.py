"""Options of a model that its class would take and nothing would read."""

from __future__ import annotations

import pytest

from retable.config.compose import compose, hydra_ready
from retable.config.model_checks import check_schedule
from retable.config.signatures import owner
from retable.config.targets import definition
from retable.util.errors import UserError

START = ["experiment=digits/base", "seed=0"]
OF_TORCH = "model.scheduler={_partial_: true, _target_: torch.optim.lr_scheduler."
COSINE = f"{OF_TORCH}CosineAnnealingLR, T_max: 4}}"
PLATEAU = f"{OF_TORCH}ReduceLROnPlateau}}"
BY_STEP = "model.scheduler_interval=step"
WATCHED = "model.scheduler_monitor=val/accuracy"


@pytest.fixture(autouse=True)
def _hydra():
    with hydra_ready():
        yield


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([BY_STEP], r"model.scheduler_interval: is step.*: model.scheduler is null; leave it out"),
        ([BY_STEP, "model.scheduler=null"], r"model.scheduler_interval: .*is null.*override '"),
        ([WATCHED], r"model.scheduler_monitor: is val/accuracy, and nothing reads it"),
        ([COSINE, WATCHED], r"CosineAnnealingLR follows no metric, ReduceLROnPlateau alone does"),
    ],
)
def test_an_option_of_a_schedule_that_nothing_reads_is_refused(overrides, said):
    with pytest.raises(UserError, match=said):
        compose([*START, *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.scheduler_interval=epoch", "model.scheduler_monitor=val/loss"],  # what they are
        [COSINE, BY_STEP],
        [PLATEAU, WATCHED],
    ],
)
def test_one_that_is_read_or_changes_nothing_is_taken(overrides):
    compose([*START, *overrides])


def test_a_class_that_builds_its_optimisers_may_read_them_itself():
    below = "retable.papers.subtuning.module_search.Search"
    defines = "retable.papers.subtuning.module_base.OnAllImages"
    assert owner(definition(below, "model"), "configure_optimizers") == defines
    assert owner(definition(below, "model"), "no_such_method") is None
    check_schedule({"_target_": below, "scheduler_interval": "step"})
    plain = "retable.papers.subtuning.module.FineTune"
    with pytest.raises(UserError, match=r"model.scheduler is null"):
        check_schedule({"_target_": plain, "scheduler_interval": "step"})
