"""Everything behind one cell: its runs, the reported number, and how the verdict came about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from msgspec import to_builtins

from retable.report import candidates, footnotes, formatting, over_columns_text
from retable.report.json_csv import finite, judged_json
from retable.runs import stretches
from retable.runs.record_set import Found
from retable.runs.records import Record, device_of
from retable.tables.address import Address
from retable.tables.aggregate import Cell, Table
from retable.tables.grid import CellPlan, Grid
from retable.tables.results import DIFFERENT
from retable.tables.select import seeds_text
from retable.util.errors import UserError, nearest

_MARKS = {
    "partial": "fewer seeds gave a number than the table asks for",
    "diverged": "these runs gave no number, so that the mean is one of survivors",
    "failed": "these runs gave no number, so that the mean is one of survivors",
    "timeout": "these runs gave no number, so that the mean is one of survivors",
    "stale": "a record below is of another state of the code; retable refresh brings it up to date",
    "partly stale": "records below are of two states of the code; retable refresh brings them up",
    "selection stale": "the setting was chosen by runs of another state of the code",
    "not selected yet": "the tuning runs that choose the setting have not all ended",
    "mixed devices": "the runs below are of several types of devices",
    "not alone": "others ran beside runs below, which makes times longer and less even",
    "begun elsewhere": "runs below went on on another machine or the like: a time mixes both",
    "pulled": "runs below were made elsewhere; their records come from W&B",
    "unverified": "neither the paper nor its authors' material vouches for the reported value here",
    "n assumed": "how many runs are behind the reported value is not reported",
    "equal spread assumed": "only one side has a spread; the other is taken to vary alike",
    "heavy tails": "a spread is above half of the mean; a few runs move the mean, see the median",
    "not recorded": "the runs below have not recorded this number; see the key of its metric",
    "settled": "final since that look, whose interval and steps these are",
    "base not positive": "what the changes are from has to be above 0 in every column",
    "not run": "the row is not run in this column",
}


@dataclass(frozen=True)
class Explanation:
    """One cell with what is behind it.

    Attributes:
        table: judged.
        plan: of the cell; None where it is reported only.
        records: of the table's runs, by key.
        keys: of the runs that the cell asks for, by seed.
        stale: keys whose record is of another state of the code.
    """

    table: Table
    cell: Cell
    plan: CellPlan | None
    records: Mapping[str, Record]
    keys: dict[int, str]
    stale: frozenset[str]

    def runs(self) -> list[dict[str, Any]]:
        """One entry for each seed that the table asks for."""
        out: list[dict[str, Any]] = []
        for seed, key in self.keys.items():
            record = self.records.get(key)
            entry: dict[str, Any] = {"key": key, "seed": seed, "value": self.cell.values.get(seed)}
            if record is None:
                out.append({**entry, "status": "not run"})
                continue
            assert self.plan is not None
            address = self.plan.address
            out.append(
                {
                    **entry,
                    "recorded": self._recorded(record, address),
                    "status": record.status.value,
                    "error": record.error,
                    "device": device_of(record),
                    "commit": record.provenance.commit,
                    "dirty": record.provenance.dirty is not None,
                    "roots": to_builtins(record.provenance.roots),
                    "started": record.started,
                    "begun": stretches.told(record),
                    "stale": key in self.stale,
                    "pulled": record.pulled,
                }
            )
        return out

    def _recorded(self, record: Record, address: Address) -> float | None:
        """The number as it stands with the run."""
        if address.epoch is None:
            return record.value(address.metric, address.result_row, address.step)
        found = Found.of(self.records, [address.place])
        value = float(found.at(found.numbers([record.key]), address.place)[0])
        return value if math.isfinite(value) else None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        cell = self.cell
        address = None if self.plan is None else asdict(self.plan.address)
        return finite(
            {
                "table": self.table.name,
                "protocol": self.table.protocol,
                "row": cell.row,
                "column": cell.column,
                "address": address,
                "mean": cell.mean,
                "std": cell.std,
                "n": cell.n,
                "n_planned": cell.n_planned,
                "selected": cell.selected,
                "candidates": candidates.as_json(cell),
                "reported": None if cell.reported is None else cell.reported.model_dump(),
                "judged": judged_json(cell),
                "made_of": self._made_of(),
                "marks": [{"mark": m, "why": _why(m)} for m in footnotes.marks(cell)],
                "runs": self.runs(),
                "verify": self.verify(),
            }
        )

    def _made_of(self) -> list[str]:
        return list(over_columns_text.steps(self.table, self.cell))

    def verify(self) -> str | None:
        """Command that runs the first of the cell's runs again and compares."""
        done = [key for key in self.keys.values() if key in self.records]
        return f"retable verify {done[0][:12]}" if done else None

    def as_text(self) -> str:
        """A section each for our number, the reported one, the verdict and the runs."""
        cell, spec = self.cell, self.table.spec
        metric = spec.metrics[cell.metric]
        unit = f" {metric.unit}" if metric.unit else ""
        lines = [
            f"{self.table.name}, {cell.row}, {cell.column} (protocol {self.table.protocol})",
            f"    {formatting.title(self.table, cell.row, cell.column)}",
            "",
            f"ours: {formatting.ours(cell, metric)}{unit if cell.mean is not None else ''}",
        ]
        if self.plan is not None:
            address = self.plan.address
            lines.append(f"    {address.text()}; {self._asked()}")
        lines += [f"    {line}" for line in self._made_of()]
        if metric.relative_to is not None:
            lines.append(
                f"    relative to row {metric.relative_to}: a seed enters the mean as the ratio of"
                " means plus its residual, which can be negative"
            )
        if cell.selected:
            lines.append(f"    setting {cell.selected}")
        lines += [f"    {line}" for line in candidates.lines(cell)]
        lines += ["", *self._reported(unit), "", *self._verdict()]
        if found := footnotes.marks(cell):
            lines += [
                "",
                "marks:",
                *(f"    {m}{f': {w}' if (w := _why(m)) else ''}" for m in found),
            ]
        lines += ["", *self._runs(unit)]
        if (command := self.verify()) is not None:
            lines += ["", f"to run one of them again and compare: {command}"]
        return "\n".join(lines)

    def _asked(self) -> str:
        seeds, values = list(self.keys), self.cell.values
        if not seeds:
            return "no seed yet, the setting is not chosen"
        return f"{len(values)} of {len(seeds)} planned seeds ({seeds_text(seeds)})"

    def _reported(self, unit: str) -> list[str]:
        reported = self.cell.reported
        if reported is None:
            return ["reported: nothing"]
        verified = "verified" if reported.grade == "primary" else "not verified"
        lines = [
            f"reported: {formatting.theirs(reported)}{unit}",
            f"    {reported.where}; grade {reported.grade}, {verified}",
        ]
        if reported.note:
            lines.append(f"    {reported.note}")
        if self.cell.judged is not None and self.cell.judged.reading is not None:
            lines.append(f"    read as: {self.cell.judged.reading.text}")
        return lines

    def _verdict(self) -> list[str]:
        judged = self.cell.judged
        if judged is None:
            return ["verdict: not judged"]
        lines = [f"verdict: {formatting.worded(judged.text or judged.kind)}"]
        lines += [f"    {s}" for s in judged.steps if not s.startswith("reported: ")]
        if judged.needed is not None:
            lines.append(f"    seeds needed: {judged.needed.text}")
        if judged.kind in DIFFERENT:
            lines += [f"    {why}"] if (why := footnotes.cause(judged.why)) else []
        if judged.median is not None:
            lines.append(f"    median {judged.median:.6g}")
        if judged.bold:
            level = "5 %" if self.table.looked_at_once else "the level of its look"
            lines.append(f"    bold: better than every other row of the column, each at {level}")
        return lines

    def _runs(self, unit: str) -> list[str]:
        runs = self.runs()
        if not runs:
            return ["runs: none of its own" if self._made_of() else "runs: none"]
        lines = ["runs:"]
        for run in runs:
            value = "–" if run["value"] is None else f"{run['value']:.10g}{unit}"
            recorded = run.get("recorded")
            if self.cell.raw and recorded is not None:
                value = f"{recorded:.10g}"
            line = f"    seed {run['seed']:<4} {run['key'][:12]}  {value:<18} {run['status']}"
            if run["status"] == "not run":
                lines.append(line)
                continue
            commit = f"commit {run['commit'][:12]}" if run["commit"] else "no commit"
            dirty = " with changes" if run["dirty"] else ""
            roots = "".join(f", {r.shown}" for r in self.records[run["key"]].provenance.roots)
            line += f", {run['device']}, {commit}{dirty}{roots}, {run['started'][:10]}"
            line += f", begun with {'; '.join(run['begun'])}" if run["begun"] else ""
            line += ", stale" if run["stale"] else ""
            began = self.records[run["key"]].started_from
            line += f", started from {began.shown}" if began is not None else ""
            line += f", pulled from {run['pulled']}" if run["pulled"] else ""
            if self.cell.raw and run["value"] is not None:
                line += f", enters the mean as {run['value']:.6g}"
            elif recorded is not None and recorded != run["value"]:
                line += f", recorded {recorded:.10g}"
            lines.append(line + (f": {run['error'].splitlines()[0]}" if run["error"] else ""))
        return lines


def _why(mark: str) -> str:
    return next((said for name, said in _MARKS.items() if mark.startswith(name)), "")


def explain(table: Table, grid: Grid, records: Mapping[str, Record], place: str) -> Explanation:
    """Explain a cell by its plan and the records of its runs.

    Args:
        table: judged.
        grid: its plan.
        records: of its runs, by key.
        place: ``ROW,COLUMN``, by name.

    Raises:
        UserError: for a row or column that is not there, or a cell that has nothing.
    """
    row, comma, column = (part.strip() for part in place.partition(","))
    if not comma:
        raise UserError(f"--explain {place}: expected ROW,COLUMN, such as {_example(table)}")
    for name, known, what in (
        (row, table.spec.rows, "row"),
        (column, table.spec.columns, "column"),
    ):
        if name not in known:
            raise UserError(f"--explain: {table.name} has no {what} '{name}'{nearest(name, known)}")
    cell = table.cells.get((row, column))
    if cell is None:
        raise UserError(
            f"--explain: {table.name} has nothing at {row},{column}: neither run nor reported"
        )
    plan = grid.cells.get((row, column))
    # Those of a look that is not taken are not behind the cell yet.
    runs = [] if plan is None else grid.cell_runs(plan)[: cell.n_asked]
    keys = {run.config.seed: run.key for run in runs}
    stale: set[str] = set()
    if plan is not None and runs:
        mask = Found.of(records).stale(plan.setting, list(keys))
        stale = {key for key, old in zip(keys.values(), mask.tolist(), strict=True) if old}
    return Explanation(table, cell, plan, records, keys, frozenset(stale))


def _example(table: Table) -> str:
    return ",".join(next(iter(table.cells), ("row", "column")))
