"""Write a table and the records it follows from into results/, and the overview of all tables."""

from __future__ import annotations

from pathlib import Path

from retable import locations, records
from retable.errors import UserError
from retable.files import write_atomic
from retable.report import markdown, parquet
from retable.tables import collect
from retable.tables.aggregate import Table, build
from retable.tables.grid import Grid, plan


def published_file(name: str, protocol: str) -> Path:
    """Markdown file of a published table; protocols other than ``paper`` have their own."""
    return parquet.parquet_file(name, protocol).with_suffix(".md")


def publish(grid: Grid, *, partial: bool = False) -> tuple[Path, Table]:
    """Publish a table from the run folders.

    Args:
        grid: the planned table.
        partial: replace published results by fewer.

    Raises:
        UserError: where there is no finished run of it at all, or fewer than are published.
    """
    found = collect.from_runs(grid, lambda _: None)
    table = build(grid, found)
    if not any(cell.n for cell in table.cells.values()):
        raise UserError(f"{grid.name}: nothing to publish, no run of it is finished")
    there = collect.decided_by_results(plan(grid.name, grid.protocol))
    before = build(there, collect.from_results(there))
    if len(table.records) < len(before.records) and not partial:
        raise UserError(
            f"{grid.name}: {len(table.records)} finished runs are here, {len(before.records)} are"
            f" published; run it first (retable run {grid.name}), or say --partial"
        )
    target = published_file(grid.name, grid.protocol)
    target.parent.mkdir(parents=True, exist_ok=True)
    parquet.write(parquet.parquet_file(grid.name, grid.protocol), found, _histories(grid, found))
    # Rendered from what was just written, so that the two cannot disagree.
    text = render_published(grid)
    write_atomic(target, text)
    write_overview()
    return target, table


def render_published(grid: Grid) -> str:
    """Markdown of a table from its published records."""
    grid = collect.decided_by_results(grid)
    return markdown.render(build(grid, collect.from_results(grid)))


def _histories(grid: Grid, found: dict[str, records.Record]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for run in grid.runs():
        record = found.get(run.key)
        if record is None or record.history_sha256 is None:
            continue
        path = run.folder / "attempts" / str(record.attempt) / "history.jsonl"
        if path.is_file():
            texts[run.key] = path.read_text(encoding="utf-8")
    return texts


def published() -> list[tuple[str, str]]:
    """Published tables, as (name, protocol)."""
    base = locations.results_dir()
    found: list[tuple[str, str]] = []
    for path in sorted(base.rglob("*.parquet")):
        stem = path.relative_to(base).with_suffix("").as_posix()
        name, dash, protocol = stem.rpartition("-")
        whole = not dash or stem in locations.config_names("table")
        found.append((stem, "paper") if whole else (name, protocol))
    return found


def overview() -> str:
    """Text of results/README.md: every published table in a line."""
    lines = [
        "# Results",
        "",
        "Written by `retable publish` from the records beside each table; verdicts follow with the"
        " statistics.",
        "",
        "| table | title | protocol | cells | with a reported value | runs |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    base = locations.results_dir()
    for name, protocol in published():
        grid = collect.decided_by_results(plan(name, protocol))
        table = build(grid, collect.from_results(grid))
        filled = sum(cell.n > 0 for cell in table.cells.values())
        compared = sum(c.n > 0 and c.reported is not None for c in table.cells.values())
        title = markdown.in_cell(table.spec.title)
        lines.append(
            f"| [{name}]({published_file(name, protocol).relative_to(base)}) |"
            f" {title} | {protocol} | {filled}/{len(table.cells)} | {compared} |"
            f" {len(table.records)} |"
        )
    return "\n".join([*lines, ""])


def write_overview() -> None:
    """Write results/README.md."""
    write_atomic(locations.results_dir() / "README.md", overview())
