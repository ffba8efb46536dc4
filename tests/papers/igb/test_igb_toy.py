"""The toy of two losses: its values, its front, and a run that records where its point went."""

from __future__ import annotations

from functools import partial
from math import log, tanh

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.igb.module_toy import FRONT, PATH, Toy
from retable.papers.igb.toy import (
    LOWEST,
    SCALES,
    SHIFT,
    Point,
    distance_to_front,
    front,
    objectives,
    shifted,
)
from support.training import attempt, config, substance

coordinates = st.floats(-12, 12, allow_nan=False)


def literal(a: float, b: float) -> tuple[float, float]:
    """Both losses, term by term as they are published."""
    f1 = log(max(abs(0.5 * (-a - 7) - tanh(-b)), 5e-6)) + 6
    f2 = log(max(abs(0.5 * (-a + 3) + tanh(-b) + 2), 5e-6)) + 6
    q1 = ((-a + 7) ** 2 + 0.1 * (-b - 8) ** 2) / 10 - 20
    q2 = ((-a - 7) ** 2 + 0.1 * (-b - 8) ** 2) / 10 - 20
    c1, c2 = max(tanh(0.5 * b), 0), max(tanh(-0.5 * b), 0)
    return 0.1 * (f1 * c1 + q1 * c2), f2 * c1 + q2 * c2


def at(a: float, b: float) -> torch.Tensor:
    return objectives(torch.tensor([a, b], dtype=torch.float64))


@given(coordinates, coordinates)
def test_losses_are_the_published_terms(a, b):
    assert at(a, b).tolist() == pytest.approx(literal(a, b), rel=1e-9, abs=1e-9)


def test_values_by_hand():
    assert at(7, -8).tolist() == pytest.approx([-2 * tanh(4), -0.4 * tanh(4)])
    # At the bottom of the first valley, where its logarithm is cut off.
    assert at(-5, 50)[0].item() == pytest.approx(0.1 * (log(5e-6) + 6))
    assert at(3, 0).tolist() == [0, 0]


def test_a_point_between_valleys_and_bowls_is_not_stuck():
    x = torch.zeros(2, requires_grad=True)
    for loss in objectives(x):
        (slope,) = torch.autograd.grad(loss, x, retain_graph=True)
        assert slope[1] > 0  # downwards are the bowls


@given(coordinates, coordinates)
def test_shifted_losses_are_above_zero(a, b):
    # Bowls are above -20, and valleys, with their logarithms of 5e-6, above -7.
    found = shifted(at(a, b))
    assert found.min() >= SHIFT * 0.99
    expected = at(a, b) - LOWEST * torch.tensor(SCALES) + SHIFT
    assert torch.allclose(found, expected)


def test_no_point_of_the_front_is_better_in_both_and_no_other_point_is():
    best = front(2001)
    losses = objectives(best)
    # Along the front one loss falls and the other rises.
    assert (losses[1:, 0] < losses[:-1, 0]).all()
    assert (losses[1:, 1] > losses[:-1, 1]).all()
    line = torch.linspace(-12, 12, 121, dtype=torch.float64)
    everywhere = torch.cartesian_prod(line, line)
    assert distance_to_front(everywhere, best).min() > -0.006  # the front has a grid
    assert distance_to_front(best[::100], best).abs().max() < 1e-12


def test_the_gradients_of_a_point_of_the_front_are_opposite():
    x = front(5)[2].requires_grad_()
    first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in objectives(x))
    assert torch.nn.functional.cosine_similarity(first, second, dim=0) == pytest.approx(
        -1, abs=1e-4
    )


def test_the_distance_is_what_both_losses_can_fall_by():
    best = torch.tensor([[7.0, -8.0], [-7.0, -8.0]], dtype=torch.float64)
    x = torch.tensor([0.0, 0.0], dtype=torch.float64)  # both losses are 0
    # To the first: 20 and 0.4 in units of the scales; to the second the same the other way round.
    assert distance_to_front(x, best).item() == pytest.approx(0.4 * tanh(4))


def test_a_point_has_two_tasks_and_two_coordinates():
    point = Point(tasks={"a": 1, "b": 1}, start=[7.0, -8.0])
    outputs = point(torch.zeros(3, 1))
    assert [y.shape for y in outputs.values()] == [(3,), (3,)]
    assert outputs["a"][0].item() == pytest.approx(-2 * tanh(4))
    for options in ({"tasks": {"a": 1}}, {"tasks": {"a": 1, "b": 1}, "start": [1.0]}):
        with pytest.raises(ValueError, match="has two of each"):
            Point(**options)


def test_what_is_balanced_is_above_zero_and_what_is_logged_is_not():
    network = partial(Point, start=[0.0, -8.0])
    toy = Toy(seed=0, tasks={"first": 1, "second": 1}, network=network).eval()
    output = toy.shared_step((torch.zeros(1, 1), {t: torch.zeros(1) for t in toy.tasks}))
    losses = at(0, -8)
    assert output.loss.item() == pytest.approx(shifted(losses).sum().item(), abs=1e-5)
    assert output.logs["mean"].item() == pytest.approx(losses.mean().item(), abs=1e-5)
    assert output.tasks["first"][0].item() == pytest.approx(losses[0].item(), abs=1e-5)
    assert output.logs["front"].item() == pytest.approx(
        distance_to_front(torch.tensor([0.0, -8.0]).double(), front()).item(), abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["model.losses=igbv1", "model.gradients=cagrad"])
def test_a_run_records_its_path_and_the_front(tmp_path, method):
    start = "model.network.start=[9.0,-1.0]"
    cfg = config(start, method, "data.steps=20", "trainer.max_epochs=5", experiment="igb/toy")
    outcome, _, _ = attempt(cfg, tmp_path / "run")
    found = {(r.row, r.metric, r.step): r.value for r in outcome.results}
    path = [(found[PATH, "test/x1", k], found[PATH, "test/x2", k]) for k in range(6)]
    assert path[0] == (9.0, -1.0)
    assert path[-1] == (found["", "test/x1", None], found["", "test/x2", None])
    # Steps of Adam are about as long as its rate, and the first go in one direction: 100 of them.
    assert abs(path[-1][1] - path[0][1]) == pytest.approx(0.1, rel=0.02)
    assert found["", "test/first/loss", None] == pytest.approx(literal(*path[-1])[0], abs=1e-5)
    assert (FRONT, "test/x1", 40) in found
    assert (PATH, "test/x1", 6) not in found
    again, _, _ = attempt(cfg, tmp_path / "again")
    assert substance(again) == substance(outcome)


def test_a_long_path_is_thinned():
    toy = Toy(seed=0, tasks={"first": 1, "second": 1}, network=partial(Point, start=[1.0, 2.0]))
    toy.on_history([{"epoch": k, "val/x1": float(k), "val/x2": 0.0} for k in range(100)])
    path = [r.value for r in toy.results if r.row == PATH and r.metric == "test/x1"]
    assert path == [1.0, *(3.0 * k + 2 for k in range(33)), 99.0]  # where it ends, whatever is left
