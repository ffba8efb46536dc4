"""Options that would train something else than they say, refused before anything is launched."""

from __future__ import annotations

import pytest

from retable.papers.peft_debias import encoder, patches, refusals
from retable.util.errors import UserError
from support.training import config

FT, UP, DOWN = (f"peft_debias/r0_smoke_{name}" for name in ("ft", "upstream", "downstream"))
SFT = ["model.trained=sft", "+model.sft_rewind=1"]


def child(*overrides, **parent):
    own = ",".join(f'"model.{name}={value}"' for name, value in parent.items())
    return [*overrides, f"start.run.overrides=[{own}]"]


@pytest.mark.parametrize(
    ("experiment", "overrides", "said"),
    [
        (
            DOWN,
            child("+model.patch=lora", trained="lora", alpha=16),
            r"alpha: None, but .* with 16\.0",
        ),
        (
            DOWN,
            child("+model.patch=lora", "+model.alpha=64", trained="lora"),
            r"alpha: 64\.0, but .* with None",
        ),
        (
            DOWN,
            child("+model.patch=adapter", "+model.adapter_reads=dense", trained="adapter"),
            "adapter_reads: dense, but",
        ),
        (DOWN, ["+model.patch=lora"], "patch: lora, but the run .* has none"),
        (DOWN, child(trained="lora"), "patch: none, but the run .* has lora"),
        (DOWN, child("+model.patch=sft", trained="lora"), "patch: sft, but the run .* has lora"),
        (UP, ["model.trained=adapter", "+model.alpha=16"], r"alpha: 16\.0 has no effect"),
        (UP, ["+model.patch_size=4"], "patch_size: 4 has no effect with model.trained=all"),
        (UP, ["model.trained=lora", "+model.adapter_reads=dense"], "adapter_reads: dense has no"),
        (UP, ["model.trained=lora", "+model.sft_share=0.5"], "sft_share: 0.5 has no effect"),
        (UP, [*SFT, "model.optimizer._target_=torch.optim.ASGD"], "ASGD may move weights"),
        (UP, ["model.trained=sft", "+model.sft_rewind=50"], "sft_rewind: 50, after which"),
        (FT, ["data.max_length=65"], "network tiny has 64 positions"),
        ("peft_debias/ghc", ["model.class_weights=[1,-10]"], "0 or more each"),
        ("peft_debias/ghc", ["model.class_weights=[0,0]"], "some of them above 0"),
    ],
)
def test_refused(experiment, overrides, said):
    given = [
        text if text.startswith(("start", "model.trained")) else _added(text) for text in overrides
    ]
    with pytest.raises(UserError, match=said):
        config(*given, experiment=experiment)


def _added(text):
    return f"++{text.lstrip('+')}"


def test_a_patch_begins_at_one_that_is_not_debiased():
    again = ["start.run.experiment=peft_debias/r0_smoke_upstream", "start.run.differs=[]"]
    with pytest.raises(UserError, match="has trained lora already"):
        config("model.trained=lora", *child(*again, trained="lora"), experiment=UP)


@pytest.mark.parametrize("kind", refusals.PATCHES)
def test_a_patch_of_the_same_options_is_taken(kind):
    config(*child(f"++model.patch={kind}", trained=kind), experiment=DOWN)
    config(
        *child(f"++model.patch={kind}", "++model.patch_size=4", trained=kind, patch_size=4),
        experiment=DOWN,
    )


def test_what_it_knows_is_what_the_code_has():
    assert {n: sizes.positions for n, sizes in encoder.NETWORKS.items()} == refusals.POSITIONS
    assert set(refusals.PATCHES) == set(patches.Kind.__args__)
