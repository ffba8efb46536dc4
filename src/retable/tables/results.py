"""Results of comparing a table with its paper: the values that every output shows.

Computed by :mod:`retable.tables.verdicts.judge`; formulas in :mod:`retable.tables.verdicts.cell`,
:mod:`retable.tables.verdicts.contrast` and :mod:`retable.tables.verdicts.power`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

CellId = tuple[str, str]
"""Row and column of a cell."""

VerdictKind = Literal[
    "reproduced",
    "better",
    "worse",
    "higher",
    "lower",
    "consistent",
    "undecided",
    "partial",  # fewer than the planned seeds
    "diverged",  # runs that diverged or failed: the mean is one of survivors
    "protocol",  # another protocol than `paper`: no verdict on the number
    "not run",
    "no reported value",
]
DIFFERENT: tuple[VerdictKind, ...] = ("better", "worse", "higher", "lower")
"""Verdicts that say the number is not the paper's."""

JUDGED: tuple[VerdictKind, ...] = ("reproduced", *DIFFERENT, "consistent", "undecided")
"""Verdicts of cells that were compared at all."""

ClaimVerdict = Literal["upheld", "contradicted", "undecided", "partial", "not judged"]

Rule = Literal[
    "welch",  # both spreads
    "reported spread",  # few runs of ours may not claim less spread than many of theirs
    "equal spread",  # no reported spread: ours stands for both
    "one run",  # one run of ours: the reported spread stands for both
    "deterministic",  # no seeds
    "none",  # no interval
]


@dataclass(frozen=True)
class Reading:
    """A reported number as the formulas take it.

    Attributes:
        value: in the printed unit.
        std: standard deviation of one run; None where no spread can be used.
        n: runs behind it.
        n_assumed: whether ``n`` is an assumption, because none is reported.
        h: bound on what printing and reading hide.
        text: how digits and spread were read, for a person.
    """

    value: float
    std: float | None
    n: int
    n_assumed: bool
    h: float
    text: str


@dataclass(frozen=True)
class Difference:
    """Ours less reported, with its interval.

    Attributes:
        d: difference.
        h: as in :class:`Reading`; widens the interval on both sides.
        se: standard error of ``d``; None where there is no interval.
        df: degrees of freedom.
        half: half width H of the interval, ``h`` included.
        p: two-sided; of no difference beyond ``h``.
        level: of the interval, 0.95 unless looks share the error.
        rule: which row of the specification's table gave ``se``.
        s: our standard deviation as used, quantum floor included.
    """

    d: float
    h: float
    rule: Rule
    se: float | None = None
    df: float | None = None
    half: float | None = None
    p: float | None = None
    level: float = 0.95
    s: float | None = None

    @property
    def low(self) -> float | None:
        """Lower bound."""
        return None if self.half is None else self.d - self.half

    @property
    def high(self) -> float | None:
        """Upper bound."""
        return None if self.half is None else self.d + self.half


@dataclass(frozen=True)
class Margin:
    """The difference that would not matter, fixed before the runs, and where it comes from."""

    value: float
    origin: str
    warning: str | None = None


@dataclass(frozen=True)
class Needed:
    """Number of seeds that would decide.

    Attributes:
        n: seeds per setting; None where no number up to 1,000 would.
        floor: half width that no number of our seeds goes below; None for claims.
        text: for a person, such as ``about 22`` or that the paper's own uncertainty forbids it.
        hours: of the runs that are then to be done, one after another, as those that are there
            have taken; None for cells, and where no number of seeds would.
    """

    n: int | None
    text: str
    floor: float | None = None
    hours: float | None = None


@dataclass(frozen=True)
class Judged:
    """Verdict of one cell, with the values behind it.

    Attributes:
        kind: the verdict.
        text: as shown, such as ``partial 3/5``, ``reduced`` or ``worse``.
        reading: how the reported number was read.
        difference: ours less reported; None where nothing was compared.
        margin: difference that would not matter.
        needed: seeds that would decide.
        marks: what must be known beside it: stale, unverified, n assumed, equal spread assumed.
        bold: whether the row is significantly the best of its column.
        median: of our values where tails are heavy, else None.
        steps: the formulas with the numbers put in, line by line.
        why: cause of a difference with the run that tests it, or that it is not known.
    """

    kind: VerdictKind
    text: str
    reading: Reading | None = None
    difference: Difference | None = None
    margin: Margin | None = None
    needed: Needed | None = None
    marks: list[str] = field(default_factory=list[str])
    bold: bool = False
    median: float | None = None
    steps: list[str] = field(default_factory=list[str])
    why: str | None = None


@dataclass(frozen=True)
class Wins:
    """On how many of the common seeds a claim's sum supports it; ties count in neither."""

    k: int
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """Mean over mean with Fieller's 95 % interval; bounds are None where it is unbounded."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Effect:
    """A weighted sum of cells against a constant, oriented so that positive supports the claim.

    Attributes:
        theta: estimate.
        se: standard error; 0 for deterministic cells.
        df: degrees of freedom; None where there is no test.
        lower: one-sided bound at ``1 - alpha`` below.
        upper: one-sided bound at ``1 - alpha`` above.
        p: one-sided, of theta <= 0 (after quoted numbers' h).
        p_against: one-sided, of theta >= 0.
        n: seeds, or the fewest of any arm where unpaired.
        paired: whether the sum was formed per seed.
        alpha: one-sided level.
        std: of one paired sum, or the equivalent of the unpaired error times sqrt(n).
        h: bound on what printing of quoted numbers hides; has moved both bounds outwards.
    """

    theta: float
    se: float | None = None
    df: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    p_against: float | None = None
    n: int = 0
    paired: bool = False
    alpha: float = 0.05
    std: float | None = None
    h: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """One of the things that a claim says, each of which is tested by itself.

    Attributes:
        subject: of what something is said, such as a row.
        relation: what is said of it, such as ``better than TB``.
        place: where, such as a column; empty where subject and relation say it.
        tested: the sum that has to be positive, in symbols.
        effect: None where nothing was tested yet.
        verdict: on this comparison alone; None where nothing was tested yet.
    """

    subject: str
    relation: str
    place: str
    tested: str
    effect: Effect | None = None
    verdict: ClaimVerdict | None = None

    @property
    def what(self) -> str:
        """Such as ``SubTB better than TB``."""
        return f"{self.subject} {self.relation}"


@dataclass(frozen=True)
class JudgedClaim:
    """Verdict of one claim, with the values behind it.

    Attributes:
        id: of the table file.
        statement: the paper's, as it stands.
        where: place in the paper.
        grade: who vouches for it.
        kind: which test.
        verdict: the headline, uncorrected one.
        text: as shown, such as ``partial 3/5``.
        comparisons: what it says, one by one; none of a claim that is not judged at all.
        effect: of the claim as a whole: the only part, the average, or the weakest part.
        unit: of the effect.
        p: the whole claim's one-sided p.
        p_holm: adjusted over all claims of the paper; None where not all of them were looked at.
        wins: on how many of the common seeds the claim's sum supports it.
        ratio: of the means, where the claim is of two cells.
        needed: seeds that would decide.
        marks: what must be known beside it.
        rule: what was tested, in words and symbols.
        why: the cause of a contradiction, or why it is not judged.
        weighted: whether the effect is a sum with positions as factors, which has no unit.
    """

    id: str
    statement: str
    where: str
    grade: str
    kind: str
    verdict: ClaimVerdict
    text: str
    effect: Effect | None = None
    unit: str = ""
    p: float | None = None
    p_holm: float | None = None
    wins: Wins | None = None
    ratio: Ratio | None = None
    needed: Needed | None = None
    comparisons: list[Comparison] = field(default_factory=list[Comparison])
    marks: list[str] = field(default_factory=list[str])
    rule: str = ""
    why: str | None = None
    weighted: bool = False


@dataclass(frozen=True)
class Tally:
    """A table's or a paper's verdicts counted.

    Attributes:
        judged: cells that were compared with a reported number.
        estimated: those of them with an interval; the others are the same for every seed.
        reproduced: cells with this verdict.
        consistent: the same.
        undecided: the same.
        different: cells that are better, worse, higher or lower.
        unverified: judged cells whose reported value is not primary.
        upheld: claims with this verdict.
        contradicted: the same.
        claims_undecided: claims that are undecided.
        claims_partial: claims that wait for runs.
        not_judged: claims that nothing was said of.
        against: of these, how many have an effect whose interval lies against the claim.
    """

    judged: int = 0
    estimated: int = 0
    reproduced: int = 0
    consistent: int = 0
    undecided: int = 0
    different: int = 0
    unverified: int = 0
    upheld: int = 0
    contradicted: int = 0
    claims_undecided: int = 0
    claims_partial: int = 0
    not_judged: int = 0
    against: int = 0

    @property
    def by_chance(self) -> float:
        """Cells expected to be called different where all are the same: 5 % of those estimated."""
        return 0.05 * self.estimated
