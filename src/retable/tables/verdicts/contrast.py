"""Claims: a weighted sum of cells against a constant, oriented so that positive supports it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from retable.tables.results import ClaimVerdict, Effect, Reading, Wins
from retable.tables.verdicts.cell import MANY_RUNS, floored
from retable.tables.verdicts.distributions import (
    ROUNDING,
    binomial_interval,
    combined,
    t_quantile,
    t_tail,
)

HEAVY = 0.5
"""Standard deviation over mean beyond which tails are called heavy."""

LEAST_RUNS_OF_SPREADS = 10
"""Runs below which spreads are not compared."""


@dataclass(frozen=True)
class Arm:
    """One cell of a claim: ours, or a number that is quoted only.

    Attributes:
        weight: of the cell in the sum.
        values: ours, by seed.
        quoted: the reported number, where we have no runs.
    """

    weight: float
    values: Mapping[int, float] | None = None
    quoted: Reading | None = None

    def __post_init__(self) -> None:
        if (self.values is None) == (self.quoted is None):
            raise ValueError("an arm is either ours or quoted")
        if self.values is not None and not self.values:
            raise ValueError("an arm without values")

    @property
    def n(self) -> int:
        """Our runs."""
        return len(self.values or ())

    @property
    def mean(self) -> float:
        """Of ours, or as quoted."""
        return _mean(self.values.values()) if self.values else self._quoted.value

    @property
    def std(self) -> float | None:
        """Of ours (ddof 1), or as quoted; None where there is none."""
        return _std(list(self.values.values())) if self.values else self._quoted.std

    @property
    def h(self) -> float:
        """Bound on what printing hides; 0 for ours."""
        return 0.0 if self.values else self._quoted.h

    @property
    def _quoted(self) -> Reading:
        assert self.quoted is not None
        return self.quoted


@dataclass
class _Estimate:
    """A variance and what it stands for: its share of the sum's variance is scale * std^2."""

    std: float
    df: float
    scale: float


def contrast(
    arms: Sequence[Arm],
    c0: float = 0.0,
    *,
    quantum: float | None = None,
    alpha: float = 0.05,
    paired: bool | None = None,
    deterministic: bool = False,
    least_std: Sequence[float | None] = (),
) -> Effect:
    """Estimate and one-sided bounds of theta = sum of weight * cell, less ``c0``.

    Paired: the sum is formed per seed, and tested as by ``scipy.stats.ttest_1samp``. Else the
    variances add up, with degrees of freedom by Satterthwaite; a quoted number enters by the rules
    of :func:`retable.tables.verdicts.cell.difference`, and its h moves both bounds outwards.

    Args:
        arms: cells and their weights.
        c0: constant that the sum is compared with.
        quantum: smallest step of the metric.
        alpha: level of either bound.
        paired: by default where all arms are ours and have the same two seeds or more.
        deterministic: whether the cells are the same for every seed.
        least_std: of each arm, standard deviation that it is given at least, for heavy tails; the
            sum is then not paired.

    Raises:
        ValueError: where a paired sum is asked for and the arms share no seed, or one is quoted.
    """
    theta = math.fsum([*(arm.weight * arm.mean for arm in arms), -c0])
    rounding = _rounding(arms, c0)
    theta = 0.0 if abs(theta) <= rounding else theta
    h = sum(abs(arm.weight) * arm.h for arm in arms)
    n = min((arm.n for arm in arms if arm.values), default=0)
    if deterministic:
        return _effect(theta, 0.0, None, h, n, alpha)
    if least_std:
        paired = False
    if paired or (paired is None and _same_seeds(arms)):
        values = list(sums(arms, c0).values())
        if not values:
            raise ValueError("the arms of a paired sum share no seed")
        s = _std(values)
        if s is None:
            return Effect(_mean(values), n=1, alpha=alpha, h=h)
        weights = math.hypot(*(arm.weight for arm in arms))
        s = floored(s if s > rounding else 0.0, weights * quantum if quantum else None) or 0.0
        n = len(values)
        return _effect(_mean(values), s / math.sqrt(n), n - 1, h, n, alpha, paired=True)
    estimates = _estimates(arms, quantum, least_std)
    if not estimates:
        return Effect(theta, n=n, alpha=alpha, h=h)
    errors = [math.sqrt(e.scale) * e.std for e in estimates]
    se, df = combined(errors, [e.df for e in estimates])
    return _effect(theta, se if se > rounding else 0.0, df, h, n, alpha)


def conclude(effect: Effect) -> ClaimVerdict:
    """``upheld`` if the lower bound is above 0, ``contradicted`` if the upper is below."""
    if effect.lower is None or effect.upper is None or _too_few(effect):
        return "undecided"
    if effect.lower > 0:
        return "upheld"
    return "contradicted" if effect.upper < 0 else "undecided"


def sums(arms: Sequence[Arm], c0: float = 0.0) -> dict[int, float]:
    """The weighted sum of each seed that all arms have, in the order of the seeds.

    Raises:
        ValueError: where an arm is quoted, which has no seeds.
    """
    if any(arm.values is None for arm in arms):
        raise ValueError("a quoted number has no seeds to form sums over")
    values = [arm.values or {} for arm in arms]
    common = sorted(set.intersection(*(set(v) for v in values)))
    rounding = _rounding(arms, c0)
    out: dict[int, float] = {}
    for seed in common:
        terms = (arm.weight * v[seed] for arm, v in zip(arms, values, strict=True))
        total = math.fsum([*terms, -c0])
        out[seed] = 0.0 if abs(total) <= rounding else total
    return out


def tie(
    arms: Sequence[Arm],
    margin: float,
    *,
    quantum: float | None = None,
    alpha: float = 0.05,
    deterministic: bool = False,
) -> tuple[Effect, ClaimVerdict]:
    """Whether a weighted sum lies within +-margin: two one-sided tests (Schuirmann 1987).

    Upheld if the interval between both bounds lies within, contradicted if wholly outside.

    Returns:
        The sum's effect, whose p is of lying outside and ``p_against`` of lying inside; verdict.
    """
    effect = contrast(arms, quantum=quantum, alpha=alpha, deterministic=deterministic)
    lower, upper = effect.lower, effect.upper
    if lower is None or upper is None or effect.se is None:
        return effect, "undecided"
    nearest = abs(effect.theta)
    effect = replace(
        effect,
        p=_p(margin - nearest - effect.h, effect.se, effect.df),
        p_against=_p(nearest - margin - effect.h, effect.se, effect.df),
    )
    if _too_few(effect):
        return effect, "undecided"
    rounding = _rounding(arms, margin)
    if lower >= -margin - rounding and upper <= margin + rounding:
        return effect, "upheld"
    outside = lower > margin + rounding or upper < -margin - rounding
    return effect, "contradicted" if outside else "undecided"


def spread_effect(a: Sequence[float], b: Sequence[float], alpha: float = 0.05) -> Effect:
    """Effect on spread, ``b`` less ``a``: difference of the mean distances from the median.

    Unpaired, and tested from ten runs of each on only: an F test is wrong in 10 % of cases where
    tails are a little heavy.
    """
    if not a or not b:
        raise ValueError("a spread needs runs of both")
    arms = [Arm(w, _distances(values)) for w, values in ((-1.0, a), (1.0, b))]
    effect = contrast(arms, alpha=alpha, paired=False)
    if effect.n < LEAST_RUNS_OF_SPREADS:
        return Effect(effect.theta, n=effect.n, alpha=alpha)
    return effect


def wins(values: Sequence[float]) -> Wins:
    """On how many seeds a claim's sum supports it; ties (0) count in neither."""
    decided = [value for value in values if value != 0]
    k, n = sum(value > 0 for value in decided), len(decided)
    return Wins(k, n, *binomial_interval(k, n))


def is_heavy(mean: float | None, std: float | None, r: float | None, s_r: float | None) -> bool:
    """Whether our or the reported spread (std) of a positive metric is above half of its mean."""
    return any(
        centre is not None and spread is not None and spread > HEAVY * centre > 0
        for centre, spread in ((mean, std), (r, s_r))
    )


def trend_weights(positions: Sequence[float]) -> list[float]:
    """Weights of ordered points whose sum is positive where they rise: position - mean."""
    mean = _mean(positions)
    return [position - mean for position in positions]


def _same_seeds(arms: Sequence[Arm]) -> bool:
    first = arms[0].values
    if first is None or len(first) < 2:
        return False
    return all(arm.values is not None and arm.values.keys() == first.keys() for arm in arms)


def _estimates(
    arms: Sequence[Arm], quantum: float | None, least_std: Sequence[float | None]
) -> list[_Estimate]:
    """Variances of the arms, each with what it stands for; none where an arm has no variance.

    The rules are those of :func:`retable.tables.verdicts.cell.standard_error` for more than two
    arms: an arm without a spread of its own takes the mean variance of the others'.
    """
    least = list(least_std) or [None] * len(arms)
    quoted = [
        _Estimate(arm.std, arm.quoted.n - 1, arm.weight**2 / arm.quoted.n)
        for arm in arms
        if arm.quoted is not None and arm.std is not None
    ]
    many = [e for e in quoted if e.df + 1 >= MANY_RUNS]
    ours: list[_Estimate] = []
    for arm, at_least in zip(arms, least, strict=True):
        s = floored(arm.std, quantum)
        if not arm.values or s is None:
            continue
        s = max(s, at_least or 0.0)
        scale = arm.weight**2 / arm.n
        # Few runs of ours may not claim less spread than many of theirs.
        wider = [e for e in many if arm.n < e.df + 1 and s < e.std]
        if wider:
            max(wider, key=lambda e: e.std).scale += scale
        else:
            ours.append(_Estimate(s, arm.n - 1, scale))
    for arm in arms:
        if arm.std is not None:
            continue
        lenders = quoted if arm.values else ours or quoted
        if not lenders:
            return []
        runs = arm.n or (arm.quoted.n if arm.quoted else 1)
        for lender in lenders:
            lender.scale += arm.weight**2 / runs / len(lenders)
    return ours + quoted


def _effect(
    theta: float,
    se: float,
    df: float | None,
    h: float,
    n: int,
    alpha: float,
    *,
    paired: bool = False,
) -> Effect:
    reach = h + (t_quantile(1 - alpha, df) * se if df is not None else 0.0)
    return Effect(
        theta,
        se,
        df,
        theta - reach,
        theta + reach,
        _p(theta - h, se, df),
        _p(-theta - h, se, df),
        n,
        paired,
        alpha,
        se * math.sqrt(n) if n and df is not None else None,
        h,
    )


def _p(distance: float, se: float, df: float | None) -> float:
    """One-sided p of an estimate that lies so far on the claimed side."""
    if se == 0 or df is None:
        return 0.0 if distance > 0 else 1.0
    return t_tail(distance / se, df)


def _too_few(effect: Effect) -> bool:
    """One run decides nothing unless every run gives the same, which has no degrees of freedom."""
    return effect.n < 2 and effect.df is not None


def _rounding(arms: Sequence[Arm], c0: float) -> float:
    sizes = (
        abs(arm.weight) * max(abs(x) for x in (arm.values or {0: arm.mean}).values())
        for arm in arms
    )
    return ROUNDING * math.fsum([*sizes, abs(c0)])


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def _std(values: Sequence[float]) -> float | None:
    """Standard deviation (ddof 1); None of one value."""
    if len(values) < 2:
        return None
    mean = _mean(values)
    return math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)


def _distances(values: Sequence[float]) -> dict[int, float]:
    middle = statistics.median(values)
    return {i: abs(value - middle) for i, value in enumerate(values)}
