"""The ConvergeSmooth term: its sign, its band, when it is there; soft targets; weight means."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.converge_smooth.losses import (
    least_loss,
    margin_loss,
    soft_cross_entropy,
    soft_targets,
    unaligned,
)
from retable.papers.converge_smooth.smoothing import Centre, MeanLoss, Smoothing


@pytest.mark.parametrize(("loss", "slope"), [(1.0, -1.0), (2.02, 0.0), (3.0, 1.0)])
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_loss_below_the_band_is_raised_and_one_above_lowered(loss, slope, weight):
    """Pitfalls 1 and 2: the comparison has no gradient, the batch's loss alone has one."""
    losses = torch.full((4,), loss, requires_grad=True)
    term, side = Smoothing(weight=weight).term(losses, 2.0, 0.03)
    term.backward()
    assert losses.grad.sum().item() == pytest.approx(weight * slope)
    assert side.tolist() == [slope]


def test_the_term_is_the_penalty_with_a_dead_zone_up_to_a_constant():
    losses = torch.tensor([1.0, 1.9, 2.5], requires_grad=True)
    smoothing = Smoothing(level="example", weight=2.0)
    term, side = smoothing.term(losses, 2.0, 0.2)
    (found,) = torch.autograd.grad(term, losses)
    distance = (losses - 2.0).abs()
    penalty = 2.0 * torch.where(distance > 0.2, distance, 0.0).mean()
    (expected,) = torch.autograd.grad(penalty, losses)
    assert torch.equal(found, expected)
    assert side.tolist() == [-1.0, 0.0, 1.0]
    # The batch's mean, 1.8, is within the band of 0.3: no image is moved then.
    assert Smoothing().term(losses, 2.0, 0.3)[0].item() == 0


def test_the_term_is_off_around_changes_of_the_rate():
    """Pitfall 3: 101 of 110 epochs."""
    smoothing = Smoothing(phases=(0, 100, 105, 110), margin=1)
    active = [epoch for epoch in range(110) if smoothing.active(epoch)]
    assert active == [*range(2, 99), 102, 103, 107, 108]
    assert len(active) == 101


@pytest.mark.parametrize(
    ("ratio", "change", "kind", "width"),
    [
        (1, -0.2, "signed", 0.03),
        (1, 0.5, "signed", 0.03),
        (10, -0.2, "signed", 0.003),
        (10, 0.02, "signed", 0.02),
        (10, 0.5, "signed", 0.03),
        (10, -0.02, "abs", 0.02),
    ],
)
def test_the_band_follows_the_last_change(ratio, change, kind, width):
    """Pitfall 4."""
    assert Smoothing(ratio=ratio, change=kind).width(change) == pytest.approx(width)


def test_means_over_epochs_are_weighted_by_images():
    mean = MeanLoss()
    mean.add(torch.tensor([1.0, 1.0, 1.0]))
    mean.add(torch.tensor([5.0]))
    assert mean.previous == 0
    mean.close()
    assert (mean.previous, mean.change) == (2.0, 2.0)
    mean.add(torch.tensor([1.5]))
    mean.close()
    assert (mean.previous, mean.change) == (1.5, -0.5)
    mean.close()
    assert mean.previous == 1.5, "an epoch without a batch changes nothing"


def test_counts_of_a_drawn_sequence():
    """Pitfall 16: how often the term is there follows from the losses and the band alone."""
    losses = 2.0 + 0.05 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    sides = [int(Smoothing().term(one[None], 2.0, 0.03)[1]) for one in losses]
    expected = [0 if abs(x - 2.0) <= 0.03 else math.copysign(1, x - 2.0) for x in losses.tolist()]
    assert sides == expected
    assert sum(map(abs, sides)) > 500, "most batches are outside of a band of 0.6 deviations"
    assert abs(sum(sides)) < 100, "and push either way"


@given(st.integers(2, 200), st.floats(0.1, 1.0))
def test_the_least_loss_is_the_entropy_of_the_targets(n_classes, factor):
    targets = soft_targets(torch.tensor([1]), n_classes, factor).double()
    assert targets.sum().item() == pytest.approx(1, abs=1e-5)
    logits = targets.clamp_min(1e-30).log()
    found = soft_cross_entropy(logits, targets).item()
    assert found == pytest.approx(least_loss(n_classes, factor), abs=1e-4)


def test_the_least_loss_of_the_authors_targets():
    """Pitfall 5: with label smoothing twice the losses would be near 2.0 to 2.3."""
    assert least_loss(10, 0.6) == pytest.approx(1.552, abs=5e-4)
    hard = soft_targets(torch.tensor([0, 2]), 3, 1.0)
    logits = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2]), reduction="none")
    assert torch.allclose(soft_cross_entropy(logits, hard), expected)


def test_margins_and_cosines():
    logits = torch.tensor([[1.0, 5.0, 2.0], [4.0, 1.0, 3.0]])
    assert margin_loss(logits, torch.tensor([1, 2])).tolist() == [-3.0, 1.0]
    a = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
    b = torch.tensor([[[2.0, 0.0]], [[-1.0, 1.0]]])
    assert unaligned(a, b).item() == pytest.approx(0.5)


def test_weights_are_drawn_to_the_mean_of_earlier_ones():
    centre, weights = Centre(), [torch.zeros(2), torch.zeros(1)]
    for value in (1.0, 2.0, 6.0):
        centre.add([torch.full((2,), value), torch.full((1,), -value)])
    assert [mean.tolist() for mean in centre.mean] == [[3.0, 3.0], [-3.0]]
    given_ = [w.requires_grad_() for w in weights]
    distance = centre.distance(given_)
    assert distance.item() == pytest.approx(math.sqrt(27))
    distance.backward()
    assert given_[0].grad.tolist() == pytest.approx([-3 / math.sqrt(27)] * 2)
    at = [mean.clone().requires_grad_() for mean in centre.mean]
    centre.distance(at).backward()
    assert all(torch.equal(w.grad, torch.zeros_like(w)) for w in at), "no NaN at the mean itself"
