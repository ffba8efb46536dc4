"""First picks: those of the search's path, also beyond what it chose."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.base import Start
from retable.papers.subtuning import search
from retable.papers.subtuning.module_first import first_picks
from retable.training.execute import build
from retable.util.errors import UserError
from support.subtuning import numbers, pretrained, ran, small
from support.training import attempt, stopped, substance

SETS = [s for k in range(5) for s in itertools.combinations(range(4), k)]
FIRST = "smoke_first"


@given(
    st.lists(st.sampled_from([0.1 * i for i in range(8)]), min_size=16, max_size=16),
    st.sampled_from(["gain", "patience"]),
    st.sampled_from([0.0, 0.15]),
)
def test_they_are_the_path_of_the_search_as_far_as_it_went(scores, rule, eps):
    """Against the path written down anew, of scores with many ties; the choice lies on it."""
    table, known = dict(zip(SETS, scores, strict=True)), {}

    def score(blocks):
        known[blocks] = table[blocks]
        return table[blocks]

    chosen = search.greedy(4, score, rule, "forward", eps).chosen
    path = []
    while len(path) < max(map(len, known)):
        rest = sorted({*range(4)} - {*path})
        path.append(min(rest, key=lambda i: (-table[tuple(sorted((*path, i)))], i)))
    assert [first_picks(known, 4, k) for k in range(1, 6)] == [tuple(path[:k]) for k in range(1, 6)]
    assert {*chosen} == {*path[: len(chosen)]}


def found():
    """Of three blocks; B2 is chosen, B1 the best beside it, and all three were not tried."""
    tried = {(): 0.5, (0,): 0.6, (1,): 0.9, (2,): 0.4, (0, 1): 0.8, (1, 2): 0.7}
    return {
        "chosen": torch.tensor([False, True, False]),
        "steps": torch.tensor([1]),
        "tried": torch.tensor([sum(1 << i for i in s) for s in tried]),
        "scores": torch.tensor(list(tried.values()), dtype=torch.float64),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("picks", "blocks", "last"), [(1, [2], 2), (2, [1, 2], 1), (3, [1, 2], 1)])
def test_the_run_has_the_bits_of_one_whose_blocks_are_given_also_after_a_stop(
    tmp_path, picks, blocks, last
):
    start = pretrained(search=found())
    named = ran(tmp_path / "named", "smoke", f"model.blocks={blocks}", start=start)[0]
    cfg = small(FIRST, f"model.picks={picks}")
    folders = stopped(cfg, tmp_path / "first", [1], start=start)
    rest = attempt(cfg, tmp_path / "rest", previous=folders, start=start)[0]
    own = numbers(rest)
    assert own.pop(("tuned/blocks", "")) == len(blocks)
    assert own.pop(("picked/last", "")) == last
    assert own == numbers(named)
    assert substance(rest)[:2] == substance(named)[:2]


def test_a_search_backwards_and_a_start_without_one_are_refused():
    net = build(small(FIRST))[1]
    backwards = {**found(), "tried": torch.tensor([7, 6, 5, 3, 2]), "scores": torch.zeros(5)}
    with pytest.raises(UserError, match=r"model\.picks: of a search with .*direction: forward"):
        net.take_start(Start({}, {"search": backwards}))
    with pytest.raises(UserError, match=r"model\.blocks: found, .* chosen none"):
        net.take_start(Start({}, {}))
