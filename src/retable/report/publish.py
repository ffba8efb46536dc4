"""Write a table and the records it follows from into results/, and the overview of all tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from retable.config.compose_cache import planning
from retable.launch.dispatch import warn
from retable.report import markdown, paper_page, results_index, uncommitted
from retable.report.svg import curves
from retable.runs import (
    artifacts,
    published_artifacts,
    published_records,
    published_starts,
    records,
    start_files,
    starts,
)
from retable.runs.history import FILE as HISTORY
from retable.runs.history import history_text
from retable.runs.lookup import find
from retable.runs.record_set import Found
from retable.tables import collect, heat_maps
from retable.tables.aggregate import Table, build
from retable.tables.grid import Grid, places_of, plan
from retable.tables.heat_spec import Heat, Image
from retable.tables.unrecorded import refuse_mistakes, unrecorded
from retable.tables.verdicts.judge import judge_all
from retable.tables.verdicts.sequential import dump
from retable.util import paths
from retable.util.atomic import write_atomic
from retable.util.errors import UserError
from retable.util.text import counted, on_table

if TYPE_CHECKING:
    from retable.training.start import Start


def published_file(name: str, protocol: str) -> Path:
    """Markdown file of a published table; protocols other than ``paper`` have their own."""
    return published_records.parquet_file(name, protocol).with_suffix(".md")


def check(
    grid: Grid, *, partial: bool = False, warn: Callable[[str], None] = lambda _: None
) -> None:
    """Refuse what should not be published.

    Args:
        grid: the planned table.
        partial: replace published results by fewer.
        warn: told of published runs that would go, because the table does not plan them any more,
            and of records whose code was not committed.

    Raises:
        UserError: where there is no finished run of it at all, or fewer than are published, or a
            cause in the table file names a run or an output that nobody has, or its figure an
            array, or a metric is one that none of its runs records.
    """
    records = collect.from_runs(grid, lambda _: None)
    table = build(grid, records, collect.artifacts_of_runs(grid))
    refuse_mistakes(unrecorded(grid, table, records, collect.history_of_runs(grid)), grid.name)
    if not any(cell.n for cell in table.cells.values()):
        command = f"retable run {grid.name} --protocol {grid.protocol}"
        raise UserError(
            f"{grid.name}: nothing to publish under protocol {grid.protocol}, no run of it is"
            f" finished; '{command}' runs it"
        )
    there = collect.decided_by_results(plan(grid.name, grid.protocol))
    before = build(there, collect.from_results(there, warn))
    n_here, n_there = _finished(table), _finished(before)
    if n_here < n_there and not partial:
        raise UserError(
            f"{grid.name}: {n_here} finished runs are here, {n_there} are published; run it first"
            f" ({on_table('run', grid.name, grid.protocol)}), or say --partial"
        )
    for number, why in enumerate(grid.spec.why):
        for key in why.runs:
            try:
                find(key)
            except UserError as error:
                raise UserError(f"{grid.name}: why.{number}.runs: {error}") from None
        if why.measured:
            results = published_file(grid.name, grid.protocol).parent
            why.measured.refuse_other(results, f"{grid.name}: why.{number}.measured")
    heat_maps.refuse_mistakes(table)
    home = Path(next(iter(grid.cells.values())).setting.config.paths.runs)
    found = Found.of(records)
    old = sum(int(found.stale(setting, seeds).sum()) for setting, seeds in grid.settings())
    if old:
        refresh = on_table("refresh", grid.name, grid.protocol)
        warn(
            f"{grid.name}: {old} of {counted(len(records), 'record')} {'is' if old == 1 else 'are'}"
            f" stale: computed by other code than is here now; `{refresh}` tells whether it matters"
        )
    for text in uncommitted.said(records.values(), home):
        warn(f"{grid.name}: {text}")


def _finished(table: Table) -> int:
    """Runs that a number of the table is or will be made from; those of waiting looks too."""
    cells = table.at_looks[-1] if table.at_looks else table.cells
    return len({key for cell in cells.values() for key in cell.run_keys})


def publish(grid: Grid, *, partial: bool = False) -> tuple[Path, Table]:
    """Publish a table from the run folders.

    Args:
        grid: the planned table.
        partial: replace published results by fewer.

    Raises:
        UserError: as :func:`check`.
    """
    check(grid, partial=partial)
    found = collect.from_runs(grid, lambda _: None)
    target = published_file(grid.name, grid.protocol)
    target.parent.mkdir(parents=True, exist_ok=True)
    published_records.write(
        published_records.parquet_file(grid.name, grid.protocol),
        found,
        _histories(grid, found),
        places_of(grid),
    )
    _keep_looks(grid)
    _keep_starts(grid, found)
    _keep_artifacts(grid, found)
    # Rendered from what was just written, so that the two cannot disagree.
    tables = rewrite(grid.spec.paper, grid.protocol)
    written = next(t for t in tables if t.name == grid.name)
    for empty in heat_maps.without_numbers(written):
        warn(f"{grid.name}: its figure, panel '{empty.panel.title}', is empty: {empty.why}")
    return target, written


def _keep_looks(grid: Grid) -> None:
    """Beside the records how often they were looked at, which their verdicts depend on."""
    file = published_records.looks_file(grid.name, grid.protocol)
    if grid.course is None:
        file.unlink(missing_ok=True)
    else:
        write_atomic(file, dump(grid.course.looks))


def _keep_starts(grid: Grid, found: Mapping[str, records.Record]) -> None:
    """Beside the records what runs start from, where it is small and here."""
    above = {
        parent.key: parent
        for setting, seeds in grid.settings()
        if (first := setting.parent) is not None
        for parent in map(first.with_seed, seeds)
    }

    def left() -> Iterator[tuple[str, Start]]:
        for key, run in above.items():
            if key not in found:
                continue
            published = published_starts.file_of(grid.name, grid.protocol, key)
            if starts.is_ready(run):
                yield key, starts.left_by(run, found[key])
            elif published.exists():  # of earlier, and the same still
                start = start_files.read(published)
                if starts.is_recorded(start, found[key]):
                    yield key, start

    for key in published_starts.write(grid.name, grid.protocol, left()):
        warn(f"{above[key].label}: what it leaves for other runs is too large to be published")


def _keep_artifacts(grid: Grid, found: Mapping[str, records.Record]) -> None:
    """Beside the records the artefacts that the figure is drawn from, where small and here."""
    figure = grid.spec.figure
    if not isinstance(figure, Heat | Image):
        published_artifacts.write(grid.name, grid.protocol, ())
        return
    drawn, name = dict.fromkeys((p.row, p.column) for p in figure.panels), figure.artifact
    cells = [cell for place in drawn if (cell := grid.cells.get(place))]
    keys = dict.fromkeys(key for cell in cells for key in grid.cell_keys(cell) if key in found)
    in_runs, in_results = collect.artifacts_of_runs(grid), collect.artifacts_of_results(grid)

    def left() -> Iterator[tuple[str, str, bytes]]:
        for key in keys:
            record = found[key]
            if (sha256 := record.artifacts.get(name)) is None:
                continue
            # Where it is not here any more, it may be published already.
            places = in_runs(record, name), in_results(record, name)
            file = next((f for f in places if artifacts.is_recorded(f, sha256)), None)
            if file is not None:
                yield key, name, file.read_bytes()

    for key in published_artifacts.write(grid.name, grid.protocol, left()):
        warn(f"{key[:12]}: its artefact is too large to be published, and is not in the figure")


def rewrite(paper: str, protocol: str) -> list[Table]:
    """Write a paper's pages of one protocol, and the overview, from the published records.

    All of its tables, because p of a claim is adjusted over all claims of the paper.

    Raises:
        UserError: where none is published.
    """
    tables = judged(paper, protocol)
    if not tables:
        raise UserError(f"{paper}: nothing is published under protocol {protocol}")
    for path, text in files_of(tables).items():
        write_atomic(path, text)
    write_overview()
    return tables


def judged(paper: str, protocol: str) -> list[Table]:
    """A paper's tables of one protocol from their published records."""
    names = [n for n, p in published() if p == protocol and n.partition("/")[0] == paper]
    with planning():
        grids = [collect.decided_by_results(plan(name, protocol)) for name in names]
    return judge_all(
        build(grid, collect.from_results(grid), collect.artifacts_of_results(grid))
        for grid in grids
    )


def files_of(tables: list[Table]) -> dict[Path, str]:
    """Files of published tables: Markdown, and the picture where one is a figure."""
    files: dict[Path, str] = {}
    for table in tables:
        target = published_file(table.name, table.protocol)
        drawn = target.with_suffix(".svg")
        if table.spec.figure is not None:
            files[drawn] = curves.render(table)
        files[target] = markdown.render(
            table, picture=drawn.name if table.spec.figure is not None else None
        )
    return files


def render_published(grid: Grid) -> str:
    """Markdown of a table from its published records, beside those of the paper's other tables."""
    tables = judged(grid.spec.paper, grid.protocol)
    return files_of(tables)[published_file(grid.name, grid.protocol)]


def written(name: str, protocol: str) -> str:
    """What stands in the results of a table: its page, and the names of what lies beside it."""
    page = published_file(name, protocol)
    files = [page.with_suffix(".parquet"), page.with_suffix(".svg")]
    files.append(published_records.looks_file(name, protocol))
    beside = [file.name for file in files if file.is_file()]
    for of in (published_artifacts, published_starts):
        folder = of.folder_of(name, protocol)
        if n := len([*folder.glob("*.safetensors")]):
            beside.append(f"{folder.name}/ ({counted(n, 'file')})")
    return ", ".join([str(page), *beside])


def _histories(grid: Grid, found: Mapping[str, records.Record]) -> dict[str, str]:
    """By key; of a run that was restored, the thinned one that is published."""
    texts: dict[str, str] = {}
    missing: dict[str, str] = {}
    for run in grid.runs():
        record = found.get(run.key)
        if record is None or record.history_sha256 is None:
            continue
        path = run.folder / "attempts" / str(record.attempt) / HISTORY
        if path.is_file():
            texts[run.key] = path.read_text(encoding="utf-8")
        else:
            missing[run.key] = record.history_sha256
    file = published_records.parquet_file(grid.name, grid.protocol)
    if missing and file.is_file():
        before = {record.key: record.history_sha256 for record in published_records.read(file)}
        for key, rows in published_records.histories(file).items():
            if key in missing and before[key] == missing[key]:
                texts[key] = history_text(json.loads(rows))
    return texts


def published() -> list[tuple[str, str]]:
    """Published tables, as (name, protocol)."""
    base = paths.results_dir()
    found: list[tuple[str, str]] = []
    tables = set(paths.config_names("table"))
    for path in sorted(base.rglob("*.parquet")):
        stem = path.relative_to(base).with_suffix("").as_posix()
        name, dash, protocol = stem.rpartition("-")
        whole = not dash or stem in tables
        found.append((stem, "paper") if whole else (name, protocol))
    return found


def refuse_unpublished(grids: list[Grid]) -> None:
    """Refuse tables of which none is published.

    Raises:
        UserError: naming the protocols under which they are.
    """
    if any(published_records.parquet_file(grid.name, grid.protocol).is_file() for grid in grids):
        return
    names = {grid.name: None for grid in grids}
    hint = ""
    if paths.extra_root() is not None:
        hint = "; RETABLE_EXTRA is set: unset it for the results of the project itself"
    papers = {name.partition("/")[0] for name in names}
    of_these = [(n, p) for n, p in published() if n.partition("/")[0] in papers]
    nearest = [at for at in of_these if at[0] in names] or of_these
    if others := [f"{n} --protocol {p}" for n, p in nearest]:
        hint = f"; published are {', '.join(others)}"
    protocol = grids[0].protocol if grids else "paper"
    where = paths.results_dir()
    raise UserError(
        f"{', '.join(names)}: nothing is published under protocol {protocol} in {where}{hint}"
    )


def overview() -> dict[Path, str]:
    """Files of results/ that are of all tables: the overview, and a page for each paper."""
    families = dict.fromkeys((n.partition("/")[0], protocol) for n, protocol in published())
    papers: dict[str, list[Table]] = {}
    for paper, protocol in sorted(families, key=lambda f: (f[0], f[1] != "paper", f[1])):
        papers.setdefault(paper, []).extend(judged(paper, protocol))
    base = paths.results_dir()
    files = {
        overview_file(): results_index.render(papers),
        base / results_index.PICTURE: results_index.picture(papers),
    }
    for paper, tables in papers.items():
        folder = base / paper
        pages = [published_file(t.name, t.protocol).relative_to(folder).as_posix() for t in tables]
        files[folder / "README.md"] = paper_page.render(paper, tables, pages)
        files[folder / paper_page.PICTURE] = paper_page.picture(paper, tables)
    return files


def overview_file() -> Path:
    """File of the overview of all papers."""
    return paths.results_dir() / "README.md"


def write_overview() -> None:
    """Write results/README.md and the papers' pages."""
    for path, text in overview().items():
        write_atomic(path, text)
