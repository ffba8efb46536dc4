"""The optimiser and its schedules: closed forms of single steps, and the plateau by a script."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retable.papers.signed_supermask.sgdw import SGDW, ExponentialDecay, Plateau


def parameter(value=2.0, gradient=0.0):
    p = nn.Parameter(torch.tensor([value], dtype=torch.float64))
    p.grad = torch.tensor([gradient], dtype=torch.float64)
    return p


def test_decay_is_not_times_the_rate_and_not_in_the_momentum():
    """Without a gradient M becomes M (1 - wd), whatever the rate, and v stays 0."""
    for rate in (0.05, 5.0):
        p = parameter()
        optimizer = SGDW([p], rate, 5e-4)
        for step in range(1, 4):
            optimizer.step()
            assert p.item() == pytest.approx(2 * (1 - 5e-4) ** step, rel=1e-15)
            assert optimizer.state[p]["velocity"].item() == 0


def test_decay_times_the_rate_is_an_option():
    p = parameter()
    SGDW([p], 0.05, 5e-4, times_lr=True).step()
    assert p.item() == pytest.approx(2 * (1 - 0.05 * 5e-4), rel=1e-15)


@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum_is_keras_s(nesterov):
    """v has the rates of its own steps in it; torch's buffer is multiplied by the newest one."""
    p = parameter()
    optimizer = SGDW([p], 0.1, 0.01, nesterov=nesterov)
    m, v = 2.0, 0.0
    for rate, gradient in ((0.1, 1.0), (0.02, -3.0), (0.5, 0.4)):
        optimizer.param_groups[0]["lr"] = rate
        p.grad.fill_(gradient)
        optimizer.step()
        m -= 0.01 * m
        v = 0.9 * v - rate * gradient
        m += 0.9 * v - rate * gradient if nesterov else v
        assert p.item() == pytest.approx(m, rel=1e-14)


def test_at_one_rate_without_decay_it_is_torch_s():
    one, other = parameter(), parameter()
    pairs = [(one, SGDW([one], 0.1)), (other, torch.optim.SGD([other], 0.1, 0.9, nesterov=True))]
    for gradient in (1.0, -0.3, 0.2, 5.0):
        for p, optimizer in pairs:
            p.grad.fill_(gradient)
            optimizer.step()
        assert one.item() == pytest.approx(other.item(), rel=1e-14)


@pytest.mark.parametrize("staircase", [False, True])
def test_rate_and_decay_fall_together(staircase):
    optimizer = SGDW([parameter()], 0.05, 5e-4)
    scheduler = ExponentialDecay(optimizer, 4, every=2.5, staircase=staircase)
    for t in range(35):
        exponent = t // 10 if staircase else t / 10
        group = optimizer.param_groups[0]
        assert group["lr"] == pytest.approx(0.05 * 0.9**exponent, rel=1e-13), t
        assert group["weight_decay"] == pytest.approx(5e-4 * 0.9**exponent, rel=1e-13), t
        optimizer.step()
        scheduler.step()


def test_the_decay_can_stay():
    optimizer = SGDW([parameter()], 0.05, 5e-4)
    scheduler = ExponentialDecay(optimizer, 1, every=1, decays=False)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.9)
    assert optimizer.param_groups[0]["weight_decay"] == 5e-4


def test_steps_of_an_epoch_that_nobody_has_set_are_refused():
    optimizer = SGDW([parameter()], 0.05)
    scheduler = ExponentialDecay(optimizer)
    optimizer.step()
    with pytest.raises(ValueError, match="steps_per_epoch is None"):
        scheduler.step()


def test_a_resumed_schedule_goes_on():
    optimizer = SGDW([parameter()], 0.05, 5e-4)
    scheduler = ExponentialDecay(optimizer, 4, every=1)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    again = SGDW([parameter()], 0.05, 5e-4)
    resumed = ExponentialDecay(again, 4, every=1)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    for one, which in ((optimizer, scheduler), (again, resumed)):
        one.step()
        which.step()
    assert again.param_groups[0]["weight_decay"] == optimizer.param_groups[0]["weight_decay"]
    assert again.param_groups[0]["weight_decay"] == pytest.approx(5e-4 * 0.9)


def rates(losses, **options):
    optimizer = SGDW([parameter()], 1.0, 1.0)
    scheduler = Plateau(optimizer, **options)
    found = []
    for loss in losses:
        scheduler.step(loss)
        assert optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["weight_decay"]
        found.append(optimizer.param_groups[0]["lr"])
    falls = [e for e in range(1, len(found)) if found[e] < found[e - 1]]
    return falls, found[-1], scheduler


def test_the_plateau_of_a_constant_loss():
    """From epoch 10 on 16 epochs are waited; then one is enough, after each ten of cooldown."""
    falls, last, scheduler = rates([1.0] * 80)
    assert falls == [25, 36, 47, 58, 69]
    assert last == pytest.approx(0.2**5)
    assert scheduler.done


def test_what_was_waited_is_never_forgotten():
    losses = [1.0] * 20 + [0.9 - 0.01 * i for i in range(30)] + [0.61] * 20
    # 10 .. 19 are waited, and six more from 50 on; at 52 the least of the 15 before is still less.
    falls, _, _ = rates(losses)
    assert falls == [55, 66]


def test_progress_has_to_be_more_than_delta_and_is_against_the_least_before():
    assert rates([1 - 2e-4 * i for i in range(60)])[0] == []
    assert rates([1 - 0.9e-4 * i for i in range(60)])[0] == [25, 36, 47, 58]
    # Every second epoch is worse than the one before: the sixteen from 11 to 41 are waited.
    ups_and_downs = [1 - 1e-3 * i + 0.1 * (i % 2) for i in range(60)]
    assert rates(ups_and_downs)[0] == [41, 53]


def test_an_epoch_may_be_several_passes():
    """The mean of their losses counts: it stays, though every second one is less than the last."""
    falls, _, scheduler = rates([0.2 if i % 2 else 1.0 for i in range(160)], passes=2)
    assert falls == [2 * e + 1 for e in (25, 36, 47, 58, 69)]
    assert len(scheduler.losses) == 80


def test_a_resumed_plateau_goes_on():
    optimizer = SGDW([parameter()], 1.0, 1.0)
    scheduler = Plateau(optimizer)
    for _ in range(25):
        scheduler.step(1.0)
    again = SGDW([parameter()], 1.0, 1.0)
    resumed = Plateau(again)
    resumed.load_state_dict(scheduler.state_dict())
    resumed.step(1.0)
    assert again.param_groups[0]["lr"] == pytest.approx(0.2)
