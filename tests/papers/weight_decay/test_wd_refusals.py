"""Options that would train something else than they say: each is refused, with its key."""

from __future__ import annotations

import pytest

from retable.util.errors import UserError
from support.training import config

VISION, LANGUAGE = "weight_decay/smoke", "weight_decay/lm_smoke"
MATCH = "weight_decay/lm_smoke_match"
TINY = "weight_decay/lm_smoke_tiny"
OFF, REDUCED = "weight_decay/reduced_off", "weight_decay/reduced"
CONST, CONST_TINY = "weight_decay/lm_smoke_const", "weight_decay/lm_smoke_const_tiny"
SPHERE = "weight_decay/smoke_sphere"
ADAM = "model.optimizer={_target_: torch.optim.Adam, _partial_: true}"


@pytest.mark.parametrize(
    ("experiment", "override", "said"),
    [
        (LANGUAGE, "+model.optimizer.weight_decay=0.5", "weight_decay: is set by model.decay"),
        (LANGUAGE, "+model.optimizer.lr=0.5", "optimizer.lr: is set by model.lr"),
        (LANGUAGE, "model.min_lr=0.1", "min_lr: 0.1 is above model.lr, 0.006"),
        (LANGUAGE, "+model.match=true", "no run whose rates to match"),
        (LANGUAGE, "+model.snapshot=0.5", "starts from none"),
        (MATCH, "model.decay=0.1", r"model\.decay: 0\.1, and model\.match takes the rates"),
        (MATCH, "model.l2=1e-5", r"model\.l2: 1e-05, and model\.match takes"),
        (MATCH, "model.snapshot=0.4", r"model\.snapshot: 0\.4, and model\.match takes"),
        (MATCH, "model.lr=0.5", "lr: is 0.5, and 0.006 in the run whose rates are matched"),
        (MATCH, "model.warmup=0", "warmup: is .*, and .* in the run"),
        (MATCH, "model.min_lr=null", "min_lr: is .*, and .* in the run"),
        (MATCH, "model.decay_on=all", "decay_on: is .*, and .* in the run"),
        (
            MATCH,
            "model.net.width=16",
            r"net\.width: is 16, and 8 in the run .* start\.run\.same=\[model\.net\.width\]",
        ),
        (
            MATCH,
            "model.optimizer.betas=[0.9,0.99]",
            r"betas: is \[0\.9, 0\.99\], and \[0\.9, 0\.95\] in the run",
        ),
        (
            MATCH,
            "trainer.accumulate_grad_batches=2",
            "accumulate_grad_batches: is .*, and .* in the run",
        ),
        (MATCH, "trainer.gradient_clip_val=0.5", "gradient_clip_val: is .*, and .* in the run"),
        (MATCH, "trainer.precision=bf16-mixed", "precision: is bf16-mixed, and 32-true in"),
        (MATCH, "+trainer.gradient_clip_algorithm=value", "gradient_clip_algorithm: is value"),
        (MATCH, "data.batch_size=2", "data.batch_size: is .*, and .* in the run"),
        (MATCH, "data.iterations=3", "data.iterations: is .*, and .* in the run"),
        (MATCH, "+data.stream=1", "data.stream: is .*, and .* in the run"),
        (LANGUAGE, "+model.match_rest=false", "match_rest: false says how rates are matched"),
        (LANGUAGE, "trainer.accumulate_grad_batches=3", "does not divide .* 4, .* nearest .* is 3"),
        (TINY, "data.stream=0", "whose batches it would see again; .* such as 1"),
        (VISION, "+model.snapshot=0.5", "starts from none"),
        (VISION, "+model.projected=epoch", "but nothing is projected"),
        (VISION, "+model.radius=1.0", "decay: 0.01, but model.radius fixes the norm"),
        (SPHERE, "model.optimizer.product=0.01", "product: 0.01, but model.radius fixes"),
        (SPHERE, "model.net.scale_invariant=false", "PreActResNet with scale_invariant=true"),
        (VISION, "data.batch_size=101", "no full batch; 100 at most"),
        (OFF, "model.snapshot=0.254", r"0\.254 is no whole number .* nearest is 0\.25"),
        (VISION, "trainer.accumulate_grad_batches=2", "taken after every batch"),
        (VISION, "model.optimizer.rates.small=0", r"rates\.small: has to be above 0, not 0"),
        (VISION, "model.scheduler.rate=-1", r"scheduler\.rate: has to be above 0, not -1"),
        (VISION, "model.scheduler.rate=5", r"scheduler\.rate: 5 is above the rate before"),
        (VISION, "+model.scheduler_interval=step", "OneDrop counts epochs"),
        (VISION, "data.preprocess.mean=[0.5]", "3 values, and mean has 1"),
        (VISION, "data.preprocess.std=[0.2,0,0.2]", "std: has to be above 0, not 0"),
        (VISION, "data.preprocess.pool=3", "3 does not divide .* 8 x 8; .* nearest .* is 2"),
        (REDUCED, "data.preprocess.pool=3", "3 does not divide .* 32 x 32; .* nearest .* is 2"),
        (VISION, "model.scheduler.at=4", "at: 4, but trainer.max_epochs is 4; 3 at most"),
        (VISION, "~model.scheduler.at", r"scheduler\.at: is missing; OneDrop needs it"),
        (VISION, "~model.scheduler.rate", r"scheduler\.rate: is missing; OneDrop needs it"),
        (VISION, "model.hessian_images=101", "101 of each class, but there are 100 images in all"),
        (
            VISION,
            "model.snapshots=[30]",
            "30 % of 4 epochs is no whole number; the nearest is 25 %",
        ),
        (CONST, "model.snapshots=[33]", "33 % of 5 epochs is no whole number; the nearest is 40 %"),
        (OFF, "model.snapshot=0.33", r"nothing at 33 % .*: 50 %; the nearest is 0\.5"),
        (CONST_TINY, "model.snapshot=0.33", r"33 % .*: 20 %, 40 %, .* 100 %; .* is 0\.4"),
        (LANGUAGE, "data.context=16", r"context: 16, and model\.net\.context is 8; 8 at most"),
        (MATCH, "trainer.max_epochs=6", "max_epochs: 6, and the run .* has 5; 5 at most"),
    ],
)
def test_refused(experiment, override, said):
    with pytest.raises(UserError, match=said):
        config(override, experiment=experiment)


def test_decay_that_adam_would_couple():
    with pytest.raises(UserError, match=r"decay: 0\.1, which torch\.optim\.Adam adds"):
        config("model.decay=0.1", "~model.optimizer", f"+{ADAM}", experiment=LANGUAGE)
    config("~model.optimizer", f"+{ADAM}", experiment=LANGUAGE)


def test_a_single_epoch_has_no_drop():
    single = ("trainer.max_epochs=1", "model.snapshots=[]")
    with pytest.raises(UserError, match=r"at: 2, but .* is 1; set model\.scheduler to null"):
        config(*single, experiment=VISION)
    config(*single, "model.scheduler=null", experiment=VISION)


def test_what_is_meant_is_taken():
    config("trainer.accumulate_grad_batches=2", experiment=LANGUAGE)
    meant = "+start.run.differs=[data.eval_sequences]"  # which changes nothing in the training
    config("data.eval_sequences=20", meant, experiment=MATCH)
    config("data.batch_size=101", "+data.drop_last=false", experiment=VISION)
    meant = "start.run.differs=[data.order]"  # another text, of which nothing was seen
    config("~data.stream", "data.order=1", meant, experiment=TINY)
    config("model.min_lr=0.006", experiment=LANGUAGE)
    config("model.scheduler.rate=0.2", experiment=VISION)
    kept = "+start.run.overrides=['model.snapshots=[29]','trainer.max_epochs=100']"
    config("model.snapshot=0.29", kept, experiment=OFF)  # 100 * 0.29 is not 29 in floating point
    config("trainer.max_epochs=3", experiment=MATCH)
    config("model.scheduler.at=3", experiment=VISION)
