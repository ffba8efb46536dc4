"""Settings that would give a wrong number without a word: refused, or made right."""

from __future__ import annotations

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.binary_connect.layers import BatchNorm
from retable.training.execute import Context, build, execute


def config(*overrides, experiment="binary_connect/mnist_smoke"):
    with hydra_ready():
        made = compose([f"experiment={experiment}", "seed=0", *overrides])
    return made.model_dump(mode="json")


def error(tmp_path, *overrides):
    outcome = execute(config("model.regularizer=stoch", *overrides), Context(tmp_path))
    return {r.metric: r.value for r in outcome.results}["test/error"]


def test_a_test_without_any_validation_has_statistics_too(tmp_path):
    never = ["trainer.limit_val_batches=0", "best_epoch=null", "trainer.max_epochs=4"]
    assert error(tmp_path, *never) < 0.1


def test_statistics_of_no_batch_are_refused(tmp_path):
    with pytest.raises(ValueError, match="recompute_images: is less than one batch"):
        error(tmp_path, "model.recompute_images=10")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.network=cnn"], "model.channels: a cnn needs some"),
        (
            [
                "model.regularizer=det",
                "model.rate_scaling=glorot",
                "model.optimizer={_target_: torch.optim.AdamW,_partial_: true,lr: 0.1}",
            ],
            "rates of SGD and ADAM, not of AdamW",
        ),
        (
            [
                "model.regularizer=det",
                "model.rate_scaling=glorot",
                "~model.optimizer.lr",
            ],
            "model.optimizer.lr: is needed where rates are scaled",
        ),
    ],
)
def test_settings_that_contradict_each_other(overrides, message):
    def built():
        build(config(*overrides))[1].configure_optimizers()

    with pytest.raises(ValueError, match=message):
        built()


def test_a_channel_without_variation_has_a_gradient_of_zero():
    norm = BatchNorm(2, spread="deviation").train()
    inputs = torch.stack([torch.ones(5), torch.arange(5.0)], 1).requires_grad_()
    norm(inputs).square().sum().backward()
    assert torch.isfinite(inputs.grad).all()
    assert (inputs.grad[:, 0] == 0).all()
