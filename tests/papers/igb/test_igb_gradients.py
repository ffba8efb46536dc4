"""Task gradients and the backward pass of every gradient method."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retable.papers.igb.gradients import IMTLG, MGDA, CAGrad, GradientMethod, NashMTL, PCGrad
from retable.papers.igb.task_gradients import backward, task_gradients

METHODS = {
    "mgda": MGDA,
    "pcgrad": lambda: PCGrad(seed=3),
    "cagrad": CAGrad,
    "imtl_g": IMTLG,
    "nash": lambda: NashMTL(max_norm=0),
}
ORTHOGONAL = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))


class Net(nn.Module):
    """A trunk of two layers, one head a task, and a trunk parameter that only task 0 uses."""

    def __init__(self, n=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
        self.offset = nn.Parameter(torch.ones(()))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(n))
        self.double()
        self.x = torch.randn(8, 4, dtype=torch.float64)
        self.y = torch.randn(8, n, dtype=torch.float64)

    @property
    def shared(self):
        return [*self.trunk.parameters(), self.offset]

    def losses(self):
        features = self.trunk(self.x)
        outputs = [head(features)[:, 0] for head in self.heads]
        outputs[0] = outputs[0] + self.offset
        return torch.stack([((o - t) ** 2).mean() for o, t in zip(outputs, self.y.T, strict=True)])

    def grads(self, parameters):
        return torch.cat([p.grad.flatten() for p in parameters])

    def summed(self, weights):
        """Gradients of shared parameters and heads of a weighted sum, by plain autograd."""
        loss = (torch.as_tensor(weights).double() * self.losses()).sum()
        heads = list(self.heads.parameters())
        found = torch.autograd.grad(loss, [*self.shared, *heads])
        flat = [g.flatten() for g in found]
        return torch.cat(flat[: len(self.shared)]), torch.cat(flat[len(self.shared) :])

    def step(self, method, **options):
        heads = list(self.heads.parameters())
        weights = backward(self.losses(), method, self.shared, heads, **options)
        return weights, self.grads(self.shared), self.grads(heads)


def matrix(seed, n=4, length=30):
    draw = torch.Generator().manual_seed(seed)
    common = torch.randn(length, generator=draw, dtype=torch.float64)
    return torch.randn(n, length, generator=draw, dtype=torch.float64) + common / 2


def test_task_gradients_row_by_row():
    net = Net()
    rows = task_gradients(net.losses(), net.shared)
    assert rows.shape == (3, sum(p.numel() for p in net.shared))
    for task, row in enumerate(rows):
        torch.testing.assert_close(row, net.summed(torch.eye(3)[task])[0])
    assert rows[1:, -1].tolist() == [0.0, 0.0]  # tasks that do not use the offset
    assert rows[0, -1] != 0


def test_stacked_passes_equal_the_loop():
    net = Net()
    unused = nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    shared = [net.shared[0], unused, *net.shared[1:]]
    loop = task_gradients(net.losses(), shared)
    torch.testing.assert_close(task_gradients(net.losses(), shared, stacked=True), loop)
    start = net.shared[0].numel()
    assert not loop[:, start : start + 6].any()


@pytest.mark.parametrize("name", METHODS)
def test_stacked_step_equals_the_loop(name):
    net = Net()
    for one, other in zip(
        net.step(METHODS[name]()), net.step(METHODS[name](), stacked=True), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_no_method_is_the_sum_in_one_pass():
    net = Net()
    weights, shared, heads = net.step(None)
    assert weights.tolist() == [1, 1, 1]
    torch.testing.assert_close((shared, heads), net.summed([1, 1, 1]))


@pytest.mark.parametrize("name", METHODS)
def test_shared_gradient_has_the_weights_that_are_reported(name):
    net = Net()
    weights, shared, heads = net.step(METHODS[name]())
    assert not weights.requires_grad
    torch.testing.assert_close(shared, net.summed(weights)[0])
    of_heads = [1, 1, 1] if name in ("pcgrad", "cagrad") else weights
    torch.testing.assert_close(heads, net.summed(of_heads)[1])


@pytest.mark.parametrize("name", [None, *METHODS])
def test_gradients_are_replaced_and_losses_may_be_weighted_logs(name):
    net = Net()
    method = None if name is None else METHODS[name]()
    net.step(None)
    w = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    heads = list(net.heads.parameters())
    effective = backward(w * net.losses().log(), method, net.shared, heads)
    expected = net.summed(effective * w / net.losses().detach())[0]
    torch.testing.assert_close(net.grads(net.shared), expected)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("mgda", 1), ("pcgrad", 1), ("imtl_g", 1), ("cagrad", 1.4 / 1.16), ("nash", None)],
)
def test_one_task(name, factor):
    net = Net(n=1)
    _, shared, heads = net.step(METHODS[name]())
    plain_shared, plain_heads = net.summed([1])
    if name == "nash":  # the unit gradient; heads are weighted alike
        factor = 1 / plain_shared.norm()
    torch.testing.assert_close(shared, factor * plain_shared)
    of_heads = 1 if name == "cagrad" else factor
    torch.testing.assert_close(heads, of_heads * plain_heads)


def test_orthogonal_gradients():
    squares = ORTHOGONAL.norm(dim=1) ** 2
    assert PCGrad(seed=0)(ORTHOGONAL).weights.tolist() == [1, 1, 1]
    expected = 3 / squares / (1 / squares).sum()
    torch.testing.assert_close(MGDA()(ORTHOGONAL).weights, expected)
    torch.testing.assert_close(NashMTL()(ORTHOGONAL).weights, squares**-0.5)
    inverse = squares**-0.5
    torch.testing.assert_close(IMTLG()(ORTHOGONAL).weights, inverse / inverse.sum())


def test_cagrad_without_radius_is_the_sum():
    rows = matrix(1)
    torch.testing.assert_close(CAGrad(c=0.0)(rows).direction, rows.sum(0))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 6))
def test_directions_on_any_gradients(seed, n):
    rows = matrix(seed, n)
    units = rows / rows.norm(dim=1, keepdim=True)
    projections = units @ IMTLG()(rows).direction
    torch.testing.assert_close(projections, projections[:1].expand(n), rtol=1e-7, atol=1e-7)
    direction, weights, _ = MGDA()(rows)
    assert weights.sum().item() == pytest.approx(n)
    # The shortest convex combination has the same product with every gradient that it uses.
    products = rows @ direction
    assert products.min().item() == pytest.approx((direction @ direction).item() / n, rel=1e-6)
    direction, _, _ = CAGrad(c=0.4)(rows)
    mean = rows.mean(0)
    away = (direction / n * 1.16 - mean).norm()
    assert away.item() == pytest.approx(0.4 * mean.norm().item(), rel=1e-6)
    direction, alpha, _ = NashMTL()(rows)
    assert direction.norm().item() == pytest.approx(math.sqrt(n))
    torch.testing.assert_close(alpha * (rows @ (alpha @ rows)), torch.ones_like(alpha))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-6, 1e5]))
def test_directions_grow_with_the_gradients(seed, scale):
    rows = matrix(seed)
    for name, make in METHODS.items():
        one, other = make()(rows).direction, make()(scale * rows).direction
        power = 0 if name == "nash" else 1
        torch.testing.assert_close(other, scale**power * one, rtol=1e-6, atol=1e-9 * scale**power)


def test_nash_clips_shared_parameters_only():
    net = Net()
    weights, shared, heads = net.step(NashMTL(max_norm=0.5))
    full, of_heads = net.summed(weights)
    assert full.norm() > 1
    torch.testing.assert_close(shared, 0.5 * full / full.norm(), rtol=1e-5, atol=0)
    torch.testing.assert_close(heads, of_heads)


def test_nash_keeps_weights_between_updates():
    method, steps = NashMTL(update_every=2), []
    for seed in range(4):
        net = Net(seed=seed)
        weights, shared, heads = net.step(method)
        steps.append(weights)
        full, of_heads = net.summed(weights)
        torch.testing.assert_close(heads, of_heads)
        torch.testing.assert_close(shared, full / (full.norm() + 1e-6).clamp(min=1))
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[2], steps[3])
    assert not torch.equal(steps[1], steps[2])
    torch.testing.assert_close(steps[2], Net(seed=2).step(NashMTL())[0])


def test_nash_without_a_solution_keeps_the_last_weights():
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    method = NashMTL()
    assert method(opposite).weights.tolist() == [1, 1]
    kept = method(torch.tensor([[2.0, 0.0], [0.0, 4.0]])).weights
    assert kept.tolist() == pytest.approx([0.5, 0.25])
    assert torch.equal(method(opposite).weights, kept)


def test_pcgrad_draws_its_order_by_seed_and_step():
    rows = matrix(5, n=6)
    rows = rows - rows.mean(0)  # many conflicts

    def weights(method, steps):
        return [method(rows).weights for _ in range(steps)]

    one, again, other = (weights(PCGrad(seed=s), 3) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], other[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda: NashMTL(update_every=3), lambda: PCGrad(seed=4)], ids=["nash", "pcgrad"]
)
@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_state_resumes_bit_for_bit(make, done, tmp_path):
    whole = make()
    for seed in range(done):
        Net(n=5, seed=seed).step(whole)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed = make()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    twin = copy.deepcopy(whole)
    weights = []
    for seed in range(done, done + 4):
        results = [Net(n=5, seed=seed).step(method) for method in (whole, resumed, twin)]
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
        weights.append(results[0][0])
    if done % 3:  # the state matters: one that begins there does something else
        fresh = make()
        again = [Net(n=5, seed=seed).step(fresh)[0] for seed in range(done, done + 4)]
        assert not all(torch.equal(a, b) for a, b in zip(weights, again, strict=True))


def test_random_draws_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    PCGrad(seed=0)(matrix(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_that_are_not_finite_give_nan(name):
    rows = matrix(0)
    rows[1, 2] = math.inf
    assert METHODS[name]()(rows).direction.isnan().any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rows", [torch.zeros(3, 4), torch.ones(3, 4)], ids=["zero", "equal"])
def test_degenerate_gradients_give_a_finite_direction(name, rows):
    direction = METHODS[name]()(rows).direction
    assert direction.isfinite().all()
    if rows.any():  # along the common gradient
        assert (direction > 0).all()
        torch.testing.assert_close(direction, direction[:1].expand(4))


def test_wrong_arguments_are_named():
    net = Net()
    with pytest.raises(ValueError, match=r"losses: shape \(\)"):
        task_gradients(net.losses().sum(), net.shared)
    with pytest.raises(ValueError, match="shared: holds no parameter"):
        task_gradients(net.losses(), [])
    with pytest.raises(NotImplementedError, match="GradientMethod has no solve"):
        GradientMethod()(matrix(0))
