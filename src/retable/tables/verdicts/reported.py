"""Reading of reported numbers: how exact the digits are, the spread as a standard deviation."""

from __future__ import annotations

import math
from collections.abc import Iterable

from retable.tables.results import Reading
from retable.tables.spec_parts import Reported
from retable.tables.verdicts.distributions import t_quantile

N_WITH_SPREAD = 3
"""Runs assumed behind a number with a spread where none are reported."""

N_WITHOUT = 1
"""Runs assumed behind a bare number."""


def decimals_of(text: str) -> int:
    """Printed decimals: ``2.30`` has 2, ``2.3e-07`` has 8, ``2e+03`` has -3.

    10 to the power of minus this is the unit of the last printed digit.
    """
    digits, _, exponent = text.lower().partition("e")
    power = min(max(float(exponent or 0), -300), 300)  # 0e400 is a number, 10 to the 400 is none
    return len(digits.partition(".")[2]) - int(power)


def column_decimals(texts: Iterable[str]) -> int | None:
    """The most decimals in a column; None where there are none to count.

    A number with an exponent has digits of its own, which say nothing about the others'.
    """
    return max((decimals_of(t) for t in texts if not _has_exponent(t)), default=None)


def read(reported: Reported, decimals: int | None = None) -> Reading:
    """Read a reported number as the formulas take it.

    Args:
        reported: of the table file.
        decimals: most decimals in the column, see :func:`column_decimals`. Used where the table
            file does not give them and the number has no exponent.
    """
    counts = reported.spread is not None and reported.spread_kind != "other"
    n = reported.n or (N_WITH_SPREAD if counts else N_WITHOUT)
    unit = last_digit(reported, decimals)
    h = 0.0 if reported.exact else 0.5 * unit + reported.reading_error
    std = reported_std(reported, n)
    words = [
        _digits(reported, unit, h),
        _spread(reported, n, std),
        f"n {n}" if reported.n else f"n {n} assumed",
    ]
    return Reading(float(reported.value), std, n, reported.n is None, h, "; ".join(words))


def last_digit(reported: Reported, decimals: int | None = None) -> float:
    """Unit of the last printed digit; arguments as of :func:`read`."""
    own = decimals_of(reported.value)
    if reported.decimals is not None:
        own = reported.decimals
    elif decimals is not None and not _has_exponent(reported.value):
        own = decimals
    return 10.0**-own


def reported_std(reported: Reported, n: int) -> float | None:
    """Standard deviation of one run (ddof 1) that a reported spread stands for.

    A bare +- is read as a standard error, the wider reading. A printed 0 counts as half a unit of
    its last digit. None where the spread is not one over runs, or there is one run only.
    """
    if reported.spread is None or reported.spread_kind == "other" or n < 2:
        return None
    x = _spread_value(reported.spread)
    unbiased = math.sqrt(n / (n - 1)) if reported.ddof == 0 else 1.0
    match reported.spread_kind:
        case "std":
            return x * unbiased
        case "std0":
            return x * math.sqrt(n / (n - 1))
        case "ci95_z":
            return x * math.sqrt(n) / 1.96 * unbiased
        case "ci95_t":
            return x * math.sqrt(n) / t_quantile(0.975, n - 1) * unbiased
        case _:  # sem, unknown
            return x * math.sqrt(n) * unbiased


def _has_exponent(text: str) -> bool:
    return "e" in text.lower()


def _spread_value(text: str) -> float:
    value = float(text)
    return value if value > 0 else 0.5 * 10.0 ** -decimals_of(text)


def _digits(reported: Reported, unit: float, h: float) -> str:
    if reported.exact:
        return f"{reported.value}, exact"
    plot = f", read within {reported.reading_error:g}" if reported.reading_error else ""
    return f"{reported.value}, printed to {unit:g}{plot}: h = {h:.4g}"


_KINDS = {
    "std": "a standard deviation",
    "std0": "a standard deviation with ddof 0",
    "sem": "a standard error",
    "ci95_z": "a 95 % interval by the normal distribution",
    "ci95_t": "a 95 % interval by the t distribution",
    "unknown": "not explained, read as a standard error",
}


def _spread(reported: Reported, n: int, std: float | None) -> str:
    if reported.spread is None:
        return "no spread"
    if reported.spread_kind == "other":
        return f"± {reported.spread} is not over runs: not used"
    if std is None:
        return f"± {reported.spread} of {n} run: not used"
    kind = _KINDS[reported.spread_kind or "unknown"]
    if reported.ddof == 0 and reported.spread_kind != "std0":
        kind += " (ddof 0)"
    zero = "" if float(reported.spread) > 0 else f", counted as {_spread_value(reported.spread):g}"
    return f"± {reported.spread} is {kind}{zero}: s = {std:.4g}"
