"""Options that would train or measure something else than they say, refused before any launch."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from retable.papers.subtuning import networks, refusals
from retable.papers.subtuning.data import CorruptedImages, Generated
from retable.papers.subtuning.module_search import Search
from retable.util.errors import UserError
from support.training import config

SMOKE, SEARCH, LATENCY = (f"subtuning/smoke{name}" for name in ("", "_search", "_latency"))
PROFILE, H2T, VIT = (
    f"subtuning/{name}" for name in ("smoke_profile", "smoke_head2toe", "vtab_vit")
)
CROPS = "{_target_: retable.papers.subtuning.augment.ResizedCropFlip,size: 8}"


@pytest.mark.parametrize(
    ("experiment", "overrides", "said"),
    [
        (SMOKE, ["data.batch_size=100", "+data.drop_last=true"], "no full batch of 100"),
        (SEARCH, ["data.batch_size=5"], "data.batch_size: 5, but .* of model.batch_size"),
        (SEARCH, ["+data.drop_last=true"], "keep a last batch"),
        (SEARCH, ["model.eps=1"], "one point is 0.01"),
        ("subtuning/smoke_active", ["data.batch_size=5"], "of model.batch_size"),
        ("subtuning/smoke_active", ["model.budgets=[]"], "budgets: is empty"),
        ("subtuning/smoke_head2toe", ["+data.augment=pad_crop_flip"], "sees every image once"),
        (SMOKE, [f"data.augment={CROPS}"], "augment.size: 8, but images are tested at 32"),
        ("subtuning/vtab_resnet50", ["data.size=128"], "224, but images are tested at 128"),
        (SMOKE, ["model.n_classes=5"], "n_classes: 5, but the data has 10"),
        ("subtuning/coarse", ["model.n_classes=100"], "n_classes: 100, but the data has 20"),
        ("subtuning/vtab_vit", ["data.dataset=dmlab"], "n_classes: 100, but the data has 6"),
        (SMOKE, ["model.blocks=[1,1]"], "has a block twice"),
        (SMOKE, ["model.blocks=found"], "give start.run"),
        (SMOKE, ["model.blocks=none", "+model.rank=4"], "rank: is for blocks that are tuned"),
        (SMOKE, ["model.blocks=none", "+model.reinitialised=true"], "reinitialised: is for"),
        (SMOKE, ["+model.reinitialised=true", "+model.batch_norm=eval"], "statistics 0 and 1"),
        (SMOKE, ["model.blocks=[]", "+model.rank=4"], "rank: is for blocks that are tuned"),
        (
            VIT,
            ["+model.rank=4", "+model.reinitialised=true"],
            "rank: 4, but LoRA keeps .* model.reinitialised has drawn .* leave one of the two",
        ),
        (SMOKE, ["model.blocks=none", "+model.siamese=true"], "siamese: .*nothing of it is tuned"),
        (SMOKE, ["model.blocks=[]", "+model.siamese=true"], "siamese: .*nothing of it is tuned"),
        (VIT, ["model.blocks=stage1"], "blocks: stage1, but vit_b_16 has no stages; give numbers"),
        (VIT, ["+model.batch_norm=eval"], "batch_norm: 'eval', but vit_b_16 has no batch norm"),
        (f"{VIT}_search", ["+model.batch_norm=eval"], "vit_b_16 has no batch norm; leave it out"),
        (
            "subtuning/smoke_first",
            ["model.network=vit_tiny", "+model.batch_norm=eval"],
            "vit_tiny has no batch norm",
        ),
        ("subtuning/smoke_first", ["start=null"], "start.run: the first picks are those of a sea"),
        ("subtuning/cifar10c_files", ["data.corruption=none"], "corruption: 'none' has no file"),
        (PROFILE, ["+model.rule=gain"], "rule: gain, but only a greedy .* set it to patience"),
        (PROFILE, ["+model.eps=0.02"], "eps: 0.02, but only a greedy .* set it to 0.01"),
        (
            f"{VIT}_search",
            ["model.sets=pairs"],
            "direction: backward, but only .* model.sets is pairs; .* set it to forward",
        ),
        (H2T, ["trainer.max_epochs=2"], "max_epochs: 2, but Head2Toe fits .* set it to 1"),
        (SEARCH, ["model.scheduler.T_max=${trainer.max_epochs}"], "T_max: 8 is .*model.epochs, 2;"),
        (
            "subtuning/active_coarse",
            ["model.scheduler.T_max=${trainer.max_epochs}"],
            "T_max: 3 is trainer.max_epochs, but .*model.epochs, 20; set it to .{model.epochs}",
        ),
        (SMOKE, ["+data.severity=3"], "severity: 3, but data.corruption is 'none'; name a corr"),
        (
            "subtuning/reduced_search",
            ["data.corruption=none", "data.severity=1"],
            "severity: 1, but data.corruption is 'none'",
        ),
        (LATENCY, ["+model.windows=[]"], "numbers of neighbouring blocks"),
        (LATENCY, ["+model.windows=[0]"], "from 1 to the 3 of resnet8"),
        (LATENCY, ["+model.windows=[1,4]"], "from 1 to the 3 of resnet8"),
        (LATENCY, ["+model.windows=[1,1]"], "each once"),
        (LATENCY, ["model.network=vit_tiny"], "two tasks share a ResNet"),
    ],
)
def test_refused(experiment, overrides, said):
    with pytest.raises(UserError, match=said):
        config(*overrides, experiment=experiment)


@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        (SMOKE, ["model.blocks=none", "+model.stem=true", "+model.siamese=true"]),
        (SMOKE, ["model.blocks=none", "+model.batch_norm=eval"]),  # a sweep's first point
        (SMOKE, ["model.blocks=stage1", "model.head=frozen", "+model.batch_norm=eval"]),
        (SMOKE, ["model.blocks=none"]),
        (VIT, ["+model.rank=8"]),
        (VIT, ["model.blocks=[1,2]", "+model.reinitialised=true"]),
        ("subtuning/smoke_rgn", ["model.network=vit_tiny"]),
        ("subtuning/reduced_profile", []),
        ("subtuning/cifar10_resnet50_profile", ["model.sets=pairs"]),
        (f"{VIT}_search", []),
        (f"{VIT}_search", ["model.sets=singles", "model.direction=forward"]),
        (SEARCH, ["model.scheduler.T_max=4"]),
        (SMOKE, ["model.scheduler.T_max=4"]),
        (SMOKE, ["+data.corruption=pixelate", "+data.severity=3"]),
        ("subtuning/reduced", ["data.corruption=none"]),
        (f"{VIT}_head2toe", []),
    ],
)
def test_what_is_near_to_it_is_not_refused(experiment, overrides):
    assert config(*overrides, experiment=experiment)["paper"] == "subtuning"


def test_the_defaults_it_knows_are_those_of_the_classes():
    own = inspect.signature(Search).parameters
    assert {name: own[name].default for name in refusals.GREEDY} == refusals.GREEDY
    for kind in (CorruptedImages, Generated):
        assert inspect.signature(kind).parameters["severity"].default == refusals.SEVERITY


def test_the_blocks_it_knows_are_those_of_the_networks():
    resnets = [name for name in get_args(networks.Name) if name.startswith("resnet")]
    assert sorted(refusals.BLOCKS) == sorted(resnets)
    for name in resnets:
        assert len(networks.network(name, 2)) == refusals.BLOCKS[name]


def test_rates_end_where_trainings_do():
    """A cosine that is longer never falls, one that is shorter rises again."""
    assert config("trainer.max_epochs=6", experiment=SMOKE)["model"]["scheduler"]["T_max"] == 6
    assert config("model.epochs=5", experiment=SEARCH)["model"]["scheduler"]["T_max"] == 5


@pytest.mark.parametrize("name", ["resnet50", "vit"])
@pytest.mark.parametrize("kind", ["", "_search", "_found", "_head2toe"])
def test_all_of_vtab_s_thousand_images_are_trained_on(name, kind):
    whole = config(experiment=f"subtuning/vtab_{name}{kind}")
    assert whole["data"]["n_validation"] == 0
    if kind == "_search":
        assert (whole["model"]["score"], whole["model"]["folds"]) == ("folds", 5)
