"""Are two records the same result? Bit for bit, within a tolerance, or where do they part."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from retable.runs import stretches
from retable.runs.records import Record, device_of

Kind = Literal[
    "bitwise equal", "equal in all that both have", "equal within tolerance", "different"
]
TOLERANCE = 1e-4
"""Relative difference of a number that other hardware or another library may cause."""

ROUNDING = 1e-12
"""Absolute difference that is rounding: of a residual near 0 no digit has to agree."""

Rows = list[dict[str, float]]


@dataclass(frozen=True)
class Comparison:
    """Result of comparing two records.

    Attributes:
        kind: the verdict.
        detail: the largest difference, or the first place where they differ.
        context: what differs around them: device, threads, versions, code.
    """

    kind: Kind
    detail: str
    context: list[str] = field(default_factory=list[str])

    def text(self) -> str:
        """One line, with the circumstances."""
        around = f" ({'; '.join(self.context)})" if self.context else ""
        return f"{self.kind}: {self.detail}{around}"


def circumstances(a: Record, b: Record) -> list[str]:
    """Everything that may change bits without changing the question."""
    pairs: list[tuple[str, Any, Any]] = [
        ("device", device_of(a), device_of(b)),
        ("threads", a.threads, b.threads),
        ("code", a.fingerprint[:12], b.fingerprint[:12]),
        *(
            (name, getattr(a.provenance, name), getattr(b.provenance, name))
            for name in ("torch", "python", "cpu", "accelerator", "driver", "packages")
        ),
    ]
    ids = a.provenance.cpu_id, b.provenance.cpu_id
    if None not in ids:  # older records have none
        pairs.append(("processor", *ids))
    if None not in (a.provenance.kernels, b.provenance.kernels):
        pairs.append(("kernels", a.provenance.kernels_shown, b.provenance.kernels_shown))
    began, also = ("; ".join(stretches.told(r, times=False)) or "the same" for r in (a, b))
    pairs.append(("begun with", began, also))
    out: list[str] = []
    for name, x, y in pairs:
        if x != y:
            out.append("packages differ" if name == "packages" else f"{name} {x} / {y}")
    return out


def compare(
    a: Record, b: Record, histories: tuple[Rows, Rows] = ([], []), *, tolerance: float = TOLERANCE
) -> Comparison:
    """Compare two records of the same run.

    Args:
        a: one record.
        b: the other.
        histories: their histories, epoch by epoch, to say where they part.
        tolerance: largest relative difference of a number that still counts as equal.
    """
    context = circumstances(a, b)
    if a.status != b.status:
        reasons = [f": {r.error.splitlines()[0]}" if r.error else "" for r in (a, b)]
        ends = f"{a.status.value}{reasons[0]} / {b.status.value}{reasons[1]}"
        return Comparison("different", f"status {ends}", context)
    if a.substance() == b.substance():
        hashes = [n for n in ("weights", "history", "artifacts") if a.substance().get(n)]
        what = ", ".join([f"{len(a.substance()['results'])} results", *hashes])
        return Comparison("bitwise equal", what, context)
    alone = only_in_one(a, b, histories)
    if alone is not None and any(alone):
        sides = zip(("first", "second"), alone, strict=True)
        said = [f"only in the {side} record: {', '.join(names)}" for side, names in sides if names]
        return Comparison("equal in all that both have", "; ".join(["bitwise", *said]), context)
    if a.artifacts.keys() != b.artifacts.keys():
        names = [", ".join(sorted(r.artifacts)) or "none" for r in (a, b)]
        return Comparison("different", f"artifacts {names[0]} / {names[1]}", context)
    worst, place = 0.0, "weights"
    for where, x, y in [*_history_pairs(*histories), *result_pairs(a, b)]:
        if x is None or y is None:
            side = "first" if y is None else "second"
            return Comparison("different", f"{where} is in the {side} record only", context)
        difference = relative_difference(x, y)
        if difference > tolerance:
            return Comparison("different", f"first in {where}: {x!r} / {y!r}", context)
        if difference > worst:
            worst, place = difference, where
    detail = f"largest relative difference {worst:.1e} ({place}), tolerance {tolerance:g}"
    if worst == 0.0:
        detail = f"all numbers agree but for rounding; tolerance {tolerance:g}"
    if not context:
        detail += "; device, threads, code and packages are the same, so that it should be bitwise"
    return Comparison("equal within tolerance", detail, context)


def only_in_one(
    a: Record, b: Record, histories: tuple[Rows, Rows] = ([], [])
) -> tuple[list[str], list[str]] | None:
    """What only one of two records of a run has, where all that both have is equal bit for bit.

    So it is after more is recorded than before. The weights have to be the same, there has to be a
    number that both have, and where the histories are not the same they have to be given.

    Returns:
        Names of results, of columns of the history and of artefacts that only the first has, and
        that only the second has; None where something that both have differs.
    """
    if a.status != b.status or a.weights_sha256 != b.weights_sha256:
        return None
    if a.history_sha256 != b.history_sha256 and not all(histories):
        return None
    values = {name: (x, y) for name, x, y in result_pairs(a, b)}
    shared = any(None not in pair for pair in values.values())
    parts: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (_columns(histories[0]), _columns(histories[1])),
        (a.artifacts, b.artifacts),
        (
            {name: x for name, (x, _) in values.items() if x is not None},
            {name: y for name, (_, y) in values.items() if y is not None},
        ),
    ]
    for x, y in parts:
        if any(repr(x[name]) != repr(y[name]) for name in x.keys() & y.keys()):
            return None
    if not shared:
        return None
    first, second = ({name for part in parts for name in part[side]} for side in (0, 1))
    return sorted(first - second), sorted(second - first)


def lacks(record: Record, metric: str) -> bool:
    """Whether code that has confirmed a record records a metric that it has not."""
    return any(metric in name.split() for b in record.blessings for name in b.also)


def _columns(rows: Rows) -> dict[str, list[float | None]]:
    """A history by name, None where a row has it not."""
    names = {name for row in rows for name in row}
    return {name: [row.get(name) for row in rows] for name in names}


def first_difference(a: Record, b: Record, histories: tuple[Rows, Rows] = ([], [])) -> str:
    """Where two records that are not bitwise equal part first, with both values."""
    for where, x, y in [*_history_pairs(*histories), *result_pairs(a, b)]:
        if x is None or y is None:
            return f"{where}, which one of them has not"
        if x != y and not (math.isnan(x) and math.isnan(y)):
            return f"{where}: {x!r} / {y!r}"
    if a.weights_sha256 != b.weights_sha256:
        return "the weights"
    return "the artifacts" if a.artifacts != b.artifacts else "the history"


def relative_difference(x: float, y: float) -> float:
    """``|x - y| / max(|x|, |y|)``; 0 up to rounding, infinity where one is not finite."""
    if abs(x - y) < ROUNDING or x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    if not (math.isfinite(x) and math.isfinite(y)):
        return math.inf
    return abs(x - y) / max(abs(x), abs(y))


def _history_pairs(a: Rows, b: Rows) -> list[tuple[str, float | None, float | None]]:
    out: list[tuple[str, float | None, float | None]] = []
    for index in range(max(len(a), len(b))):
        x = a[index] if index < len(a) else {}
        y = b[index] if index < len(b) else {}
        for name in sorted({*x, *y} - {"epoch"}):
            out.append((f"epoch {index}, {name}", x.get(name), y.get(name)))
    return out


def result_pairs(a: Record, b: Record) -> list[tuple[str, float | None, float | None]]:
    """Every number of two records side by side, by name; None where one has it not.

    Measured times are left out: they are never the same twice.
    """
    timing = {*a.timing_metrics, *b.timing_metrics}
    values: list[dict[str, float]] = []
    for record in (a, b):
        found: dict[str, float] = {}
        for r in record.results:
            if r.metric in timing:
                continue
            row = f"{r.result_row} " if r.result_row else ""
            step = "" if r.step is None else f" [{r.step}]"
            found[f"{row}{r.metric}{step}"] = r.value
        values.append(found)
    first, second = values
    return [(name, first.get(name), second.get(name)) for name in sorted({*first, *second})]


def config_differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Dotted keys in which two configs differ, with both values as JSON; ``-`` where absent."""
    flat = [_flat(a, ""), _flat(b, "")]
    keys = sorted({*flat[0], *flat[1]})
    return [
        (key, flat[0].get(key, "-"), flat[1].get(key, "-"))
        for key in keys
        if flat[0].get(key, "-") != flat[1].get(key, "-")
    ]


def _flat(value: Any, prefix: str) -> dict[str, str]:
    if isinstance(value, dict) and value:
        out: dict[str, str] = {}
        for key, item in value.items():
            out.update(_flat(item, f"{prefix}.{key}" if prefix else str(key)))
        return out
    return {prefix: json.dumps(value)}
