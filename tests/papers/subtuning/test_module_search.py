"""The search as a run: it goes on after a kill, records what it has found, and sees no test."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from scipy.stats import spearmanr

from retable.papers.subtuning import search
from retable.papers.subtuning.candidates import SetTrainer
from retable.papers.subtuning.module_search import Search
from retable.training.execute import build
from support.subtuning import noisy_test, numbers, pretrained, ran, small
from support.training import attempt, stopped, substance

L = 3


def sets_of(arrays, n_blocks=L):
    """Scores by set, as the artefact has them."""
    masks = arrays["tried"].tolist()
    sets = [tuple(i for i in range(n_blocks) if mask >> i & 1) for mask in masks]
    return dict(zip(sets, arrays["scores"].tolist(), strict=True))


def same(one, other):
    arrays, others = one.artifacts["search"], other.artifacts["search"]
    assert arrays.keys() == others.keys()
    assert all(torch.equal(arrays[k].nan_to_num(-1.0), others[k].nan_to_num(-1.0)) for k in arrays)
    return substance(one) == substance(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A greedy search that nothing has interrupted, and the state that it ends with."""
    return ran(tmp_path_factory.mktemp("search") / "run", "smoke_search", start=pretrained())


@pytest.mark.slow
def test_a_killed_search_goes_on_after_the_last_set_and_gives_the_same_bits(
    whole, tmp_path, monkeypatch
):
    trained = []
    plain = SetTrainer.cross_validated

    def counted(self, tuned, folds):
        trained.append(tuple(tuned))
        return plain(self, tuned, folds)

    monkeypatch.setattr(SetTrainer, "cross_validated", counted)
    cfg, start = small("smoke_search"), pretrained()
    folders = stopped(cfg, tmp_path, [1, 3], start=start)
    rest = attempt(cfg, tmp_path / "rest", previous=folders, start=start)[0]
    assert same(rest, whole[0])
    assert trained == [*sets_of(rest.artifacts["search"])], "none of them twice"
    # Once more, from the end: nothing is trained, the results are the same.
    again = attempt(cfg, tmp_path / "again", previous=[tmp_path / "rest"], start=start)[0]
    assert same(again, rest)
    assert len(trained) == len(rest.history)


def test_it_ends_by_itself_and_a_set_is_an_epoch(whole):
    outcome, _ = whole
    known = sets_of(outcome.artifacts["search"])
    assert len(outcome.history) == len(known) < 8
    rows = [(row["search/accuracy"], row["search/blocks"]) for row in outcome.history]
    assert rows == [
        (pytest.approx(score, abs=1e-7), len(blocks)) for blocks, score in known.items()
    ]


def test_the_network_is_never_changed(whole):
    _, state = whole
    start = pretrained().weights
    own = {k: v for k, v in state.items() if k.startswith("net.")}
    assert own.keys() == start.keys()
    # A new head is drawn for every training; that of the network is not used.
    other = {k for k in own if not torch.equal(own[k], start[k])}
    assert other <= {"net.fc.weight", "net.fc.bias"}


@pytest.mark.slow
def test_a_search_does_not_see_the_test_set(whole, tmp_path, monkeypatch):
    """Pitfall 7: the same set and the same bits with noise in place of images and labels."""
    noisy_test(monkeypatch)
    other, _ = ran(tmp_path / "other", "smoke_search", start=pretrained())
    assert same(other, whole[0])


def test_too_few_epochs_are_refused_with_the_number_needed(tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.max_epochs: 7 is below the 8 sets"):
        ran(tmp_path / "run", "smoke_search", "trainer.max_epochs=7")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.score=validation", "data.n_validation=0"], "model.score: validation, but there"),
        (["model.folds=21"], "model.folds: 21 of 20 training images"),
        (["data.augment=pad_crop_flip"], "data.augment: pad_crop_flip is not known here"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(tmp_path, overrides, said):
    with pytest.raises(ValueError, match=said):
        ran(tmp_path / "run", "smoke_search", *overrides)


def test_mixed_precision_is_that_of_every_step_and_16_bits_are_refused(monkeypatch):
    """Casts of weights are not kept from one step of an optimiser to the next."""
    run = build(small("smoke_search"))[1]
    weight, x = torch.nn.Parameter(torch.ones(1, 1)), torch.ones(1, 1)

    def work():
        outs = []
        for value in (1.0, 2.0):
            weight.data.fill_(value)
            outs.append(torch.nn.functional.linear(x, weight))
        return {"dtype": outs[0].dtype, "values": [out.item() for out in outs]}

    class Trainer:
        precision = "bf16-mixed"

    logged = {}
    monkeypatch.setattr(Search, "trainer", Trainer())
    monkeypatch.setattr(run, "work", work)
    monkeypatch.setattr(run, "log_dict", lambda found, **_: logged.update(found))
    with torch.autocast("cpu", torch.bfloat16):  # as Lightning calls a step
        run.training_step(None, 0)
    assert logged == {"dtype": torch.bfloat16, "values": [1.0, 2.0]}
    run.configure_optimizers()
    Trainer.precision = "16-mixed"
    with pytest.raises(ValueError, match=r"trainer\.precision: 16-mixed .* Search"):
        run.configure_optimizers()


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """Outcomes by kind, of the same start and seed."""
    folder = tmp_path_factory.mktemp("profiles")
    kinds = ("singles", "pairs", "windows2")
    return {
        kind: ran(folder / kind, "smoke_profile", f"model.sets={kind}", start=pretrained())[0]
        for kind in kinds
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["singles", "pairs", "windows2"])
def test_a_profile_records_its_sets_and_what_they_add_up_to(profiles, kind):
    outcome = profiles[kind]
    known, found = sets_of(outcome.artifacts["search"]), numbers(outcome)
    singles, pairs = [(0,), (1,), (2,)], [(0, 1), (0, 2), (1, 2)]
    own = {"singles": singles, "pairs": pairs, "windows2": [(0, 1), (1, 2)]}[kind]
    assert {*known} == {(), (0, 1, 2), *own, *(singles if kind == "pairs" else ())}
    names = {blocks: "+".join(f"B{i + 1}" for i in blocks) for blocks in known}
    names |= {(): "none", (0, 1, 2): "all"}
    rows = {row: v for (metric, row), v in found.items() if metric == "search/accuracy"}
    assert rows == {names[blocks]: score for blocks, score in known.items()}
    values = [known[blocks] for blocks in own]
    best = max(own, key=lambda blocks: (known[blocks], -own.index(blocks)))
    wanted = {
        "search/mean": sum(values) / len(values),
        "search/best": max(values),
        "search/depth": (max(best) + 1) / L,
        "search/apart": max(best) - min(best),
    }
    if kind != "pairs" and len({*values}) > 1:
        wanted["search/monotone"] = abs(spearmanr(range(len(values)), values).statistic)
    assert {k: v for (k, row), v in found.items() if not row} == pytest.approx(wanted)


@pytest.mark.slow
def test_a_set_has_the_same_score_in_whatever_company_it_is_tried(profiles):
    """Pitfall 5: every training begins anew, so that order does not matter."""
    pairs = sets_of(profiles["pairs"].artifacts["search"])
    for kind in ("singles", "windows2"):
        known = sets_of(profiles[kind].artifacts["search"])
        assert known == {blocks: pairs[blocks] for blocks in known}
    assert len({*pairs.values()}) > 2, "scores that differ"


@pytest.mark.slow
def test_a_profile_does_not_see_the_test_set(profiles, tmp_path, monkeypatch):
    """Pitfall 7: validation images are others."""
    noisy_test(monkeypatch)
    other, _ = ran(tmp_path / "other", "smoke_profile", start=pretrained())
    assert same(other, profiles["singles"])


def test_the_map_is_symmetric_with_single_blocks_on_its_diagonal(profiles):
    arrays = profiles["pairs"].artifacts["search"]
    known, grid = sets_of(arrays), arrays["map"]
    assert torch.equal(grid, grid.T)
    for i, j in itertools.product(range(L), repeat=2):
        assert grid[i, j] == known[tuple(sorted({i, j}))]
    assert "map" not in profiles["singles"].artifacts["search"]


def on_a_table(folder, monkeypatch, table, *overrides):
    """A run of ResNet-20 whose sets are scored by a function, not by training."""
    score = lambda self, tuned, *_: table(tuple(tuned))  # noqa: E731
    for name in ("cross_validated", "validated"):
        monkeypatch.setattr(SetTrainer, name, score)
    more = (
        "model.network=resnet20",
        "trainer.max_epochs=60",
        "trainer.checkpoint_every_n_epochs=60",
    )
    return attempt(small("smoke_search", *more, *overrides), folder)[0]


def drawn(blocks):
    """Scores that grow with the number of blocks, less and less, and with noise."""
    return 0.3 + 0.1 * len(blocks) ** 0.5 + 0.1 * random.Random(str(blocks)).random()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["gain", "patience"])
@pytest.mark.parametrize("direction", ["forward", "backward", "best"])
def test_the_choice_is_that_of_the_greedy_rule_on_the_recorded_scores(
    tmp_path, monkeypatch, rule, direction
):
    overrides = [f"model.rule={rule}", f"model.direction={direction}", "model.eps=0.02"]
    outcome = on_a_table(tmp_path / "run", monkeypatch, drawn, *overrides)
    wanted = search.greedy(9, drawn, rule, direction, 0.02)
    arrays, found = outcome.artifacts["search"], numbers(outcome)
    known = sets_of(arrays, 9)
    assert known == {blocks: drawn(blocks) for blocks in known}
    assert arrays["chosen"].nonzero().flatten().tolist() == list(wanted.chosen)
    assert arrays["steps"].tolist() == list(wanted.steps)
    picked = {row: v for (metric, row), v in found.items() if metric == "search/picked"}
    assert picked == {f"B{i + 1}": float(i in wanted.chosen) for i in range(9)}
    sizes = [4672, 4672, 4672, 13952, 18560, 18560, 55552, 73984, 73984]
    wanted_numbers = {
        "search/accuracy": wanted.score,
        "search/size": len(wanted.chosen),
        "search/share": sum(sizes[i] for i in wanted.chosen) / sum(sizes),
        "search/trainings": 2 * len(known),
    }
    if direction == "forward":
        first = max(range(9), key=lambda i: drawn((i,)))
        wanted_numbers["search/first"] = 8 - first
        assert wanted.steps[0] == first
    assert {k: v for (k, row), v in found.items() if not row} == pytest.approx(wanted_numbers)


def test_monotone_is_the_rank_correlation_with_depth(tmp_path, monkeypatch):
    values = [0.2, 0.5, 0.4, 0.7, 0.6, 0.6, 0.9, 0.1, 0.8]
    table = lambda blocks: values[blocks[0]] if len(blocks) == 1 else 0.5  # noqa: E731
    overrides = ["model.sets=singles", "model.score=validation"]
    found = numbers(on_a_table(tmp_path / "run", monkeypatch, table, *overrides))
    rho = spearmanr(range(9), values).statistic
    assert found["search/monotone", ""] == pytest.approx(abs(rho))
    assert (found["search/best", ""], found["search/depth", ""]) == (0.9, pytest.approx(7 / 9))
    # Equal accuracies have no order: the number is left out, not NaN.
    flat = on_a_table(tmp_path / "flat", monkeypatch, lambda _: 0.5, *overrides)
    assert ("search/monotone", "") not in numbers(flat)


def test_windows_of_three_of_three_blocks_are_all_of_them(tmp_path):
    outcome, _ = ran(tmp_path / "run", "smoke_profile", "model.sets=windows3")
    known = sets_of(outcome.artifacts["search"])
    assert [*known] == [(), (0, 1, 2)]
    assert numbers(outcome)["search/mean", ""] == known[0, 1, 2]
