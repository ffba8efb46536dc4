"""What the paper's numbers follow from: trainings of a search, updates, and shipped recipes."""

from __future__ import annotations

import functools
import itertools

import pytest

from retable.config.compose import compose, hydra_ready
from retable.papers.subtuning import networks, search


@functools.cache
def composed(name):
    with hydra_ready():
        made = compose([f"experiment=subtuning/{name}", "seed=0"])
    return made.model_dump(mode="json")


def rising(best):
    """A score that each block of ``best`` makes better in turn, and any other worse by far."""
    return lambda blocks: 0.1 * sum(i in best for i in blocks) - sum(i not in best for i in blocks)


def by_size(asked, blocks):
    asked.add(blocks)
    return 0.01 * len(blocks)


def test_a_greedy_search_of_three_blocks_of_16_is_295_trainings():
    """16 + 15 + 14 and the 13 that end it, with linear probing before them, times five folds."""
    asked = []

    def score(blocks):
        asked.append(blocks)
        return 0.5 + rising({2, 7, 13})(blocks)

    found = search.greedy(16, score, "patience")
    assert found.chosen == (2, 7, 13)
    assert len({*asked}) == 16 + 15 + 14 + 13 + 1
    assert 5 * len({*asked}) == 295
    asked.clear()
    assert search.greedy(16, score, "gain").chosen == (2, 7, 13)
    assert len({*asked}) == 58, "Algorithm 1 has no linear probing"


def test_exhaustive_pairs_are_quadratic_and_the_greedy_search_is_never_more_than_its_bound():
    assert len(search.ordered("pairs", 16)) == 120
    for n in (3, 9, 12, 16):
        asked: set[search.Set] = set()
        found = search.greedy(n, functools.partial(by_size, asked), "patience")
        assert found.chosen == tuple(range(n))
        assert len(asked) == search.most(n) - 1  # a forward search meets both ends in one


@pytest.mark.parametrize(
    ("name", "sizes", "stem"),
    [
        ("resnet20", [4672] * 3 + [13952] + [18560] * 2 + [55552] + [73984] * 2, 464),
        (
            "resnet50",
            [75008, 70400, 70400, 379392, *[280064] * 3, 1512448, *[1117184] * 5, 6039552]
            + [4462592] * 2,
            9536,
        ),
    ],
)
def test_blocks_have_the_parameters_that_the_paper_counts(name, sizes, stem):
    net = networks.network(name, 10)
    assert [sum(p.numel() for p in block.parameters()) for block in net.blocks] == sizes
    assert sum(p.numel() for p in net.stem.parameters()) == stem
    assert [sizes[i] for i in itertools.chain(*networks.stages(name))] == sizes


def test_the_recipe_of_vtab_is_the_scripts():
    """800 images are four updates an epoch, all thousand too: batches of 256, the last kept."""
    config = composed("vtab_resnet50")
    model, data = config["model"], config["data"]
    optimizer, scheduler = model["optimizer"], model["scheduler"]
    assert optimizer["_target_"] == "torch.optim.AdamW"
    assert (optimizer["lr"], optimizer["weight_decay"]) == (1e-3, 0.01)
    assert scheduler["T_max"] == config["trainer"]["max_epochs"] == 20
    assert model.get("scheduler_interval", "epoch") == "epoch"
    assert (model["head"], model.get("batch_norm", "train")) == ("new", "train")
    assert {-(-n // data["batch_size"]) for n in (800, 1000)} == {4}


def same_training(run, sets):
    """The same weights, recipe and head; as many epochs and as large batches."""
    model, scored = run["model"], sets["model"]
    assert run["start"] == sets["start"]
    shared = {k for k in model if k in scored} - {"_target_"}
    assert {"network", "n_classes", "head", "optimizer"} <= shared
    assert {k: model[k] for k in shared} == {k: scored[k] for k in shared}
    assert scored["epochs"] == run["trainer"]["max_epochs"]
    assert scored["batch_size"] == run["data"]["batch_size"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vtab_resnet50", "vtab_vit", "cifar10c", "reduced", "coarse", "cifar10_resnet50"]
)
def test_a_search_trains_as_the_run_does_that_takes_its_set(name):
    """The same data too; the epochs of the search are enough to end it."""
    run, found, search_ = (composed(f"{name}{part}") for part in ("", "_found", "_search"))
    assert run["data"] == found["data"] == search_["data"]
    same_training(run, search_)
    assert found["start"]["run"]["experiment"] == f"subtuning/{name}_search"
    assert found["model"] == {**run["model"], "blocks": "found"}
    n_blocks = sum(map(len, networks.stages(run["model"]["network"])))
    assert search_["trainer"]["max_epochs"] == search.most(n_blocks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reduced", "coarse", "cifar10_resnet50"])
def test_a_profile_trains_as_a_run_with_its_block(name):
    """Epochs of the run are enough for all pairs; images that score are those not trained on."""
    run, profile = composed(name), composed(f"{name}_profile")
    same_training(run, profile)
    held_out = {"n_validation": None}
    assert {**run["data"], **held_out} == {**profile["data"], **held_out}
    assert profile["model"]["score"] == "validation"
    assert profile["data"]["n_validation"] >= 1000
    n_blocks = sum(map(len, networks.stages(run["model"]["network"])))
    assert profile["trainer"]["max_epochs"] >= len(search.fixed("pairs", n_blocks))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reduced", "cifar10c"])
def test_first_picks_train_as_the_run_that_takes_the_whole_set(name):
    found, first = composed(f"{name}_found"), composed(f"{name}_first")
    assert (first["data"], first["start"]) == (found["data"], found["start"])
    model = {k: v for k, v in first["model"].items() if k not in ("_target_", "picks")}
    assert model == {k: found["model"][k] for k in model}
    unused = {k: v for k, v in found["model"].items() if k not in first["model"]}
    assert not any(unused.values()), "what only the whole set's module has is off"
