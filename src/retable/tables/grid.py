"""From a table file to the runs it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.config.yaml_checks import of_launch
from retable.runs.columns import Place
from retable.runs.frozen import FrozenRun, freeze
from retable.tables import spec as specs
from retable.tables.address import Address, refuse_impossible
from retable.tables.looks_spec import looks_of
from retable.tables.over_columns_spec import behind
from retable.tables.select import Candidate, Selection, combinations, is_undecided, refuse_equal
from retable.tables.select import overrides as select_overrides
from retable.tables.spec import TableSpec
from retable.tables.spec_parts import Select
from retable.tables.validate import direction_of
from retable.tables.verdicts.course import Course
from retable.util import paths
from retable.util.errors import UserError, nearest


@dataclass(frozen=True)
class CellPlan:
    """The setting of one cell (frozen with the first seed) and where its number stands.

    Where it is to be chosen and is not yet, the setting stands for the others.
    """

    row: str
    column: str
    setting: FrozenRun
    address: Address
    selection: Selection | None = None


@dataclass(frozen=True)
class Grid:
    """A table with its cells planned; cells that are reported only are not in it."""

    name: str
    spec: TableSpec
    protocol: str
    seeds: list[int]
    cells: dict[tuple[str, str], CellPlan]
    n_seeds: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """Of some cells, how many of the seeds they are run with; the others with all."""
    course: Course | None = None
    """Progress of a table that is run until it is decided."""

    def cell_seeds(self, cell: CellPlan) -> list[int]:
        """Seeds of a cell's number."""
        seeds = self.seeds[: self.n_seeds.get((cell.row, cell.column), len(self.seeds))]
        # A deterministic cell is the same for every seed, so one run says all.
        metric = self.spec.metrics[self.spec.columns[cell.column].metric]
        return seeds[:1] if metric.deterministic else seeds

    def cell_runs(self, cell: CellPlan) -> list[FrozenRun]:
        """Runs behind a cell's number, one per seed; none as long as its setting is not chosen."""
        if is_undecided(cell):
            return []
        return [cell.setting.with_seed(seed) for seed in self.cell_seeds(cell)]

    def cell_keys(self, cell: CellPlan) -> list[str]:
        """Keys of :meth:`cell_runs`, which are many times cheaper than the runs."""
        return [] if is_undecided(cell) else cell.setting.keys(self.cell_seeds(cell))

    def at_looks(self) -> list[Grid]:
        """The table with the seeds of each look that its file declares; empty where of none.

        Of a part of the seeds no look but the first is there, so that nothing is taken for a later.
        """
        found = {place: looks_of(self.spec, place, self.protocol) for place in self.cells}
        looks = {place: fixed.seeds for place, fixed in found.items() if fixed is not None}
        if not looks:
            return []
        whole = len(self.seeds) == len(self.spec.seed_list(self.protocol))
        count = len(next(iter(looks.values()))) if whole else 1
        return [
            replace(self, n_seeds={place: seeds[number] for place, seeds in looks.items()})
            for number in range(count)
        ]

    def tuning_runs(self) -> list[FrozenRun]:
        """Runs that settings are chosen by, each once."""
        chosen = [cell.selection.runs() for cell in self.cells.values() if cell.selection]
        unique = {run.key: run for runs in chosen for one in runs for run in (*one.chain, one)}
        return sorted(unique.values(), key=lambda run: run.config.seed)

    def runs(self) -> Iterator[FrozenRun]:
        """Every run once, seed by seed, so that a table that is stopped is even.

        Tuning runs come first; runs of a setting that is not chosen yet are not among them. What
        a run starts from comes before it, see :meth:`settings`.
        """
        yield from self.tuning_runs()
        settings = self._cell_settings()
        for number, seed in enumerate(self.seeds):
            for setting, n_seeds in settings:
                if number < n_seeds:
                    yield setting.with_seed(seed)

    def run_folders(self) -> dict[str, str]:
        """Of every run, in the order of :meth:`runs`: its key, and the folder that its own is in.

        Many times cheaper than the runs.
        """
        found = {run.key: str(run.folder.parent) for run in self.tuning_runs()}
        settings = [
            (setting.keys(self.seeds[:n_seeds]), str(setting.folder.parent))
            for setting, n_seeds in self._cell_settings()
        ]
        for number in range(len(self.seeds)):
            for keys, folder in settings:
                if number < len(keys):
                    found[keys[number]] = folder
        return found

    def settings(self) -> list[tuple[FrozenRun, list[int]]]:
        """Every setting with the seeds that are run: those to choose from, then those of cells.

        Before each are those that it starts from.
        """
        selections = [cell.selection for cell in self.cells.values() if cell.selection]
        candidates = [(c.setting, list(s.seeds)) for s in selections for c in s.candidates]
        tuned = {
            one.key: (one, seeds)
            for setting, seeds in candidates
            for one in (*setting.chain, setting)
        }
        own = [(setting, self.seeds[:n_seeds]) for setting, n_seeds in self._cell_settings()]
        return [*tuned.values(), *own]

    def only_started_from(self) -> dict[str, list[str]]:
        """Keys of the runs that fill no cell and are only started from, by experiment."""
        own = {key for cell in self.cells.values() for key in self.cell_keys(cell)}
        for chosen in (cell.selection for cell in self.cells.values() if cell.selection):
            for candidate in chosen.candidates:
                own.update(candidate.setting.keys(list(chosen.seeds)))
        found: dict[str, dict[str, None]] = {}
        for setting, seeds in self.settings():
            if started := [key for key in setting.keys(seeds) if key not in own]:
                name = setting.config.experiment or setting.config.paper
                found.setdefault(name, {}).update(dict.fromkeys(started))
        return {name: list(keys) for name, keys in found.items()}

    def _cell_settings(self) -> list[tuple[FrozenRun, int]]:
        """Every setting of a cell once, with how many of the first seeds some cell of it needs.

        Before each are those that it starts from, with as many seeds.
        """
        settings: dict[str, tuple[FrozenRun, int]] = {}
        for cell in self.cells.values():
            own = 0 if is_undecided(cell) else len(self.cell_seeds(cell))
            for one in (*cell.setting.chain, cell.setting):
                setting, needed = settings.get(one.key, (one, 0))
                settings[one.key] = setting, max(needed, own)
        return list(settings.values())


def places_of(grid: Grid) -> list[Place]:
    """Where all numbers of a table stand: those of its cells, and those that settings go by."""
    cells = [cell.address.place for cell in grid.cells.values()]
    chosen = [cell.selection.place for cell in grid.cells.values() if cell.selection]
    return list(dict.fromkeys([*cells, *chosen]))


def expand_names(name: str) -> list[str]:
    """Tables that a name stands for: ``paper/table``, or all of ``paper``."""
    names = paths.config_names("table")
    if name in names:
        return [name]
    found = [n for n in names if n.startswith(f"{name}/")]
    if not found:
        if name in paths.config_names("experiment"):
            raise UserError(
                f"'{name}' is an experiment, no table or paper: `retable show experiment={name}`"
                f" has its settings, `retable train experiment={name}` runs it"
            )
        papers = {n.partition("/")[0] for n in names}
        own = [n for n in names if n.partition("/")[0] == name.partition("/")[0]]
        hint = nearest(name, own or [*names, *papers]) or nearest(name, papers)
        raise UserError(f"no table or paper '{name}'{hint or '; retable list shows them'}")
    return found


def plan(
    name: str,
    protocol: str = "paper",
    *,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    n_seeds: int | None = None,
) -> Grid:
    """Compose and validate every cell of a table once.

    Args:
        name: ``paper/table``.
        protocol: which experiment of each column.
        overrides: for unkeyed settings only; what a table runs is fixed by its file.
        rows: only these, all where empty.
        columns: only these, all where empty.
        n_seeds: only the first so many.

    Raises:
        UserError: for an unknown name, an override that would change the table's runs, or two
            cells that are the same number of the same run.
    """
    spec = specs.load(name)
    if protocol not in spec.protocols():
        hint = nearest(protocol, spec.protocols())
        raise UserError(f"{name}: no protocol '{protocol}'{hint}")
    for chosen, known, what in ((rows, spec.rows, "row"), (columns, spec.columns, "column")):
        for item in chosen:
            if item not in known:
                raise UserError(f"{name}: no {what} '{item}'{nearest(item, known)}")
    seeds = spec.seed_list(protocol)
    if n_seeds is not None:
        if not 1 <= n_seeds <= len(seeds):
            raise UserError(f"--seeds {n_seeds}: {name} has 1 to {len(seeds)} seeds")
        seeds = seeds[:n_seeds]
    cells = _cells(name, spec, protocol, seeds[0], overrides)
    _refuse_twins(name, spec, cells)
    places = {(r, c) for r, c in cells if r in (rows or [r]) and c in (columns or [c])}
    # A column that is made of others needs the runs of those, where it is asked for.
    places |= {p for c in columns for r in rows or spec.rows for p in behind(spec, r, c, protocol)}
    # A number that is relative to another row needs that row's runs too.
    places |= {(spec.reference(c) or r, c) for r, c in places}
    chosen = {place: cell for place, cell in cells.items() if place in places}
    limits = {place: n for place in chosen if (n := spec.n_seeds(*place, protocol)) < len(seeds)}
    return Grid(name, spec, protocol, seeds, chosen, limits)


def _cells(
    name: str, spec: TableSpec, protocol: str, seed: int, overrides: Sequence[str]
) -> dict[tuple[str, str], CellPlan]:
    settings: dict[tuple[str, ...], FrozenRun] = {}
    selections: dict[tuple[str, ...], Selection] = {}
    cells: dict[tuple[str, str], CellPlan] = {}
    launching = ["launcher.alone=true"] if spec.timing == "alone" else []
    with planning():
        for row_name, row in spec.rows.items():
            for column_name, column in spec.columns.items():
                experiment = spec.experiment(column_name, protocol, row_name)
                made = column.over_columns is not None
                if experiment is None or made or not row.runs_in(column_name):
                    continue
                own = (f"experiment={experiment}", *column.overrides, *row.overrides, *launching)
                place = (row_name, column_name)
                selection = None
                if select := spec.selects(row_name):
                    if own not in selections:
                        selections[own] = _selection(name, spec, select, place, own, overrides)
                    selection = selections[own]
                    settings.setdefault(own, selection.candidates[0].setting.with_seed(seed))
                if own not in settings:
                    settings[own] = _freeze(name, place, own, seed, overrides)
                key, epoch = spec.metrics[column.metric].key, column.epoch
                # A history is the whole run's, so that a row of several has no say.
                result_row = "" if epoch is not None else row.result_row or column.result_row or ""
                address = Address(key, result_row, column.step, epoch)
                run = settings[own]
                paper = run.config.paper
                if paper != spec.paper:
                    raise UserError(
                        f"{name}, row {row_name}, column {column_name}: is of paper '{paper}', the"
                        f" table of '{spec.paper}'"
                    )
                refuse_impossible(f"{name}, row {row_name}, column {column_name}", run, address)
                cells[place] = CellPlan(row_name, column_name, run, address, selection)
    return cells


def _selection(
    name: str,
    spec: TableSpec,
    select: Select,
    cell: tuple[str, str],
    own: Sequence[str],
    overrides: Sequence[str],
) -> Selection:
    seeds = select.seed_list()
    candidates = tuple(
        Candidate(
            values,
            _freeze(name, cell, (*own, *select_overrides(values)), seeds[0], overrides),
        )
        for values in combinations(select)
    )
    refuse_equal(f"{name}, row {cell[0]}, column {cell[1]}", candidates)
    direction = direction_of(spec, select)
    assert direction is not None
    return Selection(select.by, direction, tuple(seeds), candidates)


def _freeze(
    name: str, cell: tuple[str, str], own: Sequence[str], seed: int, overrides: Sequence[str]
) -> FrozenRun:
    try:
        plain = freeze(compose([*own, f"seed={seed}"]))
    except UserError as error:
        raise UserError(f"{name}, row {cell[0]}, column {cell[1]}: {error}") from None
    if not overrides:
        return plain
    for text in overrides:  # of a run without a start it is an error of another kind
        if re.match(r"[+~]*start\b", text):
            raise _fixed(name, text)
        if found := re.fullmatch(r"[+]*protocol=(.*)", text):  # a label alone would be another
            raise UserError(f"override '{text}': say --protocol {found[1]} instead")
    run = freeze(compose([*own, f"seed={seed}", *overrides]))
    if run.key != plain.key:
        launching = [text for text in overrides if of_launch(text)]  # they need each other
        for text in overrides:
            if freeze(compose([*own, f"seed={seed}", *launching, text])).key != plain.key:
                raise _fixed(name, text)
    return run


def _fixed(name: str, override: str) -> UserError:
    return UserError(
        f"override '{override}': would change what {name} runs, which its file fixes;"
        " use `retable train -m` for other settings"
    )


def _refuse_twins(name: str, spec: TableSpec, cells: dict[tuple[str, str], CellPlan]) -> None:
    seen: dict[tuple[object, ...], tuple[str, str]] = {}
    for (row, column), cell in cells.items():
        metric = spec.metrics[spec.columns[column].metric]
        address = (cell.setting.key, cell.address, metric.relative_to)
        if address in seen:
            other = seen[address]
            raise UserError(
                f"{name}: row {row}, column {column} is the same number of the same run as"
                f" row {other[0]}, column {other[1]}"
            )
        seen[address] = (row, column)
