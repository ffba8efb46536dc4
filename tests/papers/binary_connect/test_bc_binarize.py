"""Binarisation of weights: values, probabilities, draws, and the gradient that passes through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.binary_connect.binarize import (
    binarize,
    glorot_coefficient,
    hard_sigmoid,
    straight_through,
)

SCALES = [1.0, 0.0288, 0.25, 3.0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(-3.0, 0.0), (-1.0, 0.0), (-0.5, 0.25), (0.0, 0.5), (0.5, 0.75), (1.0, 1.0), (3.0, 1.0)],
)
def test_hard_sigmoid_is_not_the_logistic_function(x, expected):
    assert hard_sigmoid(torch.tensor(x)).item() == expected


@settings(max_examples=100, deadline=None)
@given(x=st.floats(-1e6, 1e6))
def test_hard_sigmoid_is_a_clipped_line(x):
    found = hard_sigmoid(torch.tensor(x, dtype=torch.float64)).item()
    assert found == pytest.approx(max(0.0, min(1.0, (x + 1) / 2)), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20),
    scale=st.sampled_from(SCALES),
)
def test_deterministic_weights_are_the_signs_times_the_magnitude(weights, scale):
    w = np.asarray(weights, dtype=np.float32)
    found = binarize(torch.from_numpy(w.copy()), scale, "det").numpy()
    expected = np.where(w >= 0, np.float32(scale), -np.float32(scale))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_of_either_sign_counts_as_positive(zero):
    assert binarize(torch.full((3,), zero), 0.5, "det").tolist() == [0.5] * 3


def test_the_smallest_numbers_keep_their_sign():
    tiny = torch.tensor([1e-45, -1e-45, 1e-38, -1e-38])
    assert binarize(tiny, 0.5, "det").tolist() == [0.5, -0.5, 0.5, -0.5]


def test_binarising_leaves_the_stored_weights_alone():
    w = torch.linspace(-1, 1, 9, requires_grad=True)
    before = w.detach().clone()
    for mode in ("none", "det", "stoch"):
        out = binarize(w, 1.0, mode)
        assert not out.requires_grad
        out.zero_()
        assert torch.equal(w, before)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_magnitude_that_is_not_positive_is_refused(scale):
    with pytest.raises(ValueError, match="not positive"):
        binarize(torch.ones(2), scale, "det")


def test_an_unknown_mode_is_refused_and_not_taken_for_a_draw():
    with pytest.raises(ValueError, match="'stochastic' is none of none, det, stoch"):
        binarize(torch.zeros(2), 1.0, "stochastic")


@pytest.mark.parametrize("scale", SCALES)
def test_half_the_magnitude_is_positive_three_times_of_four(scale):
    drawn = binarize(torch.full((100_000,), 0.5 * scale), scale, "stoch", seeded())
    assert abs((drawn > 0).double().mean().item() - 0.75) < 0.006
    assert sorted(drawn.unique().tolist()) == pytest.approx([-scale, scale])


@pytest.mark.parametrize("scale", SCALES)
def test_drawn_weights_have_the_stored_ones_as_their_mean(scale):
    n, w = 4000, torch.linspace(-0.98, 0.98, 99, dtype=torch.float64) * scale
    drawn = binarize(w.expand(n, -1).contiguous(), scale, "stoch", seeded(1))
    std = (scale**2 - w**2).sqrt() / n**0.5
    assert ((drawn.mean(0) - w).abs() < 4 * std).all()


@pytest.mark.parametrize("scale", [*SCALES, 0.1, 1 / 3, 0.027, 0.7071])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_at_a_bound_or_beyond_never_flip(scale, dtype):
    bound = torch.ones(1, dtype=dtype).mul_(scale)
    for factor in (1.0, 1.5, 2.0):
        w = (factor * bound).expand(300_000)
        assert (binarize(w, scale, "stoch", seeded(2)) > 0).all()
        assert (binarize(-w, scale, "stoch", seeded(3)) < 0).all()


@pytest.mark.parametrize("draw", [0.0, 1 - 2.0**-24])
def test_the_extreme_draws_flip_no_weight_at_a_bound(monkeypatch, draw):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, draw))
    for scale in (*SCALES, 0.1, 1 / 3):
        w = torch.tensor([1.0, -1.0]).mul_(scale)
        assert binarize(w, scale, "stoch").sign().tolist() == [1, -1]
        # Strictly inside, the extreme draws do decide.
        inside = torch.tensor([0.5, -0.5]).mul_(scale)
        assert len(set(binarize(inside, scale, "stoch").sign().tolist())) == 1


def test_the_generator_makes_draws_reproducible_and_each_draw_is_new():
    w, generator = torch.zeros(1000), seeded(4)
    first, second = (binarize(w, 1.0, "stoch", generator) for _ in range(2))
    assert torch.equal(first, binarize(w, 1.0, "stoch", seeded(4)))
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    binarize(w, 1.0, "stoch", generator)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    torch.manual_seed(4)
    assert torch.equal(first, binarize(w, 1.0, "stoch"))


@settings(max_examples=50, deadline=None)
@given(
    weights=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=20),
    scale=st.sampled_from(SCALES),
    seed=st.integers(0, 1000),
)
def test_a_draw_follows_the_rule_of_the_paper(weights, scale, seed):
    """Positive where ``1 - r <= sigma(w / H)``, r uniform in [0, 1); computed by numpy."""
    w = torch.tensor(weights, dtype=torch.float64)
    found = binarize(w, scale, "stoch", seeded(seed)).numpy()
    r = torch.rand(w.shape, dtype=torch.float64, generator=seeded(seed)).numpy()
    p = np.clip((w.numpy() / scale + 1) / 2, 0, 1)
    expected = np.where(1 - r <= p, scale, -scale)
    near = np.abs(1 - r - p) < 1e-12  # rounding decides there
    np.testing.assert_array_equal(found[~near], expected[~near])
    assert set(np.abs(found)) == {scale}


@pytest.mark.parametrize("mode", ["none", "det", "stoch"])
def test_the_gradient_passes_unchanged_even_at_and_beyond_the_bounds(mode):
    w = torch.tensor([-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0], requires_grad=True)
    gradient = torch.arange(1.0, 8.0)
    straight_through(w, 1.0, mode).backward(gradient)
    assert torch.equal(w.grad, gradient)


def test_glorot_coefficients_are_those_of_the_published_networks():
    assert 1 / glorot_coefficient(1024, 1024) == pytest.approx(36.95, abs=0.005)
    assert 1 / glorot_coefficient(784, 1024) == pytest.approx(34.72, abs=0.005)
    assert glorot_coefficient(3, 3) == 0.5
