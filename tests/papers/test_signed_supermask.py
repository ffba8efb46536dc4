"""The shipped experiments against the paper's protocol: sizes of all networks, rates, schedules."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.signed_supermask.masks import mask_of, weighted
from retable.training.execute import Context, build, execute

MIRROR = os.environ.get("RETABLE_MIRROR")


@functools.cache
def composed(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=signed_supermask/{name}", "seed=0", *overrides])


def built(name, *overrides):
    return build(composed(name, *overrides).model_dump(mode="json"))[1]


@pytest.mark.parametrize(
    ("name", "options", "n", "layers"),
    [
        ("mnist", [], 266_200, 3),
        ("conv", ["model.net.n_convolutions=2"], 4_300_992, 5),
        ("conv", ["model.net.n_convolutions=4"], 2_425_024, 7),
        ("conv", ["model.net.n_convolutions=6"], 2_261_184, 9),
        ("conv", ["model.net.n_convolutions=8"], 5_275_840, 11),
        ("resnet", [], 248_624, 23),
    ],
)
def test_masked_weights_are_as_many_as_printed(name, options, n, layers):
    """A bias or a trained norm left in would be one more tensor that is trained."""
    module = built(name, *options)
    trained = [p for p in module.parameters() if p.requires_grad]
    assert (module.n_weights, sum(p.numel() for p in trained)) == (n, n)
    assert len(trained) == len(module.layers) == layers
    share = sum(float(mask_of(layer).abs().sum()) for layer in module.layers) / n
    expected = 1 - composed(name).model["mask"]["share"]  # scores are uniform
    assert share == pytest.approx(expected, abs=0.01)


def test_the_baseline_trains_norms_of_a_resnet_too():
    module = built("resnet_trained")
    assert sum(p.numel() for p in module.parameters()) > module.n_weights == 248_624
    assert len(weighted(module.net)) == 23
    assert module.layers == []


@pytest.mark.parametrize(
    ("name", "rate", "decay", "epochs", "steps"),
    [
        ("mnist", 0.05, 5e-4, 100, 469),
        ("mnist_trained", 0.01, 5e-4, 50, 469),
        ("conv", 0.05, 5e-4, 100, 391),
        ("conv_trained", 0.01, 7e-4, 50, 391),
        ("resnet", 0.3, 3e-4, 110, 391),
        ("resnet_trained", 0.3, 3e-4, 80, 391),
        ("resnet_cifar100_trained", 0.15, 1e-4, 7 * 90, 391),
    ],
)
def test_the_papers_protocol(name, rate, decay, epochs, steps):
    config = composed(name)
    optimizer, schedule = config.model["optimizer"], config.model["scheduler"]
    assert (optimizer["lr"], optimizer["weight_decay"]) == (rate, decay)
    assert (optimizer["momentum"], optimizer["nesterov"]) == (0.9, True)
    assert optimizer["times_lr"] is False
    assert config.trainer.max_epochs == epochs
    data = config.data
    assert (data["batch_size"], data["n_validation"], data["drop_last"]) == (128, 0, False)
    assert steps == -(-(60_000 if steps == 469 else 50_000) // 128)
    assert schedule.get("steps_per_epoch") is None  # as many as there are
    assert (config.protocol, config.best_epoch) == ("paper", None)


def test_reduced_protocols_are_never_shown_as_the_papers():
    for name in ("mnist_reduced", "conv_reduced"):
        for method in ("", "_trained", "_zhou", "_edge_popup"):
            assert composed(name + method).protocol == "reduced"


@pytest.mark.slow  # decodes MNIST
def test_real_images_in_batches_as_the_schedule_says(tmp_path, cached_once):
    if MIRROR is None or not (Path(MIRROR) / "ylecun").is_dir():
        pytest.skip("needs the real data: set RETABLE_MIRROR")
    steps = ["trainer.max_epochs=1", "trainer.limit_train_batches=20"]
    config = composed("mnist", f"paths.mirror={MIRROR}", *steps).model_dump(mode="json")
    data, _ = build(config)
    data.setup("fit")
    assert len(data.train_dataloader()) == 469
    images = data.train[0].flatten(1)
    torch.testing.assert_close(images.mean(1), torch.zeros(60_000), atol=1e-4, rtol=0)
    outcome = execute(config, Context(tmp_path))
    found = {r.metric: r.value for r in outcome.results if r.step is None}
    assert found["test/accuracy"] > 0.5
    assert found["weights/parameters"] == 266_200
