"""What every paper keeps to, in the repository or outside of it, tried on its smoke runs.

A number can be trusted only if the run behind it gives the same bits again, in one piece or with
stops in between, and if a table's cells ask for what the runs record.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path

from retable.config import targets
from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.config.schema import RunConfig
from retable.launch.dispatch import launch
from retable.launch.forkserver_client import Forkserver
from retable.launch.worker import Exit
from retable.runs import frozen, provenance, records, scan
from retable.runs.attempts import Launched
from retable.runs.equality import compare
from retable.runs.frozen import FrozenRun, freeze
from retable.runs.lookup import history_of
from retable.runs.records import Record
from retable.tables import grid, spec
from retable.tables.grid import CellPlan, Grid
from retable.util import paths
from retable.util.errors import UserError, nearest
from retable.util.progress import Progress
from retable.util.text import duration

SMOKE = "smoke"
"""Protocol of runs that need no data and end within a minute."""

STOPS = 2
"""Epochs after which a smoke run is stopped, one after the other, before it may end."""

_GIVEN = {"seed", "paths", "optimizer", "scheduler"}
"""Arguments that retable gives, or that are targets of their own."""


@dataclass(frozen=True)
class Finding:
    """One thing that was tried: of what, whether it is as it has to be, and what was found."""

    what: str
    ok: bool
    said: str


@dataclass
class Smoke:
    """A smoke run, and the cells of tables that are made of it.

    Attributes:
        run: with the first seed.
        cells: each with its table.
    """

    run: FrozenRun
    cells: list[tuple[Grid, CellPlan]] = field(default_factory=list[tuple[Grid, CellPlan]])

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.run.config.experiment or self.run.label

    def is_estimate(self, timed: Collection[str]) -> bool:
        """Whether some table takes its numbers for such as another seed would change.

        Args:
            timed: names of times, which say nothing of it.
        """
        metrics = [one.spec.metrics[one.spec.columns[c.column].metric] for one, c in self.cells]
        return not all(metric.deterministic or metric.key in timed for metric in metrics)


def examine(paper: str, folder: Path) -> Iterator[Finding]:
    """Try a paper: what its files say, then what its smoke runs show.

    Args:
        paper: its slug.
        folder: empty, for the runs.

    Raises:
        UserError: where there is no such paper.
    """
    findings, smokes = planned(paper)
    yield from findings
    if smokes:
        yield from tried(smokes, folder)


@planning()
def planned(paper: str) -> tuple[list[Finding], list[Smoke]]:
    """Compose a paper's experiments and plan its tables; what there is to run for a trial.

    Raises:
        UserError: where there is no such paper.
    """
    experiments = _of(paper, "experiment")
    if not experiments:
        papers = {name.partition("/")[0] for name in paths.config_names("experiment")}
        raise UserError(f"no paper '{paper}'{nearest(paper, papers)}")
    findings: list[Finding] = []
    configs: dict[str, RunConfig] = {}
    for name in experiments:
        try:
            configs[name] = compose([f"experiment={name}", "seed=0"])
        except UserError as error:
            findings.append(Finding(name, False, str(error)))
    said = f"{_count(configs, 'experiment')} composed"
    findings.append(Finding("experiments", bool(configs), said))
    findings.append(_options(list(configs.values())))
    grids: list[Grid] = []
    tables = _of(paper, "table")
    with Progress("planning tables", len(tables)) as progress:
        for number, name in enumerate(tables, 1):
            try:
                own = [grid.plan(name, protocol) for protocol in spec.load(name).protocols()]
                findings.append(_table(own, configs))
            except UserError as error:
                findings.append(Finding(name, False, str(error)))
            else:
                grids += own
            progress.at(number)
    smokes = _smokes(list(configs.values()), grids)
    if not smokes:
        said = f"no experiment has protocol: {SMOKE}; it needs one, which is what is tried"
        findings.append(Finding(SMOKE, False, said))
    return findings, smokes


def _table(grids: Sequence[Grid], configs: Mapping[str, RunConfig]) -> Finding:
    """A table that could be planned, by protocol."""
    first = grids[0]
    for one in grids:
        own = [("rows", row, part) for row, part in one.spec.rows.items() if part.experiment]
        for kind, key, part in [*own, *(("columns", *pair) for pair in one.spec.columns.items())]:
            name = spec.by_protocol(part.experiment or {}).get(one.protocol)
            config = configs.get(name or "")
            if config is not None and config.protocol != one.protocol:
                where = f"{kind}.{key}.experiment.{one.protocol}"
                said = f"{where}: {name} says protocol: {config.protocol}"
                return Finding(first.name, False, said)
    cells = (cell for row in first.spec.reported.values() for cell in row.values())
    reported = Counter(cell.grade for cell in cells)
    numbers = ", ".join(f"{n} {grade}" for grade, n in sorted(reported.items())) or "none"
    settings = _count([s for one in grids for s in one.settings()], "setting")
    protocols = ", ".join(one.protocol for one in grids)
    return Finding(first.name, True, f"{settings} in {protocols}; reported numbers: {numbers}")


def _of(paper: str, group: str) -> list[str]:
    return [name for name in paths.config_names(group) if name.startswith(f"{paper}/")]


def _count(several: Sized, what: str) -> str:
    return f"{len(several):,} {what}{'' if len(several) == 1 else 's'}"


def _options(configs: Sequence[RunConfig]) -> Finding:
    """Whether every option of what is built can be checked before a launch."""
    nodes = {c["_target_"]: c for config in configs for c in (config.data, config.model)}
    free = [f"{n}.{option}" for n, c in nodes.items() for option in targets.unchecked(c, _GIVEN)]
    if free:
        some = ", ".join(free[:3]) + (" ..." if len(free) > 3 else "")
        why = "has no type in its signature that a value could be checked against before a launch"
        return Finding("options", False, f"{some}: {why}")
    return Finding("options", True, f"every option of {len(nodes)} classes is checked")


def _smokes(configs: Sequence[RunConfig], grids: Sequence[Grid]) -> list[Smoke]:
    """A run of each smoke experiment: as the first table has it that does, else as it stands."""
    found: dict[str | None, Smoke] = {}
    for one in grids:
        for cell in one.cells.values() if one.protocol == SMOKE else ():
            smoke = found.setdefault(cell.setting.config.experiment, Smoke(cell.setting))
            if smoke.run.key == cell.setting.key:
                smoke.cells.append((one, cell))
    for config in configs:
        if config.protocol == SMOKE and config.experiment not in found:
            found[config.experiment] = Smoke(freeze(config))
    return list(found.values())


def tried(smokes: Sequence[Smoke], folder: Path) -> Iterator[Finding]:
    """Run once, with stops, and with another seed; what that shows.

    What is the same after stops is the same twice; only what is not is run once more as it is.

    Args:
        smokes: of :func:`planned`.
        folder: empty, for the runs.
    """
    once = _done([smoke.run for smoke in smokes], folder / "once")
    done = [smoke for smoke in smokes if smoke.run.key in once]
    attempts = _stopped([smoke.run for smoke in done], folder / "stopped")
    resumed = {
        smoke.name: _same(smoke, _what(attempts[smoke.run.key]), folder, "stopped")
        for smoke in done
    }
    unlike = [smoke for smoke in done if not resumed[smoke.name].ok]
    others = {
        smoke.name: smoke.run.with_seed(smoke.run.config.seed + 1)
        for smoke in done
        if smoke.is_estimate(once[smoke.run.key].timing_metrics)
    }
    again = _done([*(smoke.run for smoke in unlike), *others.values()], folder / "again")
    for smoke in smokes:
        ended = once.get(smoke.run.key)
        if ended is None:
            yield Finding(smoke.name, False, _why_not(smoke.run, folder / "once"))
            continue
        took = duration(ended.wall_s)
        yield Finding(smoke.name, True, f"{_count(ended.results, 'result')} in {took}")
        folder_once = smoke.run.below(folder / "once").folder
        yield from _asked_for(smoke, ended, history_of(folder_once, ended))
        if smoke in unlike:
            yield _same(smoke, "the same twice", folder, "again")
        yield resumed[smoke.name]
        if smoke.name in others and (other := again.get(others[smoke.name].key)):
            yield _seeded(smoke, ended, other)


def _what(attempts: int) -> str:
    return "stopped and resumed" if attempts > 1 else "run twice, with no epoch to be stopped after"


def _done(runs: Sequence[FrozenRun], home: Path) -> dict[str, Record]:
    """Do runs below a folder; the records of those that are done, by key."""
    placed = [run.below(home, logged=False) for run in runs]
    if launch(placed).stopped:
        raise KeyboardInterrupt
    found = {run.key: records.read_run(run.folder, lambda _: None) for run in placed}
    return {key: r for key, r in found.items() if r and r.status is records.Status.DONE}


def _why_not(run: FrozenRun, home: Path) -> str:
    record = records.read_run(run.below(home).folder, lambda _: None)
    if record is None:
        return "left no record"
    lines = (record.error or "").splitlines()
    return f"{record.status.value}{': ' + lines[0] if lines else ''}"


def _stopped(runs: Sequence[FrozenRun], home: Path) -> dict[str, int]:
    """Do runs that are told to leave in their first epoch, then in their second.

    Returns:
        How many attempts it took, by key.
    """
    placed = [run.below(home, logged=False) for run in runs]
    if above := [parent for run in placed for parent in run.chain]:
        launch(above)
    attempts: dict[str, int] = {}
    with Forkserver(sorted({target for run in placed for target in run.targets})) as server:
        launched = Launched(provenance.collect(home))
        for run in placed:
            frozen.write(run)
            for number in range(STOPS + 1):
                server.start(run, launched, leave=number < STOPS)
                attempts[run.key] = number + 1
                while not (ended := server.wait(1)):
                    pass
                if ended[0].code != Exit.INTERRUPTED:
                    break
    return attempts


def _same(smoke: Smoke, what: str, folder: Path, place: str) -> Finding:
    """Whether what a run gave in another place is what it gave the first time."""
    first, second = (smoke.run.below(folder / name).folder for name in ("once", place))
    one, other = (records.read_run(path, lambda _: None) for path in (first, second))
    assert one is not None
    if other is None or other.status is not records.Status.DONE:
        return Finding(smoke.name, False, f"{what}: {_why_not(smoke.run, folder / place)}")
    found = compare(one, other, (history_of(first, one), history_of(second, other)))
    return Finding(smoke.name, found.kind == "bitwise equal", f"{what}: {found.text()}")


def _asked_for(
    smoke: Smoke, record: Record, history: Sequence[dict[str, float]]
) -> Iterator[Finding]:
    """Whether the numbers that tables want of a run are in its record, or its history.

    Of a curve some point is enough: a short run may have none of its first.
    """
    if not smoke.cells:
        return
    known = {(result.metric, result.result_row) for result in record.results}
    logged = {(name, "") for row in history for name in row if "/" in name}
    for one, cell in smoke.cells:
        at = cell.address
        if (at.metric, at.result_row) in (known if at.epoch is None else logged):
            continue
        if math.isnan(scan.value_at(record, at.place)):
            wanted = "/".join(filter(None, (at.metric, at.result_row)))
            there, kind = (known, "record") if at.epoch is None else (logged, "history")
            hint = nearest(wanted, ["/".join(filter(None, names)) for names in there])
            where = f"{one.name}, {cell.row}/{cell.column}"
            yield Finding(smoke.name, False, f"{where}: no {wanted} in its {kind}{hint}")
            return
    cells = _count(smoke.cells, "cell")
    yield Finding(smoke.name, True, f"has what {cells} of tables want")


def _seeded(smoke: Smoke, one: Record, other: Record) -> Finding:
    if one.substance()["results"] != other.substance()["results"]:
        return Finding(smoke.name, True, "another seed gives other numbers")
    said = "two seeds give the same numbers; use the seed, or say deterministic: true"
    return Finding(smoke.name, False, said)
