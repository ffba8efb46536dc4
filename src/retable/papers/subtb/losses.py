"""Objectives of GFlowNets on plain tensors: SubTB(lambda), TB, DB and flow matching.

With ``d_i = log P_F(s_{i+1}|s_i) - log P_B(s_i|s_{i+1})`` and ``u_t = f_t - sum_{i<t} d_i``, where
``f_t`` is the log flow of the state and ``f_n = log R``, the residual of the subtrajectory from
``m`` to ``k`` is ``u_m - u_k``. A weighted sum of squared residuals is then the quadratic form of a
graph's Laplacian, ``sum_m u_m (L u)_m``, whose gradient is ``2 L u``: value and gradient cost one
product with the weights, and no tensor over pairs of states is made (:mod:`.pairs`).
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from retable.papers.subtb import pairs
from retable.papers.subtb.trajectories import steps_within

Weighting = Literal["within", "pooled", "geometric", "equal_within", "equal"]
Form = Literal["recursion", "matrix"]


def subtb_loss(
    log_flow: Tensor,
    log_pf: Tensor,
    log_pb: Tensor,
    lengths: Tensor,
    lam: float,
    weighting: Weighting = "within",
    form: Form = "recursion",
    max_length: int | None = None,
) -> Tensor:
    """SubTB(lambda): squared residuals of all subtrajectories, those of length ``j`` by lambda^j.

    Sums are carried in double precision whatever the inputs are, and weights are scaled by the
    largest one, so that any ``lam`` from 0 to infinity gives a finite loss: 0 means the one-step
    residuals alone, infinity the whole trajectory alone. Nothing is detached: both ends of a
    subtrajectory are learned.

    Args:
        log_flow: ``(B, T + 1)``, its entry at each trajectory's end is ``log R``.
        log_pf: ``(B, T)``.
        log_pb: ``(B, T)``.
        lengths: ``(B,)``, from 1 to ``T``; what lies beyond is never read.
        lam: lambda, not negative.
        weighting: ``within``, the weights of each trajectory sum to one and the mean is taken over
            the batch (the paper's equation per trajectory; torchgfn's ``geometric_within``);
            ``pooled``, they sum to one over the whole batch (the authors' molecule code);
            ``geometric``, means over the batch of each length, weighted by lambda^j (torchgfn);
            ``equal_within`` and ``equal``, the first two with lambda = 1.
        form: ``recursion``, O(T) work per trajectory, or ``matrix``, O(T^2): the same number.
        max_length: of the subtrajectories that count; all where left out. Needs ``matrix``.

    Returns:
        A scalar of the inputs' type. Differentiable once.

    Raises:
        ValueError: a wrong shape, lambda, length or combination of options.
    """
    _check(log_flow, log_pf, log_pb, lengths)
    if math.isnan(lam) or lam < 0:
        raise ValueError(f"lam: {lam} is not a number from 0 to infinity")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length: {max_length} is less than 1")
    if max_length is not None and form != "matrix":
        raise ValueError("max_length: a truncated sum needs form='matrix'")
    if weighting in ("equal", "equal_within"):
        lam, weighting = 1.0, "pooled" if weighting == "equal" else "within"
    elif weighting not in ("within", "pooled", "geometric"):
        known = "within, pooled, geometric, equal_within, equal"
        raise ValueError(f"weighting: '{weighting}' is none of {known}")
    if form not in ("recursion", "matrix"):
        raise ValueError(f"form: '{form}' is none of recursion, matrix")
    options = lam, weighting, form, max_length
    return cast("Tensor", _SubTB.apply(log_flow, log_pf, log_pb, lengths, options))


class _SubTB(Function):
    """The loss and its gradient in one pass."""

    @staticmethod
    def forward(
        ctx: Any, log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor, options: Any
    ) -> Tensor:
        lam, weighting, form, max_length = options
        steps = log_pf.shape[1]
        real = steps_within(lengths + 1, steps + 1)
        u = potential(log_flow, log_pf, log_pb, real)
        by_length = weighting == "geometric"
        laplacian, weights = pairs.laplacian(
            u, real, lengths, lam, form=form, max_length=max_length, by_length=by_length
        )
        if weighting == "within":
            scale = 1 / (weights * len(weights))
        else:
            # Weights are in units of the trajectory's largest; a longer one's may be larger.
            unit = pairs.relative_unit(lengths, lam, max_length=max_length, by_length=by_length)
            scale = unit / (unit * weights).sum()
        laplacian *= scale.unsqueeze(1)
        loss = torch.dot(u.flatten(), laplacian.flatten())
        dtype = log_flow.dtype
        grad_flow = laplacian.mul_(2)
        # u_t holds -d_i for every i < t.
        grad_pb = grad_flow[:, 1:].flip(1).cumsum(1).flip(1)
        ctx.save_for_backward(grad_flow.to(dtype), grad_pb.to(log_pb.dtype))
        return loss.to(dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return _scaled(ctx, *grad_outputs)


@once_differentiable
def _scaled(ctx: Any, grad_output: Tensor) -> Any:
    grad_flow, grad_pb = ctx.saved_tensors
    flow, pf, pb = ctx.needs_input_grad[:3]
    if pf or pb:
        grad_pb = grad_pb * grad_output
    return (
        grad_flow * grad_output if flow else None,
        -grad_pb if pf else None,
        grad_pb if pb else None,
        None,
        None,
    )


def potential(log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, real: Tensor) -> Tensor:
    """``u_t = f_t - sum_{i<t} d_i`` in double precision, less its mean; 0 in the padding.

    Args:
        log_flow: ``(B, T + 1)``.
        log_pf: ``(B, T)``.
        log_pb: ``(B, T)``.
        real: ``(B, T + 1)``, true up to and with each trajectory's end.
    """
    u = torch.where(real, log_flow.double(), 0.0)
    d = torch.where(real[:, 1:], log_pf.double() - log_pb, 0.0)
    u[:, 1:] -= d.cumsum(1)
    # The sums go on beyond a trajectory's end, so that the padding has to be cleared again.
    u = torch.where(real, u, 0.0)
    mean = u.sum(1, keepdim=True) / real.sum(1, keepdim=True)
    return torch.where(real, u - mean, 0.0)


def tb_loss(
    log_z: Tensor, log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, lengths: Tensor
) -> Tensor:
    """Trajectory balance: mean of ``(log Z + sum log P_F - log R - sum log P_B)^2``.

    Args:
        log_z: scalar, or ``(B,)`` where ``log F(s_0)`` takes its place.
        log_pf: ``(B, T)``.
        log_pb: ``(B, T)``.
        log_reward: ``(B,)``.
        lengths: ``(B,)``.
    """
    _check_lengths(lengths, *log_pf.shape)
    mask = steps_within(lengths, log_pf.shape[1])
    total = torch.where(mask, log_pf - log_pb, 0.0).sum(1)
    return (log_z + total - log_reward).square().mean()


def transition_residuals(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """One-step residuals ``f_t + log P_F - f_{t+1} - log P_B``, 0 in the padding, and the mask.

    Args:
        log_flow: ``(B, T + 1)``, its entry at each trajectory's end is ``log R``.
        log_pf: ``(B, T)``.
        log_pb: ``(B, T)``.
        lengths: ``(B,)``.

    Returns:
        Both ``(B, T)``.
    """
    _check(log_flow, log_pf, log_pb, lengths)
    mask = steps_within(lengths, log_pf.shape[1])
    residual = log_flow[:, :-1] + log_pf - log_flow[:, 1:] - log_pb
    return torch.where(mask, residual, 0.0), mask


def db_loss(log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor) -> Tensor:
    """Detailed balance: mean of the squared one-step residuals over all transitions of the batch.

    Long trajectories count more; arguments as for :func:`transition_residuals`.
    """
    residual, _ = transition_residuals(log_flow, log_pf, log_pb, lengths)
    return residual.square().sum() / lengths.sum()


def modified_db_loss(log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor) -> Tensor:
    """Detailed balance per trajectory: the limit of SubTB(lambda) for lambda to 0.

    Mean over each trajectory's transitions, then over the batch.
    """
    residual, _ = transition_residuals(log_flow, log_pf, log_pb, lengths)
    return (residual.square().sum(1) / lengths).mean()


def fm_loss(
    log_inflow: Tensor,
    log_outflow: Tensor,
    log_reward: Tensor,
    terminal: Tensor,
    *,
    epsilon: float = 2.5e-5,
    terminal_weight: float = 1.0,
) -> Tensor:
    """Flow matching: squared differences of ``log(eps + inflow)`` and ``log(eps + R + outflow)``.

    The default ``epsilon`` is that of the authors' molecule code, whose balanced loss is
    ``terminal_weight = 10``.

    Args:
        log_inflow: ``(N, P)``, log flows of the edges from a state's parents; a large negative
            number where there is none.
        log_outflow: ``(N, A)``, log flows of the edges to its children; not read if terminal.
        log_reward: ``(N,)``, read where terminal.
        terminal: ``(N,)``, boolean.
        epsilon: flow that is added on both sides.
        terminal_weight: of the mean over terminal states; the mean over the others has 1.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon: {epsilon} is not positive")
    floor = log_inflow.new_full((len(log_inflow), 1), math.log(epsilon))
    inflow = torch.cat([floor, log_inflow], 1).logsumexp(1)
    outflow = torch.cat([floor, log_outflow], 1).logsumexp(1)
    out = torch.where(terminal, torch.logaddexp(floor[:, 0], log_reward), outflow)
    squared = (inflow - out).square()
    n_terminal = terminal.sum()
    inner = torch.where(terminal, 0.0, squared).sum() / (len(terminal) - n_terminal).clamp(min=1)
    ends = torch.where(terminal, squared, 0.0).sum() / n_terminal.clamp(min=1)
    return terminal_weight * ends + inner


def _check(log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor) -> None:
    batch, steps = log_pf.shape
    if log_flow.shape != (batch, steps + 1) or log_pb.shape != log_pf.shape:
        raise ValueError(
            f"shapes: log_pf is {tuple(log_pf.shape)}, so log_flow has to be {(batch, steps + 1)}"
            f" and log_pb {(batch, steps)}; they are {tuple(log_flow.shape)} and"
            f" {tuple(log_pb.shape)}"
        )
    _check_lengths(lengths, batch, steps)


def _check_lengths(lengths: Tensor, batch: int, steps: int) -> None:
    if lengths.shape != (batch,):
        raise ValueError(f"lengths: {tuple(lengths.shape)} has to be {(batch,)}")
    shortest, longest = (int(x) for x in torch.aminmax(lengths))
    if shortest < 1 or longest > steps:
        raise ValueError(f"lengths: {shortest} to {longest} has to lie in 1 to {steps}")
