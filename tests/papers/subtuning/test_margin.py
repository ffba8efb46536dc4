"""Which images are labelled next."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.subtuning.margin import BUDGETS, choose, margins, random_choice


def test_the_margin_of_three_classes_and_the_sizes_of_the_paper():
    p = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.4, 0.2, 0.4]])
    assert torch.allclose(margins(p), torch.tensor([0.1, 0.5, 0.0]))
    assert [*accumulate(BUDGETS)] == [100, 500, 1000, 2500, 5000, 10000]
    assert len(BUDGETS) == 6


@settings(deadline=None, max_examples=60)
@given(
    # Sixteenths, so that there are ties and differences are exact.
    st.lists(st.tuples(st.integers(0, 16), st.booleans()), min_size=1, max_size=30),
    st.data(),
)
def test_the_smallest_margins_of_the_unlabelled_by_brute_force(items, data):
    half = torch.tensor([v / 32 for v, _ in items], dtype=torch.float64)
    p = torch.stack([0.5 + half, 0.5 - half], 1)
    labelled = torch.tensor([one for _, one in items])
    n = data.draw(st.integers(0, int((~labelled).sum())))
    rest = [i for i, (_, one) in enumerate(items) if not one]
    expected = sorted(rest, key=lambda i: (items[i][0], i))[:n]
    assert choose(p, labelled, n).tolist() == expected
    drawn = random_choice(labelled, n, torch.Generator().manual_seed(0)).tolist()
    assert len({*drawn}) == n
    assert {*drawn} <= {*rest}


def test_a_labelled_image_is_not_chosen_even_beside_nan():
    p = torch.tensor([[0.5, 0.5], [float("nan"), 0.0], [0.9, 0.1]])
    labelled = torch.tensor([True, False, False])
    assert choose(p, labelled, 2).tolist() == [2, 1]
    for pick in (lambda n: choose(p, labelled, n), lambda n: random_choice(labelled, n, None)):
        with pytest.raises(ValueError, match="3 images to be labelled, of 2 that are not"):
            pick(3)


def test_a_random_choice_is_the_generator_s_and_even():
    labelled = torch.arange(6) % 3 == 0
    one = random_choice(labelled, 2, torch.Generator().manual_seed(1))
    assert torch.equal(one, random_choice(labelled, 2, torch.Generator().manual_seed(1)))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([random_choice(labelled, 2, generator) for _ in range(2000)])
    counts = torch.bincount(drawn, minlength=6)
    # Each of four has chance 1/2 in 2000 choices: 1000, with a deviation of 22.
    assert counts[labelled].sum() == 0
    assert ((counts[~labelled] - 1000).abs() < 110).all()
