"""Two recorded runs side by side: config, code, circumstances, results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import to_builtins

from retable.config import source_files
from retable.runs import provenance
from retable.runs.equality import (
    Comparison,
    circumstances,
    compare,
    config_differences,
    relative_difference,
    result_pairs,
)
from retable.runs.identity import modules_of, targets_of
from retable.runs.lookup import Recorded
from retable.util import paths

_MAX_ROWS = 40


@dataclass(frozen=True)
class Difference:
    """Differences between two runs.

    Attributes:
        a: the first.
        b: the second.
        config: keyed fields that differ, with both values as JSON.
        changed: source files of either run that differ between their commits; None where git
            cannot tell.
        comparison: of their results.
    """

    a: Recorded
    b: Recorded
    config: list[tuple[str, str, str]]
    changed: list[str] | None
    comparison: Comparison

    def results(self) -> list[tuple[str, float | None, float | None]]:
        """Every result of either, side by side."""
        return result_pairs(self.a.record, self.b.record)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **{
                name: {
                    "key": run.record.key,
                    "status": run.record.status.value,
                    "where": str(run.where),
                    "fingerprint": run.record.fingerprint,
                    "commit": run.record.provenance.commit,
                    "roots": to_builtins(run.record.provenance.roots),
                }
                for name, run in (("a", self.a), ("b", self.b))
            },
            "config": [{"key": key, "a": x, "b": y} for key, x, y in self.config],
            "changed_files": self.changed,
            "circumstances": circumstances(self.a.record, self.b.record),
            "comparison": {"kind": self.comparison.kind, "detail": self.comparison.detail},
            "results": [{"name": name, "a": x, "b": y} for name, x, y in self.results()],
        }

    def as_text(self) -> str:
        """A section each for config, code, circumstances and results."""
        a, b = self.a.record, self.b.record
        lines = [f"a: {self.a.label}  {self.a.where}", f"b: {self.b.label}  {self.b.where}"]
        if a.key == b.key:
            lines.append("config: the same run")
        else:
            lines.append("config (a / b):")
            lines += [f"    {key}: {x} / {y}" for key, x, y in self.config]
        if a.fingerprint == b.fingerprint:
            lines.append(f"code: the same ({a.fingerprint[:12]})")
        else:
            lines.append(f"code: {_code(self.a)} / {_code(self.b)}")
            if self.changed is not None:
                lines += [f"    {name}" for name in self.changed]
        around = [c for c in self.comparison.context if not c.startswith("code ")]
        lines.append(f"circumstances: {'; '.join(around) or 'the same'}")
        lines.append(f"results: {self.comparison.kind}: {self.comparison.detail}")
        rows = [row for row in self.results() if row[1] != row[2]]
        width = max((len(name) for name, _, _ in rows[:_MAX_ROWS]), default=0)
        for name, x, y in rows[:_MAX_ROWS]:
            lines.append(f"    {name:{width}}  {_number(x)} / {_number(y)}{_relative(x, y)}")
        if len(rows) > _MAX_ROWS:
            lines.append(f"    and {len(rows) - _MAX_ROWS} more (--json shows all)")
        return "\n".join(lines)


def difference(a: Recorded, b: Recorded) -> Difference:
    """Compare two recorded runs in everything that is recorded."""
    return Difference(
        a,
        b,
        config_differences(a.record.config, b.record.config),
        _changed_files(a, b),
        compare(a.record, b.record, (a.history, b.history)),
    )


def _code(run: Recorded) -> str:
    source = run.record.provenance
    commit = f"commit {source.commit[:12]}" if source.commit else "no commit"
    dirty = " with changes" if source.dirty else ""
    roots = "".join(f", {root.shown}" for root in source.roots)
    return f"{run.record.fingerprint[:12]} ({commit}{dirty}{roots})"


def _changed_files(a: Recorded, b: Recorded) -> list[str] | None:
    commits = [run.record.provenance.commit for run in (a, b)]
    if a.record.fingerprint == b.record.fingerprint or None in commits or len(set(commits)) < 2:
        return None
    root = paths.project_root()
    targets = targets_of([a.record.config, b.record.config])
    files = [source_files.module_file(module) for module in modules_of(targets)]
    inside = [str(f.relative_to(root)) for f in files if f and f.is_relative_to(root)]
    names = provenance.git("diff", "--name-only", *map(str, commits), "--", *inside)
    return None if names is None else names.split()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _relative(x: float | None, y: float | None) -> str:
    return "" if x is None or y is None else f"  (relative {relative_difference(x, y):.1e})"
