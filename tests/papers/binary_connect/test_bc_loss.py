"""Square hinge loss, error rate and the schedule of the learning rate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.binary_connect.losses import square_hinge
from retable.papers.binary_connect.metrics import ErrorRate
from retable.papers.binary_connect.module import error_rate
from retable.papers.binary_connect.schedule import ExponentialDecay


def signs(labels, n_classes):
    return 2 * torch.eye(n_classes, dtype=torch.float64)[labels] - 1


@pytest.mark.parametrize(("reduction", "at_zero"), [("mean", 1.0), ("sum", 10.0)])
def test_outputs_at_the_targets_cost_nothing_and_zeros_cost_one_per_class(reduction, at_zero):
    labels = torch.tensor([3, 0, 9])
    assert square_hinge(signs(labels, 10), labels, reduction=reduction) == 0
    assert square_hinge(5 * signs(labels, 10), labels, reduction=reduction) == 0
    assert square_hinge(torch.zeros(3, 10), labels, reduction=reduction) == at_zero


def test_the_sum_over_classes_is_the_default():
    labels = torch.tensor([1, 2])
    assert square_hinge(torch.zeros(2, 4), labels) == 4


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 5),
    n_classes=st.integers(2, 6),
    seed=st.integers(0, 10_000),
    reduction=st.sampled_from(["sum", "mean"]),
)
def test_loss_and_gradient_are_those_of_a_loop(n, n_classes, seed, reduction):
    generator = torch.Generator().manual_seed(seed)
    y = 2 * torch.randn(n, n_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(n_classes, (n,), generator=generator)
    y.requires_grad_()
    loss = square_hinge(y, labels, reduction=reduction)
    loss.backward()
    total, gradient = 0.0, torch.zeros(n, n_classes, dtype=torch.float64)
    count = n if reduction == "sum" else n * n_classes
    for item in range(n):
        for k in range(n_classes):
            t = 1.0 if labels[item] == k else -1.0
            slack = max(0.0, 1 - t * y[item, k].item())
            total += slack**2
            gradient[item, k] = -2 * t * slack / count
    assert loss.item() == pytest.approx(total / count, rel=1e-12)
    torch.testing.assert_close(y.grad, gradient)


def test_error_rate_counts_wrong_predictions_over_batches_of_any_size():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(57, 10, generator=generator)
    labels = torch.randint(10, (57,), generator=generator)
    wrong = sum(int(o.argmax() != y) for o, y in zip(outputs, labels, strict=True))
    assert error_rate(outputs, labels).item() == wrong / 57
    metric = ErrorRate()
    for part in (slice(0, 50), slice(50, 57)):
        metric.update(outputs[part], labels[part])
    assert metric.compute().item() == wrong / 57
    assert 0 < wrong < 57


def test_error_rate_of_a_few_wrong_ones_of_ten_thousand_loses_no_digit():
    outputs = torch.eye(2)[torch.zeros(10_000, dtype=torch.long)]
    labels = torch.zeros(10_000, dtype=torch.long)
    labels[:118] = 1
    metric = ErrorRate()
    metric.update(outputs, labels)
    assert metric.compute().item() == 0.0118


def rates(optimizer, scheduler, epochs):
    found = []
    for _ in range(epochs):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def parameters(n=1):
    return [torch.nn.Parameter(torch.zeros(1)) for _ in range(n)]


def test_rates_fall_exponentially_from_the_first_to_the_last():
    optimizer = torch.optim.SGD(parameters(), lr=0.3)
    found = rates(optimizer, ExponentialDecay(optimizer, 1000, final=0.01), 1001)
    for k, (rate,) in enumerate(found):
        assert rate == pytest.approx(0.3 * (0.01 / 0.3) ** (k / 1000), rel=1e-9)
    assert found[0] == [0.3]
    assert found[1000][0] == pytest.approx(0.01, rel=1e-9)


def test_groups_keep_the_ratio_of_their_rates():
    one, two, three = parameters(3)
    groups = [{"params": [one]}, {"params": [two], "lr": 0.3 * 36.95}, {"params": [three], "lr": 9}]
    optimizer = torch.optim.SGD(groups, lr=0.3)
    found = rates(optimizer, ExponentialDecay(optimizer, 20, final=0.01), 21)
    for k, row in enumerate(found):
        factor = (0.01 / 0.3) ** (k / 20)
        assert row == pytest.approx([0.3 * factor, 0.3 * 36.95 * factor, 9 * factor])


def test_a_ratio_says_the_same_as_a_last_rate():
    by_ratio, by_final = (torch.optim.SGD(parameters(), lr=0.3) for _ in range(2))
    one = rates(by_ratio, ExponentialDecay(by_ratio, 10, ratio=0.01 / 0.3), 11)
    other = rates(by_final, ExponentialDecay(by_final, 10, final=0.01), 11)
    assert [r for (r,) in one] == pytest.approx([r for (r,) in other])


@pytest.mark.parametrize("given_", [{}, {"final": 0.01, "ratio": 0.1}])
def test_neither_or_both_of_last_rate_and_ratio_are_refused(given_):
    optimizer = torch.optim.SGD(parameters(), lr=0.3)
    with pytest.raises(ValueError, match="one of final and ratio"):
        ExponentialDecay(optimizer, 10, **given_)


def test_a_resumed_schedule_goes_on_where_it_was():
    whole = torch.optim.SGD(parameters(), lr=0.3)
    expected = rates(whole, ExponentialDecay(whole, 10, final=0.01), 10)
    first = torch.optim.SGD(parameters(), lr=0.3)
    schedule = ExponentialDecay(first, 10, final=0.01)
    found = rates(first, schedule, 4)
    second = torch.optim.SGD(parameters(), lr=0.3)
    resumed = ExponentialDecay(second, 10, final=0.01)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert found + rates(second, resumed, 6) == expected
