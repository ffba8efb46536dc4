"""The hypergrid on the CPU as machine code, by numba (extra ``subtb``).

A trajectory is some forty steps one after the other on a handful of states each: as tensor
operations, most of the time goes into starting them. These functions do what the tensor code of
:mod:`.rollout` does, which other devices use and which the tests hold them to.

Shapes: B trajectories, N visited states in order of time, S cells, D dimensions; D + 1 actions,
the last of which stops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

_F = TypeVar("_F", bound=Callable[..., Any])
_njit: Any = numba.njit

ROWS = 8
"""States that a matrix product takes at once: OpenBLAS has a fast way for small products, and takes
more than one thread for larger ones."""


def _compile(function: _F) -> _F:
    """Compile, typed as what is compiled; without any change of the arithmetic."""
    return cast(_F, _njit(cache=True, nogil=True, error_model="numpy")(function))


@_compile
def _activate(rows: Any, bias: Any, slope: Any) -> None:
    """``leaky_relu(rows + bias)`` in place."""
    for i in range(rows.shape[0]):
        row = rows[i]
        for j in range(len(bias)):
            value = row[j] + bias[j]
            row[j] = value if value > 0 else value * slope


@_compile
def walk(
    weights: Any,
    biases: Any,
    head: Any,
    head_bias: Any,
    slope: Any,
    noise: Any,
    scale: Any,
    coordinates: Any,
    moves: Any,
    hidden: Any,
    path: Any,
) -> int:
    """Sample B trajectories with a perceptron on one-hot coordinates.

    Args:
        weights: of the hidden layers, ``(inputs, outputs)``; the first ``(D H, width)``.
        biases: of the hidden layers.
        head: ``(width, D + 1)``, columns of the last layer that give the actions' logits.
        head_bias: ``(D + 1,)``.
        slope: of the leaky ReLU.
        noise: ``(max steps, B, D + 1)``, added to the logits; the largest sum is the action.
        scale: ``(max steps, B)``, multiplies the logits; like the noise, by place among those that
            still run.
        coordinates: ``(S, D)``.
        moves: ``(D + 1,)``, what an action adds to a cell's number.
        hidden: one ``(max steps * B, width)`` per hidden layer: gets the activations.
        path: ``(5, max steps * B)``: gets, per visited state, cell, trajectory, step, the action
            taken there, and the one that led there (D at the start).

    Returns:
        N: what lies beyond is undefined.
    """
    cells, owners, times, actions, lasts = path[0], path[1], path[2], path[3], path[4]
    n_steps, n, n_actions = noise.shape
    stop = n_actions - 1
    first = weights[0]
    height = first.shape[0] // stop
    logits = np.empty((ROWS, n_actions), dtype=first.dtype)
    for i in range(n):
        cells[i], owners[i], lasts[i] = 0, i, stop
    begin, end = 0, n
    for step in range(n_steps):
        following = end
        for low in range(begin, end, ROWS):
            high = min(low + ROWS, end)
            h = hidden[0][low:high]
            for i in range(low, high):
                row = h[i - low]
                row[:] = 0
                for k in range(stop):
                    added = first[k * height + coordinates[cells[i], k]]
                    for j in range(len(added)):
                        row[j] += added[j]
            _activate(h, biases[0], slope)
            for layer in range(1, len(weights)):
                out = hidden[layer][low:high]
                np.dot(h, weights[layer], out)
                _activate(out, biases[layer], slope)
                h = out
            found = logits[: high - low]
            np.dot(h, head, found)
            for i in range(low, high):
                cell, owner = cells[i], owners[i]
                # Only actions that exist are looked at, so that no logit, NaN among them, leads
                # out of the grid.
                best, action = -np.inf, stop
                for a in range(n_actions):
                    if a < stop and coordinates[cell, a] == height - 1:
                        continue
                    value = (found[i - low, a] + head_bias[a]) * scale[step, i - begin]
                    value += noise[step, i - begin, a]
                    if value > best:
                        best, action = value, a
                actions[i], times[i] = action, step
                if action != stop:
                    cells[following] = cell + moves[action]
                    owners[following] = owner
                    lasts[following] = action
                    following += 1
        begin, end = end, following
        if begin == end:
            break
    return end


@_compile
def _log_softmax(logits: Any, blocked: Any, out: Any) -> None:
    """Of the entries that are not blocked; minus infinity elsewhere."""
    largest = -np.inf
    for a in range(len(out)):
        if not blocked[a]:
            largest = max(largest, logits[a])
    total = 0.0
    for a in range(len(out)):
        if not blocked[a]:
            total += np.exp(logits[a] - largest)
    shift = largest + np.log(total)
    for a in range(len(out)):
        out[a] = -np.inf if blocked[a] else logits[a] - shift


@_compile
def along(
    out: Any,
    coordinates: Any,
    height: int,
    path: Any,
    log_reward: Any,
    learned_pb: bool,
    log_pf: Any,
    log_pb: Any,
    log_flow: Any,
    forward: Any,
    backward: Any,
) -> None:
    """Log probabilities and flows along trajectories.

    Args:
        out: ``(N, 2 D + 2)``: logits of the actions, of the parents, and log flow.
        coordinates: ``(S, D)``.
        height: H.
        path: ``(5, N)``, see :func:`walk`.
        log_reward: ``(B,)``.
        learned_pb: whether P_B is read from ``out``, else uniform.
        log_pf: ``(B, T)``, zeros; gets the log probabilities of the taken actions.
        log_pb: ``(B, T)``, zeros; gets those of the parents, read at the child.
        log_flow: ``(B, T + 1)``, zeros; gets log flows, and log R at the end.
        forward: ``(N, D + 1)``; gets the log probabilities of all actions.
        backward: ``(N, D)``; gets those of all parents.
    """
    cells, owners, times, actions, lasts = path[0], path[1], path[2], path[3], path[4]
    d = coordinates.shape[1]
    n = len(log_reward)
    blocked = np.zeros(d + 1, dtype=np.bool_)
    orphan = np.zeros(d, dtype=np.bool_)
    uniform = np.zeros(d, dtype=out.dtype)
    for i in range(len(cells)):
        at, time, row = coordinates[cells[i]], times[i], owners[i]
        for a in range(d):
            blocked[a], orphan[a] = at[a] == height - 1, at[a] == 0
        _log_softmax(out[i], blocked, forward[i])
        log_pf[row, time] = forward[i, actions[i]]
        if i >= n:
            logits = out[i, d + 1 : 2 * d + 1] if learned_pb else uniform
            _log_softmax(logits, orphan, backward[i])
            log_pb[row, time - 1] = backward[i, lasts[i]]
        log_flow[row, time] = out[i, 2 * d + 1]
        if actions[i] == d:
            log_flow[row, time + 1] = log_reward[row]


@_compile
def along_backward(
    forward: Any,
    backward: Any,
    path: Any,
    learned_pb: bool,
    log_pf: Any,
    log_pb: Any,
    log_flow: Any,
    grad: Any,
) -> None:
    """Gradient of :func:`along`.

    Args:
        forward: as :func:`along` has filled it, like the next.
        backward: of the parents.
        path: ``(5, N)``, see :func:`walk`.
        learned_pb: see :func:`along`.
        log_pf: ``(B, T)``, gradient with respect to the output, as the next two.
        log_pb: ``(B, T)``.
        log_flow: ``(B, T + 1)``; what stands at a trajectory's end is a constant's.
        grad: ``(N, 2 D + 2)``, zeros; gets the gradient with respect to ``out``.
    """
    owners, times, actions, lasts = path[1], path[2], path[3], path[4]
    n, d = len(log_pf), backward.shape[1]
    for i in range(len(owners)):
        row, time = owners[i], times[i]
        g = log_pf[row, time]
        for a in range(d + 1):
            grad[i, a] = -g * np.exp(forward[i, a])
        grad[i, actions[i]] += g
        if learned_pb and i >= n:
            g = log_pb[row, time - 1]
            for a in range(d):
                grad[i, d + 1 + a] = -g * np.exp(backward[i, a])
            grad[i, d + 1 + lasts[i]] += g
        grad[i, 2 * d + 1] = log_flow[row, time]
