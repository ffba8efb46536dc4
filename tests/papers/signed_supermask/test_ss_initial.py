"""Initial values: constants and bounds by fans, and the variance of signals through ten layers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.papers.signed_supermask.initial import Initial, deviation, fans

LAYER = nn.Conv2d(4, 12, 3).weight  # fans of 36 and 108


def draw(*args, like=LAYER, seed=0):
    return Initial(*args).draw(like, torch.Generator().manual_seed(seed))


def test_fans():
    assert fans(LAYER) == (36, 108)
    assert fans(nn.Linear(784, 300).weight) == (784, 300)


@pytest.mark.parametrize(
    ("kind", "factor", "constant"),
    [
        ("xavier", 9.0, math.sqrt(2 / 144)),
        ("he", 9.0, math.sqrt(2 / 36)),
        ("elu", 9.0, math.sqrt(1.5 / 36)),
        ("elus", 1.5, math.sqrt(3 / 36)),
        ("elus", 3.0, math.sqrt(6 / 36)),
    ],
)
def test_constants_bounds_and_spreads(kind, factor, constant):
    assert deviation(kind, 36, 108, factor) == pytest.approx(constant, rel=1e-12)
    signed = draw(kind, "constant", factor)
    assert len(signed.abs().unique()) == 1
    assert signed.abs().max() == pytest.approx(constant, rel=1e-6)
    assert float((signed > 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    large = torch.empty(1000, 36)
    uniform, normal = (draw(kind, form, factor, like=large) for form in ("uniform", "normal"))
    spread = deviation(kind, 36, 1000, factor)
    assert uniform.abs().max() == pytest.approx(math.sqrt(3) * spread, rel=1e-3)
    for values in (uniform, normal):
        assert values.std() == pytest.approx(spread, rel=0.02)
    assert normal.abs().max() > 3 * spread


def test_bounds_of_the_paper():
    """He uniform √(6 / fan in), Xavier √(6 / (fan in + fan out)), ELU √(4.5 / fan in)."""
    for kind, bound in (("he", 6 / 36), ("xavier", 6 / 144), ("elu", 4.5 / 36)):
        found = math.sqrt(3) * deviation(kind, 36, 108)
        assert found == pytest.approx(math.sqrt(bound), rel=1e-12)


def test_draws_follow_the_generator():
    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), draw(seed=1))
    assert torch.equal(draw("he").sign(), draw("elus").sign())


@pytest.mark.parametrize(
    ("factor", "share", "first", "last", "tolerance"),
    [(1.5, 0.5, 1.23, 0.97, 0.04), (3.0, 0.75, 1.22, 0.96, 0.04), (1.0, 0.5, 1.0, 0.27, 0.05)],
)
def test_variance_of_signals_under_masks(factor, share, first, last, tolerance):
    """Ten layers with ELU on normal inputs: it stays where f = 1.5 / q for a share q left."""
    generator = torch.Generator().manual_seed(0)
    n = 500
    x = torch.randn(400, n, generator=generator)
    spreads = []
    for _ in range(10):
        weight = Initial("elus", "constant", factor).draw(torch.empty(n, n), generator)
        mask = torch.rand(n, n, generator=generator) >= share
        sign = torch.where(torch.rand(n, n, generator=generator) < 0.5, -1.0, 1.0)
        z = x @ (weight * mask * sign).T
        spreads.append(float(z.std()))
        x = F.elu(z)
    assert spreads[0] == pytest.approx(first, rel=tolerance)
    assert spreads[-1] == pytest.approx(last, rel=2 * tolerance)


def test_the_second_moment_behind_elus():
    """E[ELU(z)²] = 1 + e² Φ(-2) - 2 √e Φ(-1), of which 1 / 1.5 is about the value."""
    z = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    moment = float(torch.trapezoid(F.elu(z).square() * density, z))
    below = torch.special.ndtr(torch.tensor([-2.0, -1.0], dtype=torch.float64))
    closed = 1 + math.e**2 * below[0] - 2 * math.sqrt(math.e) * below[1]
    assert moment == pytest.approx(float(closed), abs=1e-8) == pytest.approx(0.64495, abs=1e-5)
    assert 1 / moment == pytest.approx(1.55, abs=0.005)
