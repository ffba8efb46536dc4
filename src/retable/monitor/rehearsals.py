"""Rehearsal of planned tables: a line for each distinct network, with what its runs will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from retable.launch.rehearsal import records
from retable.launch.rehearsal.devices import Device, device_named, run_seconds
from retable.launch.rehearsal.records import Estimate, Rehearsed
from retable.monitor import recorded
from retable.runs.frozen import FrozenRun
from retable.tables import collect
from retable.tables.grid import Grid
from retable.util.text import duration

if TYPE_CHECKING:
    from rich.table import Table

_NAMED = 3
"""So many rows are named."""


@dataclass
class Line:
    """Settings that share what was rehearsed.

    Attributes:
        experiment: that they are of.
        rows: of the tables, in which their numbers stand.
        cells: the same with the columns.
        found: what was rehearsed; ``steps`` is that of the first setting.
        settings: how many there are.
        runs: how many runs they have.
        estimates: seconds of a run, of each setting that has an estimate.
        total_s: seconds of all runs that have an estimate.
        recorded: pairs of estimated and recorded seconds of a run, of settings with records.
    """

    experiment: str
    found: Rehearsed
    rows: dict[str, None] = field(default_factory=dict[str, None])
    cells: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    settings: int = 0
    runs: int = 0
    steps: list[int] = field(default_factory=list[int])
    estimates: list[float] = field(default_factory=list[float])
    total_s: float = 0.0
    recorded: list[tuple[float | None, float]] = field(
        default_factory=list[tuple[float | None, float]]
    )

    @property
    def name(self) -> str:
        """What the settings are called."""
        few = [*self.rows][:_NAMED]
        more = ["..."] if len(self.rows) > _NAMED else []
        return f"{self.experiment} [{', '.join([*few, *more])}]" if few else self.experiment

    def recorded_s(self) -> float | None:
        """Mean recorded seconds of a run."""
        return fmean(took for _, took in self.recorded) if self.recorded else None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.found
        return {
            "experiment": self.experiment,
            "rows": list(self.rows),
            "status": found.status,
            "reason": found.reason,
            "settings": self.settings,
            "runs": self.runs,
            "parameters": found.parameters,
            "flops_per_step": found.flops,
            "peak_bytes": found.peak_bytes,
            "operations_per_step": found.operations,
            "step_s": found.step_s,
            "steps": [min(self.steps), max(self.steps)] if self.steps else None,
            "run_s": fmean(self.estimates) if self.estimates else None,
            "total_s": self.total_s if self.estimates else None,
            "recorded_s": self.recorded_s(),
        }


@dataclass(frozen=True)
class Rehearsal:
    """Rehearsal of some tables.

    Attributes:
        lines: one for each distinct network.
        device: that the seconds are of.
        share: of its peak that was assumed.
    """

    lines: list[Line]
    device: Device
    share: float

    @property
    def failed(self) -> list[Line]:
        """Lines of settings that cannot be built or stepped."""
        return [line for line in self.lines if line.found.status == "failed"]

    @property
    def nothing(self) -> bool:
        """Whether no setting could be rehearsed: their data cannot be had, or the like."""
        return all(line.found.status == "left" for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "device": self.device.title,
            "peak_flops": self.device.peak,
            "source": self.device.source,
            "share": self.share,
            "networks": [line.as_json() for line in self.lines],
            "total_s": sum(line.total_s for line in self.lines),
        }

    def table(self) -> Table:
        """For a terminal."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
        total = sum(line.total_s for line in self.lines)
        runs = sum(line.runs for line in self.lines)
        estimated = sum(line.runs for line in self.lines if line.estimates)
        table.add_column("network of", "all", overflow="fold")
        for name, footer in (
            ("runs", str(runs) if estimated == runs else f"{estimated} of {runs}"),
            ("weights", ""),
            ("FLOP/step", ""),
            ("peak", ""),
            ("steps", ""),
            ("a run", ""),
            ("recorded", ""),
            ("all runs", duration(total) if total else ""),
        ):
            table.add_column(name, footer, justify="right", no_wrap=True)
        for line in self.lines:
            found = line.found
            table.add_row(
                escape(f"{line.name} x {line.settings}" if line.settings > 1 else line.name),
                str(line.runs),
                _amount(found.parameters),
                _amount(found.flops),
                f"{_amount(found.peak_bytes)}B" if found.peak_bytes else "",
                _range(line.steps, lambda n: f"{n:,.0f}"),
                _range(line.estimates, duration),
                "" if line.recorded_s() is None else duration(line.recorded_s() or 0.0),
                duration(line.total_s) if line.estimates else "",
            )
        return table

    def notes(self) -> list[str]:
        """What has to be said beside the table."""
        peaks = ", ".join(
            f"{self.device.peak[precision] / 1e12:.3g}" for precision in ("32-true", "bf16-mixed")
        )
        return [
            f"Times are estimates of the training steps on {self.device.title}, at"
            f" {self.share:.0%} of its {peaks} TFLOP/s (32, 16 bits; {self.device.source}), and at"
            f" least {1e6 * self.device.operation_s:.2g} µs for each operation; validations and"
            " tests come on top.",
            *self._reasons("left", "not rehearsed"),
            *self._reasons("done", "rehearsed in part"),
            *self._reasons("failed", "failed"),
        ]

    def _reasons(self, status: str, said: str) -> list[str]:
        by_reason: dict[str, list[str]] = {}
        for line in self.lines:
            if line.found.status == status and line.found.reason:
                name = self._all_named(line) if status == "failed" else line.name
                by_reason.setdefault(line.found.reason, []).append(name)
        return [
            f"{said}: {', '.join(dict.fromkeys(names))}: {reason}"
            for reason, names in by_reason.items()
        ]

    def _all_named(self, line: Line) -> str:
        """A line's name with all its rows, and their columns where others of them are well."""
        alike = [one for one in self.lines if one is not line and one.experiment == line.experiment]
        elsewhere = {row for one in alike for row in one.rows}
        named = [f"{row}, {column}" if row in elsewhere else row for row, column in line.cells]
        of_rows = "; ".join(dict.fromkeys(named))
        return f"{line.experiment} [{of_rows}]" if of_rows else line.experiment


def _amount(value: float | None) -> str:
    """A number with three digits and the letter of its thousands."""
    if value is None:
        return ""
    for letter in ("", "k", "M", "G", "T", "P"):
        if value < 999.5 or letter == "P":
            return f"{value:.3g}{letter}"
        value /= 1000
    raise AssertionError


def _range(values: Sequence[float], text: Callable[[float], str]) -> str:
    if not values:
        return ""
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} - {high}"


def rehearse_tables(
    grids: Sequence[Grid],
    device: str,
    share: float,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> Rehearsal:
    """Rehearse every setting of some tables, and keep the estimates for ``plan``.

    Args:
        grids: planned tables.
        device: name of a device.
        share: of its peak that is assumed, above 0, at most 1.
        say: told of each network before it is rehearsed.
        warn: told of records that are skipped.

    Raises:
        UserError: for a device that is not known.
    """
    from retable.launch.rehearsal.rehearse import Setting, rehearse

    settings: dict[str, tuple[FrozenRun, set[str]]] = {}
    for grid in grids:
        for setting, seeds in grid.settings():
            settings.setdefault(setting.setting_key, (setting, set()))[1].update(
                setting.keys(seeds)
            )
    threads = max((s.config.device.threads for s, _ in settings.values()), default=1)
    chosen = device_named(device, threads)
    took = _recorded(grids, warn)
    cells: dict[str, list[tuple[str, str]]] = {}
    for grid in grids:
        for cell in grid.cells.values():
            cells.setdefault(cell.setting.setting_key, []).append((cell.row, cell.column))
    lines: dict[object, Line] = {}
    given = [
        Setting(key, _experiment(setting), setting.config.model_dump(mode="json"))
        for key, (setting, _) in settings.items()
    ]
    for one, found in rehearse(given, say):
        setting, keys = settings[one.key]
        seconds = run_seconds(found, setting.config.trainer.precision, chosen, share)
        if seconds is not None:
            of_peak = share if found.flops is not None else None
            estimate = Estimate(setting.fingerprint, found, seconds, chosen.title, of_peak)
            records.keep(setting, estimate)
        elif found.status == "failed":
            records.keep(setting, Estimate(setting.fingerprint, found, None, chosen.title, None))
        else:
            records.forget_failure(setting)
        same = found.network if found.status == "done" else (found.reason, found.parameters)
        key = one.name, same
        line = lines.setdefault(key, Line(one.name, found))
        line.cells += cells.get(one.key, ())
        line.rows.update(dict.fromkeys(row for row, _ in cells.get(one.key, ())))
        line.settings += 1
        line.runs += len(keys)
        if found.steps is not None:
            line.steps.append(found.steps)
        if seconds is not None:
            line.estimates.append(seconds)
            line.total_s += seconds * len(keys)
        if took.get(one.key):
            line.recorded.append((seconds, fmean(took[one.key])))
    return Rehearsal(list(lines.values()), chosen, share)


def _experiment(setting: FrozenRun) -> str:
    return setting.config.experiment or setting.config.paper


def _recorded(grids: Sequence[Grid], warn: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds of finished runs by setting: those here, else those that are published."""
    took: dict[str, list[float]] = {}
    for grid in grids:
        here = recorded.seconds(grid, collect.from_runs(grid, warn))
        published = recorded.published_seconds(grid, warn)
        for key in {*here, *published}:
            took[key] = took.get(key) or here.get(key) or published.get(key) or []
    return took
