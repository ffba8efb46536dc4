"""The shipped experiments against the paper's protocol, and their networks at full size."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.tables import spec
from retable.training.execute import Context, build, execute

MIRROR = os.environ.get("RETABLE_MIRROR")


@functools.cache
def composed(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=equilibrium_prop/{name}", "seed=0", *overrides])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "epochs", "steps"),
    [
        ("mlp_sgd", "SGD", 0.01, 50, (150, 20)),
        ("mlp_adam", "AdamW", 1e-4, 50, (150, 20)),
        ("mlp_online", "SGD", 0.01, 50, (1200, 60)),
        ("loop", "SGD", 0.01, 50, (150, 20)),
        ("conv", "SGD", 0.007, 150, (250, 40)),
        ("conv_cifar100", "SGD", 0.007, 150, (250, 40)),
        ("conv_fig4", "SGD", 0.005, 90, (250, 40)),
        ("conv_fig4_cifar100", "SGD", 0.005, 90, (250, 40)),
        ("imagenet32", "SGD", 0.005, 90, (250, 40)),
    ],
)
def test_the_papers_protocol(name, optimizer, lr, epochs, steps):
    config = composed(name)
    model, given = config.model, config.model["optimizer"]
    assert config.protocol == "paper"
    assert config.best_epoch is None
    assert given["_target_"] == f"torch.optim.{optimizer}"
    assert given["lr"] == lr
    assert given.get("momentum") == (0.9 if optimizer == "SGD" else None)
    assert config.trainer.max_epochs == epochs
    assert (model["free_steps"], model["nudged_steps"]) == steps
    assert config.data.get("n_validation", 0) == 0
    assert model.get("stop") is None
    convolutions = "Conv" in model["net"]["_target_"]
    assert config.data["batch_size"] == (256 if convolutions else 50)
    assert given.get("weight_decay", 0) == (1e-4 if convolutions else 0)
    if convolutions:
        images = {"imagenet32": 1_281_167}.get(name, 50_000)
        assert model["scheduler"]["T_max"] == images // 256 * epochs
        assert (model["readout_rate"], model["readout_decay"]) == (5.0, 2.0)
        assert model["net"]["rate_factors"] == [25.0, 15.0, 10.0, 8.0]
        assert model["n_classes"] == {"imagenet32": 1000}.get(name, 100 if "100" in name else 10)


def test_the_online_variant_has_five_turns_of_the_free_phases_length():
    model = composed("mlp_online").model
    assert model["turns"] * model["points"] == 1200 // 60


@pytest.mark.parametrize("name", ["digits", "digits_loop", "digits_online", "conv_reduced"])
def test_reduced_protocols_are_never_shown_as_the_papers(name):
    assert composed(name).protocol == "reduced"
    assert composed("mlp_middle").protocol == "middle"


def test_middle_differs_in_the_epochs_alone():
    one, other = (composed(n).model_dump(mode="json") for n in ("mlp_middle", "mlp_adam"))
    assert one["trainer"].pop("max_epochs") * 5 == other["trainer"].pop("max_epochs")
    assert {k for k in one if one[k] != other[k]} <= {"protocol", "experiment", "paths"}


def test_the_convolutional_network_at_full_size():
    _, module = build(composed("conv").model_dump(mode="json"))
    kernels = 128 * 256 * 9 + 256 * 512 * 9 + 512 * 512 * 9
    count = {name: p.numel() for name, p in module.named_parameters()}
    assert sum(n for name, n in count.items() if name.startswith("net.up")) == kernels
    assert sum(n for name, n in count.items() if name.startswith("net.down")) == kernels
    assert count["readout.weight"] == 5120
    rates = sorted({round(group["lr"], 6) for group in module.optimized()})
    assert rates == [0.035, 0.056, 0.07, 0.105, 0.175]


def test_no_reported_number_is_shown_as_the_papers_own_text():
    grades = {
        name: {c.grade for row in spec.load(name).reported.values() for c in row.values()}
        for name in ("equilibrium_prop/table1", "equilibrium_prop/table2")
    }
    assert set().union(*grades.values()) == {"secondhand"}
    assert not spec.load("equilibrium_prop/symmetric_peer").source.own
    assert not spec.load("equilibrium_prop/derivative_error").source.own


@pytest.mark.slow
def test_digits_train_and_homeostasis_makes_the_jacobian_symmetric(tmp_path):
    pytest.importorskip("sklearn")
    found = {}
    for coefficient in (0.0, 1.0):
        given = ["model.net.angle=90", f"model.homeostasis={coefficient}", "trainer.max_epochs=4"]
        config = composed("digits", *given).model_dump(mode="json")
        outcome = execute(config, Context(tmp_path / str(coefficient)))
        found[coefficient] = {r.metric: r.value for r in outcome.results}
    assert found[1.0]["test/error"] < 0.8
    assert found[1.0]["test/error"] == pytest.approx(1 - found[1.0]["test/accuracy"])
    assert found[1.0]["weights/symmetry"] > found[0.0]["weights/symmetry"] + 0.05
    assert found[1.0]["converged/l1"] > found[0.0]["converged/l1"]


@pytest.mark.slow  # decodes Fashion-MNIST
def test_real_images_in_batches_of_the_paper(tmp_path, cached_once):
    if MIRROR is None or not (Path(MIRROR) / "zalando-datasets").is_dir():
        pytest.skip("needs the real data: set RETABLE_MIRROR")
    given = [f"paths.mirror={MIRROR}", "trainer.max_epochs=1", "trainer.limit_train_batches=40"]
    config = composed("mlp_adam", *given, "model.free_steps=30").model_dump(mode="json")
    data, _ = build(config)
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert len(data.train_dataloader()) == 1200
    assert images.shape == (50, 1, 28, 28)
    assert (float(images.min()), float(images.max())) == (0, 1)
    assert torch.bincount(labels).sum() == 50
    outcome = execute(config, Context(tmp_path))
    found = {r.metric: r.value for r in outcome.results}
    assert found["test/accuracy"] < 1
    assert found["weights/symmetry"] > 0.5
