"""Derivation of a cell's verdict: the formulas with the numbers put in, line by line."""

from __future__ import annotations

import re

from retable.tables.results import Difference, Margin, Reading, VerdictKind
from retable.tables.verdicts.distributions import t_quantile


def steps(
    mean: float,
    std: float | None,
    n: int,
    reading: Reading,
    found: Difference,
    margin: Margin,
    kind: VerdictKind,
) -> list[str]:
    """Everything from the two numbers to the verdict.

    Args:
        mean: ours.
        std: ours, as measured.
        n: our runs.
        reading: the reported number.
        found: the difference.
        margin: which difference would not matter; of a deterministic cell the tolerance.
        kind: what the difference comes to.
    """
    lines = [f"reported: {reading.text}"]
    lines.append(f"d = m − r = {mean:.6g} − {reading.value:.6g} = {found.d:.4g}")
    if found.rule == "deterministic":
        lines.append(f"tolerance {margin.value:.4g}: {margin.origin}")
    else:
        lines += _interval(std, n, reading, found)
        lines.append(f"margin {margin.value:.4g}: {margin.origin}")
        if margin.warning:
            lines.append(margin.warning)
    lines.append(f"{kind}: {_reason(found, n, margin, kind)}")
    return [_minus(line) for line in lines]


def _minus(line: str) -> str:
    """With the sign of subtraction before negative numbers too."""
    return re.sub(r"(?<![\de])-(?=\d)", "−", line)


def _interval(std: float | None, n: int, reading: Reading, found: Difference) -> list[str]:
    if found.se is None or found.df is None or found.half is None:
        return ["no interval: one run, and no reported spread"]
    lines: list[str] = []
    if found.s is not None and std is not None and found.s > std:
        lines.append(f"s = max({std:.4g}, quantum/√12) = {found.s:.4g}")
    q = (1 + found.level) / 2
    quantile = f"t({q:.4g}, {found.df:.4g})"
    lines.append(f"{_error(n, reading, found)} = {found.se:.4g}{_rule(found, reading)}")
    lines.append(
        f"H = {quantile} se + h = {t_quantile(q, found.df):.4g} × {found.se:.4g} + {found.h:.4g}"
        f" = {found.half:.4g}"
    )
    lines.append(
        f"{100 * found.level:.4g} % interval [d − H, d + H] = [{found.low:.4g}, {found.high:.4g}]"
    )
    lines.append(f"p = 2 t.sf(max(|d| − h, 0)/se, df) = {found.p:.3g}")
    return lines


def _error(n: int, reading: Reading, found: Difference) -> str:
    runs, s, s_r = f"1/{n} + 1/{reading.n}", f"{found.s or 0:.4g}", f"{reading.std or 0:.4g}"
    match found.rule:
        case "welch":
            numbers = f"√({s}²/{n} + {s_r}²/{reading.n})"
            return f"se = √(s²/n + s_r²/n_r) = {numbers}"
        case "equal spread":
            return f"se = s √(1/n + 1/n_r) = {s} × √({runs})"
        case _:
            return f"se = s_r √(1/n + 1/n_r) = {s_r} × √({runs})"


def _rule(found: Difference, reading: Reading) -> str:
    df = f"df {found.df:.4g}"
    match found.rule:
        case "welch":
            return f" (Welch, {df})"
        case "reported spread":
            return f" ({df}; s = {found.s:.4g} of fewer runs than {reading.n} claims too little)"
        case "equal spread":
            return f" ({df}; no reported spread, both sides taken to vary alike)"
        case _:
            return f" ({df}; one run of ours, both sides taken to vary alike)"


def _reason(found: Difference, n: int, margin: Margin, kind: VerdictKind) -> str:
    size, half = f"|d| = {abs(found.d):.4g}", found.half
    if found.rule == "deterministic":
        sign = "≤" if kind == "reproduced" else ">"
        return f"{size} {sign} {margin.value:.4g}"
    if half is None:
        return "there is no interval"
    match kind:
        case "reproduced":
            return f"n ≥ 2 and |d| + H = {abs(found.d) + half:.4g} < margin {margin.value:.4g}"
        case "consistent":
            close = max(margin.value, found.h)
            return f"the interval contains 0 and {size} ≤ {close:.4g}"
        case "undecided":
            return f"the interval contains 0 and {size} > {max(margin.value, found.h):.4g}"
        case _:
            return "the interval excludes 0" + (
                f", and |d| + H = {abs(found.d) + half:.4g} ≥ margin {margin.value:.4g}"
                if n >= 2
                else ""
            )
