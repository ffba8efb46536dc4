"""Axes of a drawn figure: range and ticks at round numbers, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high``, and where it has ticks."""

    low: float
    high: float
    ticks: list[float]
    log: bool

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high end."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)

    def inside(self, value: float) -> float:
        """The value, or the end that it lies beyond; a logarithmic axis has no zero."""
        return min(max(value, self.low), self.high)

    def text(self, tick: float) -> str:
        """A tick as printed."""
        return f"{tick:.6g}".replace("-", "−")


def axis(values: Sequence[float], *, log: bool, pad: bool = False) -> Axis:
    """An axis that holds all values; a logarithmic one leaves out those that are not positive.

    Args:
        values: to be shown.
        log: whether it is logarithmic.
        pad: keep the ends a little away from the values, instead of at round numbers.
    """
    shown = [v for v in values if v > 0] if log else list(values)
    low, high = (min(shown), max(shown)) if shown else (1.0, 2.0)
    if log:
        return _log_axis(low, high, pad=pad)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # as good as one value
        half = max(abs(low), abs(high), 1e-300) / 2 if low or high else 0.5
        low, high = low - half, high + half
    if not pad and 0 <= low < 0.35 * high:  # an axis that nearly begins at zero does
        low = 0.0
    step = _step(high - low)
    if pad:
        room = 0.04 * (high - low)
        low, high = low - room, high + room
    else:
        low = math.floor(low / step + 1e-9) * step
        high = math.ceil(high / step - 1e-9) * step
    return Axis(low, high, _multiples(low, high, step), log=False)


def between(low: float, high: float) -> Axis:
    """A linear axis with given ends, the lower one first."""
    return Axis(low, high, _multiples(low, high, _step(high - low)), log=False)


def extent(middles: Sequence[float], ends: Sequence[float], *, log: bool) -> list[float]:
    """Values that an axis has to hold: all middles, and the ends of bands that do not dwarf them.

    Args:
        middles: means and reported values.
        ends: of the bands; cut off further out than half the span of the middles (a quarter of it
            on a logarithmic axis).
        log: whether the axis is logarithmic.
    """
    if log:
        known = [math.log10(v) for v in middles if v > 0]
        reach = [math.log10(v) for v in ends if v > 0]
        return [10**v for v in _extent(known, reach, 0.25)]
    found = _extent(middles, ends, 0.5)
    # No band below zero where no value is.
    return [max(v, 0.0) for v in found] if middles and min(middles) >= 0 else found


def _extent(middles: Sequence[float], ends: Sequence[float], most: float) -> list[float]:
    if not middles:
        return []
    low, high = min(middles), max(middles)
    room = most * (high - low) if high > low else math.inf
    return [*middles, *(min(max(end, low - room), high + room) for end in ends)]


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten that divides a span into three to six."""
    rough = span / 6
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(f for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))


def _log_axis(low: float, high: float, *, pad: bool) -> Axis:
    if low == high:
        low, high = low / 2, high * 2
    room = (high / low) ** 0.04
    low, high = low / room, high * room
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (
        (1,) if high / low > 10**3 else (1, 2, 5) if not pad or high / low > 10 else (1, 2, 3, 5, 7)
    )
    ticks = [float(f"{f * 10.0**d:.3g}") for d in decades for f in factors]
    ticks = [t for t in ticks if low <= t <= high]
    if len(ticks) < 2:  # a range too small for that: ticks as on a linear axis
        ticks = _multiples(low, high, _step(high - low))
    return Axis(low, high, ticks, log=True)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]
