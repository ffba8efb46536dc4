"""Numbers, cells and verdicts as text, the same in every output."""

from __future__ import annotations

import math
import re

from retable.report import counts
from retable.report.counts import Counts
from retable.runs.record_set import Found
from retable.tables.aggregate import Cell, Table, provenance_of
from retable.tables.results import Difference, Tally, VerdictKind
from retable.tables.spec import Metric, Reported

GRADE_MARK = {"primary": "", "secondhand": "†", "recalled": "‡", "derived": "§"}
CLAIM_GRADE_NOTE = {
    "secondhand": "† claim as quoted by somebody else; not verified",
    "recalled": "‡ claim from memory of the literature; not verified",
    "derived": "§ not stated so by the authors: derived from what they state, or our own question",
}
GRADE_NOTE = {
    "secondhand": "† reported value as quoted by somebody else; not verified",
    "recalled": "‡ reported value from memory of the literature; not verified",
    "derived": "§ computed from reported values; not printed by the authors",
}
SIGN: dict[VerdictKind, str] = {
    "reproduced": "=",
    "consistent": "≈",
    "undecided": "?",
    "better": "+",
    "worse": "−",
    "higher": "↑",
    "lower": "↓",
    "partial": "…",
    "diverged": "×",
}
"""Of verdicts; the others have none."""

SIGN_NOTE: dict[VerdictKind, str] = {
    "reproduced": "reproduced",
    "consistent": "consistent (close, and no sign of a difference)",
    "undecided": "undecided",
    "better": "better",
    "worse": "worse",
    "higher": "higher",
    "lower": "lower",
    "partial": "incomplete (some runs are missing)",
    "diverged": "runs diverged or failed",
}


def decimals_of(metric: Metric, reported: Reported | None) -> int:
    """Digits after the point: the metric's, else one more than printed, else three."""
    if metric.decimals is not None:
        return metric.decimals
    if reported is not None and "e" not in reported.value.lower():
        return len(reported.value.partition(".")[2]) + 1
    return 3


def number(value: float, metric: Metric, reported: Reported | None = None) -> str:
    """One number as printed."""
    if metric.scientific:
        return f"{value:.3e}"
    return f"{value:.{decimals_of(metric, reported)}f}"


def ours(cell: Cell, metric: Metric) -> str:
    """Our side of a cell: ``1.31 ± 0.05 (5)``, ``X`` where nothing was run."""
    if cell.mean is None:
        return "–" if cell.n_planned == 0 else "X"
    text = number(cell.mean, metric, cell.reported)
    if cell.std is not None:
        text += f" ± {number(cell.std, metric, cell.reported)}"
    if metric.deterministic:
        return text
    shown = f"{cell.n}" if cell.n == cell.n_planned else f"{cell.n}/{cell.n_planned}"
    return f"{text} ({shown})"


def median(cell: Cell, metric: Metric) -> str:
    """``median 1.20`` where tails are heavy, else nothing."""
    if cell.judged is None or cell.judged.median is None:
        return ""
    return f"median {number(cell.judged.median, metric, cell.reported)}"


def theirs(reported: Reported | None) -> str:
    """The reported side of a cell, with the mark of its grade."""
    if reported is None:
        return ""
    spread = f" ± {reported.spread}" if reported.spread is not None else ""
    count = f" ({reported.n})" if reported.n is not None and reported.n > 1 else ""
    return f"{reported.value}{spread}{count}{GRADE_MARK[reported.grade]}"


def sign(cell: Cell) -> str:
    """Verdict's sign behind the reported value, or the protocol that has none."""
    if cell.judged is None or cell.reported is None:
        return ""
    return cell.judged.text if cell.judged.kind == "protocol" else SIGN.get(cell.judged.kind, "")


def worded(text: str) -> str:
    """A verdict or a mark as pages say it: ``partial 3/5``, as outputs name it, is incomplete."""
    return re.sub(r"^partial\b", "incomplete", text)


def title(table: Table, row: str, column: str) -> str:
    """A cell by the titles of its row and column."""
    spec = table.spec
    return f"{spec.rows[row].title or row}, {spec.columns[column].title or column}"


def significant(value: float, scale: float | None = None) -> str:
    """A number to two digits of ``scale`` (such as the half width of its interval), else three."""
    if scale is None or scale == 0:
        return f"{value:.3g}"
    decimals = 1 - math.floor(math.log10(scale))
    if not 0 <= decimals <= 6:
        return f"{value:.3g}"
    return f"{value:.{decimals}f}"


def interval(value: float, low: float | None, high: float | None) -> str:
    """``0.02 [−0.08, 0.12]``; infinite ends are said so, without ends the value stands alone."""
    if low is None and high is None:
        return minus(significant(value))
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    half = (high - low) / 2
    scale = half if math.isfinite(half) else abs(value)
    ends = [
        str(end).replace("inf", "∞") if math.isinf(end) else significant(end, scale)
        for end in (low, high)
    ]
    return minus(f"{significant(value, scale)} [{ends[0]}, {ends[1]}]")


def difference(found: Difference) -> str:
    """Ours less reported, signed, with its interval."""
    text = interval(found.d, found.low, found.high)
    return f"+{text}" if found.d > 0 else text


def minus(text: str) -> str:
    """Text whose hyphens before a digit are minus signs."""
    return re.sub(r"-(?=[\d∞.])", "−", text)


def p_value(p: float | None) -> str:
    """Three digits, or ``<0.001``."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def tally(found: Counts, protocol: str = "paper") -> list[str]:
    """Sentences on cells and claims: a table is judged by what is different against chance."""
    return [cells_tally(found, protocol), *([c] if (c := claims_tally(found)) else [])]


def table_tally(table: Table) -> list[str]:
    """The sentences of a table; one without numbers of the paper's compares nothing anyway."""
    return tally(counts.of(table), table.protocol if table.spec.reported else "paper")


def cells_tally(found: Tally, protocol: str = "paper") -> str:
    """``26 cells compared: 3 reproduced, ...; 2 better or worse, up to 1.3 expected by chance``."""
    if protocol != "paper":
        return f"No cell is compared: the protocol is {protocol}, not paper."
    if not found.judged:
        return "No cell is compared with a reported value."
    unverified = {
        0: "All of the reported values are verified",
        found.judged: "None of the reported values is verified",
    }
    verified = unverified.get(
        found.unverified, f"{found.unverified} of the reported values are not verified"
    )
    chance = f"up to {found.by_chance:.1f} expected by chance (5 %)"
    if not found.estimated:
        chance = "none by chance (every seed gives the same)"
    return (
        f"{_count(found.judged, 'cell')} compared: {found.reproduced} reproduced,"
        f" {found.consistent} consistent, {found.undecided} undecided; {found.different} better or"
        f" worse, {chance}. {verified}."
    )


def claims_tally(found: Counts) -> str:
    """``4 claims: 2 upheld, 1 undecided, 1 not judged``; empty where there are none."""
    verdicts = {
        "upheld": found.upheld,
        "contradicted": found.contradicted,
        "undecided": found.claims_undecided,
        "incomplete": found.claims_incomplete,
        "not run": found.claims_not_run,
        "not judged": found.not_judged,
    }
    total = sum(verdicts.values())
    if not total:
        return ""
    said = f"{_count(total, 'claim')}: {', '.join(f'{n} {w}' for w, n in verdicts.items() if n)}"
    return (
        f"{said} (the effect of {found.against} is against the claim)."
        if found.against
        else f"{said}."
    )


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def provenance(table: Table) -> str:
    """Commit, hardware and dates of the records, in one line."""
    about = provenance_of(table)
    if not about.runs:
        return "no records"
    parts: list[str] = []
    if (tuning := Found.of(table.tuning).circumstances()).runs:
        parts.append(f"tuning {_count(tuning.runs, 'run')}, {tuning.wall_s / 3600:.2f} h")
    if (started := Found.of(table.parents).circumstances()).runs:
        hours = f"{started.wall_s / 3600:.2f} h"
        parts.append(f"{_count(started.runs, 'run')}, {hours}, that others start from")
    of_which = f", of which {' and '.join(parts)}" if parts else ""
    commits = sorted({(commit or "no commit")[:12] for commit in about.commits})
    dirty = " with local changes" if about.dirty else ""
    roots = f"; code of {'; '.join(about.roots)}" if about.roots else ""
    begun = f"; some begun with {'; with '.join(about.begun)}" if about.begun else ""
    hardware = [*(name or "?" for name in about.accelerators), *about.cpus]
    period = about.days[0] if len(about.days) == 1 else f"{about.days[0]} to {about.days[-1]}"
    return (
        f"{_count(about.runs, 'run')}, {about.wall_s / 3600:.2f} h in all{of_which}; "
        f"{', '.join(hardware)}, {_list(about.threads)} thread"
        f"{'s' if about.threads != [1] else ''} a run, {_list(about.workers)} at once; "
        f"torch {', '.join(about.torch)}{begun}; commit {', '.join(commits)}{dirty}{roots};"
        f" {period}"
    )


def _list(values: list[int]) -> str:
    return "/".join(map(str, values))
