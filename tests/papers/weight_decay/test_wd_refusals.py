"""Options that would train something else than they say: each is refused, with its key."""

from __future__ import annotations

import pytest

from retable.util.errors import UserError
from support.training import config

VISION, LANGUAGE = "weight_decay/smoke", "weight_decay/lm_smoke"
MATCH = "weight_decay/lm_smoke_match"
OFF = "weight_decay/reduced_off"


@pytest.mark.parametrize(
    ("experiment", "override", "said"),
    [
        (LANGUAGE, "+model.optimizer.weight_decay=0.5", "weight_decay: is set by model.decay"),
        (LANGUAGE, "+model.optimizer.lr=0.5", "optimizer.lr: is set by model.lr"),
        (LANGUAGE, "model.min_lr=0.1", "min_lr: 0.1 is above model.lr, 0.006"),
        (LANGUAGE, "+model.match=true", "no run whose rates to match"),
        (LANGUAGE, "+model.snapshot=0.5", "starts from none"),
        (MATCH, "model.lr=0.5", "lr: differs from that of the run whose rates are matched"),
        (MATCH, "model.warmup=0", "warmup: differs"),
        (MATCH, "model.min_lr=null", "min_lr: differs"),
        (MATCH, "model.decay_on=all", "decay_on: differs"),
        (MATCH, "model.net.width=16", "net: differs"),
        (VISION, "+model.snapshot=0.5", "starts from none"),
        (OFF, "model.snapshot=0.254", r"0\.254 is no whole number .* nearest is 0\.25"),
        (VISION, "trainer.accumulate_grad_batches=2", "taken after every batch"),
        (VISION, "model.optimizer.rates.small=0", r"rates\.small: has to be above 0, not 0"),
        (VISION, "model.scheduler.rate=-1", r"scheduler\.rate: has to be above 0, not -1"),
        (VISION, "model.scheduler.rate=5", r"scheduler\.rate: 5 is above the rate before"),
        (VISION, "+model.scheduler_interval=step", "OneDrop counts epochs"),
        (VISION, "data.preprocess.mean=[0.5]", "3 values, and mean has 1"),
        (VISION, "data.preprocess.std=[0.2,0,0.2]", "std: has to be above 0, not 0"),
    ],
)
def test_refused(experiment, override, said):
    with pytest.raises(UserError, match=said):
        config(override, experiment=experiment)


def test_what_is_meant_is_taken():
    config("model.min_lr=0.006", experiment=LANGUAGE)
    config("model.scheduler.rate=0.2", experiment=VISION)
    config("model.snapshot=0.29", experiment=OFF)  # 100 * 0.29 is not 29 in floating point
