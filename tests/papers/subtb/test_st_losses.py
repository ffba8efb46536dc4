"""SubTB(lambda) against brute force, closed forms, its limits, and the ways to get it wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.subtb.losses import (
    db_loss,
    fm_loss,
    modified_db_loss,
    subtb_loss,
    tb_loss,
)
from retable.papers.subtb.trajectories import end_with_reward

FORMS = ("recursion", "matrix")
LAMBDAS = (0.0, 0.5, 0.9, 1.0, 1.1, 1.9)
WEIGHTINGS = ("within", "pooled", "geometric", "equal_within", "equal")


def batch(lengths, seed=0, pad=0, dtype=torch.float64, scale=1.0):
    """Random log_flow, log_pf, log_pb and lengths; NaN is what the padding holds."""
    generator = torch.Generator().manual_seed(seed)
    n, steps = len(lengths), max(lengths) + pad
    lengths = torch.tensor(lengths)
    flow, pf, pb = (
        scale * torch.randn(n, size, generator=generator, dtype=torch.float64)
        for size in (steps + 1, steps, steps)
    )
    step = torch.arange(steps + 1)
    flow[step > lengths.unsqueeze(1)] = math.nan
    pf[step[:-1] >= lengths.unsqueeze(1)] = math.nan
    pb[step[:-1] >= lengths.unsqueeze(1)] = math.nan
    parts = [x.to(dtype).requires_grad_() for x in (flow, pf, pb)]
    return *parts, lengths


def residuals(flow, pf, pb, lengths):
    """All subtrajectories: (trajectory, length, squared residual), by three loops."""
    flow, pf, pb = (x.detach() for x in (flow, pf, pb))
    found = []
    for b, n in enumerate(lengths.tolist()):
        for m in range(n):
            for k in range(m + 1, n + 1):
                delta = float(flow[b, m]) - float(flow[b, k])
                for i in range(m, k):
                    delta += float(pf[b, i]) - float(pb[b, i])
                found.append((b, k - m, delta**2))
    return found


def brute(parts, lam, weighting, limit=math.inf):
    found = [r for r in residuals(*parts) if r[1] <= limit]
    trajectories = range(len(parts[3]))
    if weighting in ("equal", "equal_within"):
        lam, weighting = 1.0, {"equal": "pooled", "equal_within": "within"}[weighting]
    weigh = lambda rows: [(lam ** (j - 1), r) for _, j, r in rows]  # noqa: E731
    mean = lambda pairs: sum(w * r for w, r in pairs) / sum(w for w, _ in pairs)  # noqa: E731
    if weighting == "within":
        per = [mean(weigh([r for r in found if r[0] == b])) for b in trajectories]
        return sum(per) / len(per)
    if weighting == "pooled":
        return mean(weigh(found))
    longest = max(j for _, j, _ in found)
    means = []
    for j in range(1, longest + 1):
        same = [r for _, length, r in found if length == j]
        means.append((0, j, sum(same) / len(same)))
    return mean(weigh(means))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("lam", LAMBDAS)
def test_three_loops(lam, weighting, form):
    parts = batch([5, 1, 3, 8], pad=2)
    found = subtb_loss(*parts, lam, weighting, form)
    assert found.item() == pytest.approx(brute(parts, lam, weighting), rel=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.floats(0, 3),
    st.sampled_from(WEIGHTINGS),
    st.integers(0, 99),
)
def test_both_forms_are_the_same_number(lengths, lam, weighting, seed):
    parts = batch(lengths, seed)
    one, other = (subtb_loss(*parts, lam, weighting, form) for form in FORMS)
    assert one.item() == pytest.approx(other.item(), rel=1e-10)
    assert one.item() == pytest.approx(brute(parts, lam, weighting), rel=1e-9)


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_forms_agree_over_several_blocks_of_the_recursion(lam, weighting):
    parts = batch([237, 130, 64, 65, 1])
    one, other = (subtb_loss(*parts, lam, weighting, form) for form in FORMS)
    assert one.item() == pytest.approx(other.item(), rel=1e-10)
    grads = [torch.autograd.grad(x, parts[:3]) for x in (one, other)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["within", "pooled", "geometric"])
@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0, 1.9, math.inf])
@pytest.mark.parametrize("form", FORMS)
def test_gradient(lam, weighting, form):
    flow, pf, pb, lengths = batch([6, 1, 4])
    inputs = [torch.where(x.isnan(), 0.0, x).detach().requires_grad_() for x in (flow, pf, pb)]
    assert torch.autograd.gradcheck(
        lambda *x: subtb_loss(*x, lengths, lam, weighting, form), inputs
    )


@pytest.mark.parametrize("limit", [1, 2, 4, 99])
@pytest.mark.parametrize("lam", [0.0, 0.9, 1.9])
@pytest.mark.parametrize("weighting", ["within", "pooled", "geometric"])
def test_truncated_sum(lam, limit, weighting):
    parts = batch([7, 3, 5])
    found = subtb_loss(*parts, lam, weighting, "matrix", limit)
    assert found.item() == pytest.approx(brute(parts, lam, weighting, limit), rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["within", "pooled", "geometric"])
def test_truncated_sum_of_a_large_lambda_is_that_of_the_longest_that_count(weighting):
    """Weights relative to the whole trajectory's, 1e4^-86 and less, would all be zero."""
    parts = batch([90, 83])
    found = subtb_loss(*parts, 1e4, weighting, "matrix", 4)
    expected = brute(parts, 1e4, weighting, 4)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    limit = subtb_loss(*parts, math.inf, weighting, "matrix", 4)
    assert limit.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("lam", "expected"), [(0.5, 3.8), (1.0, 14 / 3), (0.0, 2.5), (math.inf, 9.0), (1e9, 9.0)]
)
def test_closed_form_of_two_steps(lam, expected, form):
    flow, none = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64), torch.zeros(1, 2)
    found = subtb_loss(flow, none, none, torch.tensor([2]), lam, form=form)
    assert found.item() == pytest.approx(expected, abs=1e-7)


def test_lambda_one_is_twice_the_unbiased_variance():
    flow, pf, pb, lengths = batch([9])
    u = flow[0].clone()
    u[1:] -= (pf[0] - pb[0]).cumsum(0)
    expected = 2 * u.var(unbiased=True)
    assert subtb_loss(flow, pf, pb, lengths, 1.0).item() == pytest.approx(expected.item())


def test_lambda_zero_is_db_per_trajectory_and_not_db():
    parts = batch([1, 5, 2])
    small = subtb_loss(*parts, 1e-9).item()
    assert small == pytest.approx(modified_db_loss(*parts).item(), rel=1e-7)
    assert subtb_loss(*parts, 0.0).item() == pytest.approx(modified_db_loss(*parts).item())
    assert abs(small / db_loss(*parts).item() - 1) > 1e-2
    same = batch([4, 4, 4])
    assert modified_db_loss(*same).item() == pytest.approx(db_loss(*same).item())


@pytest.mark.parametrize("form", FORMS)
def test_large_lambda_is_tb_with_the_flow_of_the_start(form):
    flow, pf, pb, lengths = batch([1, 5, 237], dtype=torch.float32)
    log_reward = flow.gather(1, lengths.unsqueeze(1)).squeeze(1)
    expected = tb_loss(flow[:, 0], pf, pb, log_reward, lengths)
    for lam in (1e6, math.inf):
        found = subtb_loss(flow, pf, pb, lengths, lam, form=form)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_tb_by_hand():
    _, pf, pb, lengths = batch([2, 3])
    log_reward = torch.tensor([0.5, -1.0])
    expected = 0.0
    for b, n in enumerate([2, 3]):
        total = 0.3 - float(log_reward[b])
        total += sum(pf[b, i].item() - pb[b, i].item() for i in range(n))
        expected += total**2 / 2
    found = tb_loss(torch.tensor(0.3), pf, pb, log_reward, lengths)
    assert found.item() == pytest.approx(expected)


def test_db_is_the_mean_over_all_transitions():
    parts = batch([2, 5])
    ones = [r for _, j, r in residuals(*parts) if j == 1]
    assert len(ones) == 7
    assert db_loss(*parts).item() == pytest.approx(sum(ones) / 7)


def test_within_is_the_mean_of_single_losses_and_pooled_is_not():
    flow, pf, pb, lengths = batch([1, 5])
    single = [
        subtb_loss(flow[b : b + 1], pf[b : b + 1], pb[b : b + 1], lengths[b : b + 1], 0.9)
        for b in (0, 1)
    ]
    mean = (single[0] + single[1]).item() / 2
    assert subtb_loss(flow, pf, pb, lengths, 0.9).item() == pytest.approx(mean)
    assert abs(subtb_loss(flow, pf, pb, lengths, 0.9, "pooled").item() / mean - 1) > 1e-2


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lam", [0.9, 1.9])
def test_padding_changes_neither_loss_nor_gradient(lam, weighting, form):
    flow, pf, pb, lengths = batch([3, 6])
    found = subtb_loss(flow, pf, pb, lengths, lam, weighting, form)
    grads = torch.autograd.grad(found, (flow, pf, pb))
    for garbage in (1e30, math.inf, -math.inf, math.nan):
        padded = [
            torch.cat([x, torch.full((2, 4), garbage)], 1).detach().requires_grad_()
            for x in (flow, pf, pb)
        ]
        again = subtb_loss(*padded, lengths, lam, weighting, form)
        assert again.item() == pytest.approx(found.item(), rel=1e-12)
        for a, b in zip(torch.autograd.grad(again, padded), grads, strict=True):
            torch.testing.assert_close(a[:, : b.shape[1]], b, rtol=1e-9, atol=1e-12)
            assert not a[:, b.shape[1] :].any()


@pytest.mark.parametrize("loss", [db_loss, modified_db_loss])
def test_padding_does_not_leak_into_the_gradient_of_db(loss):
    parts = batch([3, 6])
    for grad in torch.autograd.grad(loss(*parts), parts[:3]):
        assert grad.isfinite().all()


def test_no_gradient_reaches_the_end():
    flow, pf, pb, lengths = batch([2, 5])
    whole = torch.where(flow.isnan(), 7.0, flow).detach().requires_grad_()
    log_reward = torch.tensor([0.1, 0.2], requires_grad=True)
    ended = end_with_reward(whole, log_reward, lengths)
    assert ended[0, 2].item() == pytest.approx(0.1)
    assert ended[1, 5].item() == pytest.approx(0.2)
    subtb_loss(ended, pf, pb, lengths, 0.9).backward()
    assert log_reward.grad is None
    assert whole.grad is not None
    assert whole.grad[0, 2] == 0
    assert whole.grad[1, 5] == 0
    assert (whole.grad[1, :5] != 0).all()


def test_flows_without_a_last_column_get_one_for_the_reward():
    ended = end_with_reward(torch.ones(2, 3), torch.tensor([5.0, 6.0]), torch.tensor([3, 1]))
    assert ended[:, :].tolist() == [[1, 1, 1, 5], [1, 6, 1, 0]]


def test_both_ends_of_a_subtrajectory_are_learned():
    none = torch.zeros(1, 1, dtype=torch.float64)
    flow = torch.tensor([[0.7, -0.4]], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(subtb_loss(flow, none, none, torch.tensor([1]), 0.9), flow)
    assert grad[0, 0].item() == pytest.approx(2 * (0.7 + 0.4))
    flow = torch.tensor([[0.3, 1.0, -0.2]], dtype=torch.float64, requires_grad=True)
    none = torch.zeros(1, 2, dtype=torch.float64)
    (grad,) = torch.autograd.grad(subtb_loss(flow, none, none, torch.tensor([2]), 1.0), flow)
    assert grad[0, 1].item() == pytest.approx(2 / 3 * ((1.0 - 0.3) + (1.0 + 0.2)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lam", [0.0, 1e-9, 0.5, 0.9, 1.0, 1.9, 1e6])
@pytest.mark.parametrize("weighting", ["within", "pooled", "geometric"])
def test_long_trajectories_in_single_precision(lam, weighting, form):
    wide = batch([237, 237, 5], scale=10.0)
    narrow = [x.detach().float().requires_grad_() for x in wide[:3]]
    expected = subtb_loss(*wide, lam, weighting, form)
    found = subtb_loss(*narrow, wide[3], lam, weighting, form)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    for a, b in zip(
        torch.autograd.grad(found, narrow), torch.autograd.grad(expected, wide[:3]), strict=True
    ):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize("lam", [0.5, 1.9])
def test_adding_a_constant_to_all_flows_changes_nothing(lam):
    flow, pf, pb, lengths = batch([4, 2])
    found = subtb_loss(flow, pf, pb, lengths, lam).item()
    assert subtb_loss(flow + 1000, pf, pb, lengths, lam).item() == pytest.approx(found, rel=1e-9)


def test_flow_matching_by_hand():
    log_in = torch.tensor([[0.1, -1e9], [0.2, 0.4]], dtype=torch.float64)
    log_out = torch.tensor([[9.0, 9.0], [-0.3, 0.5]], dtype=torch.float64)
    reward = torch.tensor([0.7, 5.0], dtype=torch.float64)
    terminal, eps = torch.tensor([True, False]), 1e-3
    end = math.log(eps + math.exp(0.1)) - math.log(eps + math.exp(0.7))
    inner = math.log(eps + math.exp(0.2) + math.exp(0.4))
    inner -= math.log(eps + math.exp(-0.3) + math.exp(0.5))
    found = fm_loss(log_in, log_out, reward, terminal, epsilon=eps, terminal_weight=10.0)
    assert found.item() == pytest.approx(10 * end**2 + inner**2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam: -1.0"),
        ({"lam": math.nan}, "lam: nan"),
        ({"weighting": "within_geometric"}, "within, pooled, geometric"),
        ({"form": "loop"}, "recursion, matrix"),
        ({"max_length": 3}, "form='matrix'"),
        ({"max_length": 0, "form": "matrix"}, "less than 1"),
    ],
)
def test_wrong_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        subtb_loss(*batch([2]), **{"lam": 0.9, **change})


def test_wrong_shapes_and_lengths_are_refused():
    flow, pf, pb, lengths = batch([2, 3])
    with pytest.raises(ValueError, match=r"log_flow has to be \(2, 4\)"):
        subtb_loss(flow[:, :-1], pf, pb, lengths, 0.9)
    with pytest.raises(ValueError, match="0 to 4 has to lie in 1 to 3"):
        subtb_loss(flow, pf, pb, torch.tensor([0, 4]), 0.9)
    with pytest.raises(ValueError, match=r"\(3,\) has to be \(2,\)"):
        subtb_loss(flow, pf, pb, torch.tensor([1, 2, 3]), 0.9)
    with pytest.raises(ValueError, match="2 to 5 has to lie in 1 to 3"):
        tb_loss(flow[:, 0], pf, pb, flow[:, -1], torch.tensor([2, 5]))
