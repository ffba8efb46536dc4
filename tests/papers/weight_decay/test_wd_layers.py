"""Rates that follow the norm of each weight by itself."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.nets.gpt import GPT
from retable.papers.weight_decay.layers import LayerwiseModel
from retable.training.checkpointing import find_resume
from retable.training.start import Start
from retable.util.errors import UserError
from support.training import IDENTITY, attempt, config, stopped, substance

LAYERS = "weight_decay/lm_smoke_layers"


def model(**options):
    torch.manual_seed(0)
    net = GPT(vocabulary=7, context=5, layers=1, heads=2, width=8)
    adamw = partial(torch.optim.AdamW, betas=(0.9, 0.95))
    return LayerwiseModel(seed=0, net=net, lr=0.01, optimizer=adamw, **options)


@pytest.mark.parametrize("match_rest", [False, True])
def test_each_weight_has_its_own_rate(match_rest):
    module = model(match=True, match_rest=match_rest)
    weights = module.decayed()
    layers = torch.rand(2, len(weights)) + 1
    norms = {"norm": torch.tensor([2.0, 4.0]), "rate": torch.tensor([0.0, 0.3])}
    start = {"norms": norms, "layers": {"norm": layers, "rate": norms["rate"]}}
    module.take_start(SimpleNamespace(artifacts=start, weights={}))
    module._trainer, module._fabric = SimpleNamespace(global_step=1), None
    optimizer = module.configure_optimizers()
    *each, rest = optimizer.param_groups
    assert [group["params"] for group in each] == [[weight] for weight in weights]
    module.on_before_optimizer_step(optimizer)
    own = [float(weight.detach().norm()) for weight in weights]
    wanted = [0.3 * a / float(b) for a, b in zip(own, layers[1], strict=True)]
    assert [group["lr"] for group in each] == pytest.approx(wanted)
    whole = sum(size**2 for size in own) ** 0.5
    assert rest["lr"] == pytest.approx(0.3 * whole / 4.0 if match_rest else 0.3)
    assert module.layers.gather()["norm"][0].tolist() == pytest.approx(own)
    assert module.norms.gather()["norm"].tolist() == pytest.approx([whole])


def test_what_it_cannot_follow():
    norms = {"norm": torch.ones(3), "rate": torch.ones(3)}
    with pytest.raises(UserError, match=r"has left no artefact 'layers' \(left: \['norms'\]\)"):
        model(match=True).take_start(SimpleNamespace(artifacts={"norms": norms}, weights={}))
    other = {"norms": norms, "layers": {"norm": torch.ones(3, 2)}}
    with pytest.raises(UserError, match=r"has 6 weights that are decayed, the run .* 2; give"):
        model(match=True).take_start(SimpleNamespace(artifacts=other, weights={}))
    with (
        hydra_ready(),
        pytest.raises(UserError, match=r"LanguageModel, which does not leave the norm of each"),
    ):
        compose([
            f"experiment={LAYERS}_match", "seed=0",
            "start.run.experiment=weight_decay/lm_smoke",
        ])  # fmt: skip


@pytest.mark.slow
def test_it_trains_as_the_other_model_and_a_child_follows_each_norm(tmp_path):
    """The same numbers as with one group; a child that is stopped goes on to the bit."""
    decayed = "model.decay=20"
    plain, _, _ = attempt(config(decayed, experiment="weight_decay/lm_smoke"), tmp_path / "plain")
    parent, _, _ = attempt(config(decayed, experiment=LAYERS), tmp_path / "parent")
    assert len(parent.history) == len(plain.history)
    for mine, other in zip(parent.history, plain.history, strict=True):
        assert mine == pytest.approx(other, rel=1e-5)
    layers = parent.artifacts["layers"]
    together = layers["norm"].square().sum(1).sqrt()
    torch.testing.assert_close(together, parent.artifacts["norms"]["norm"], rtol=1e-5, atol=0)
    found = find_resume([tmp_path / "parent"], IDENTITY, pytest.fail)
    start = Start(found.weights, parent.artifacts, found.history)
    child = config(experiment=f"{LAYERS}_match")
    whole, _, _ = attempt(child, tmp_path / "whole", start=start)
    assert whole.artifacts["layers"]["rate"].equal(layers["rate"])
    assert float(whole.artifacts["norms"]["norm"][-1]) > float(together[-1])
    folders = stopped(child, tmp_path, [1, 2], start=start)
    again, _, _ = attempt(child, tmp_path / "rest", previous=folders, start=start)
    assert substance(again) == substance(whole)
    for name, arrays in whole.artifacts.items():
        assert all(array.equal(again.artifacts[name][key]) for key, array in arrays.items())
