"""A table as Markdown: ours above, reported below, in the paper's layout."""

from __future__ import annotations

from retable.report import text
from retable.tables.aggregate import Table


def render(table: Table, *, note: str | None = None) -> str:
    """Markdown of a table.

    Args:
        table: what to show.
        note: a line under the title, such as where the records come from.
    """
    spec = table.spec
    source = ", ".join(
        part
        for part in (
            spec.source.paper_ref,
            f"arXiv {spec.source.arxiv}" if spec.source.arxiv else None,
            spec.source.code,
        )
        if part
    )
    lines = [
        f"# {_plain(spec.title)}",
        "",
        f"`{table.name}` · {_plain(source)} · protocol `{table.protocol}`",
        "",
    ]
    if note:
        lines += [f"**{note}**", ""]
    lines += _grid(table)
    lines += ["", _legend(table), ""]
    if spec.differs:
        lines += [f"*Why it may differ:* {_plain(spec.differs)}", ""]
    lines += [f"- {_plain(note)}" for note in [*spec.notes, *text.footnotes(table)]]
    if spec.claims:
        lines += ["", "## Claims", "", "| id | statement | where | kind | verdict |"]
        lines.append("| --- | --- | --- | --- | --- |")
        for claim in spec.claims:
            mark = text.GRADE_MARK[claim.grade]
            where = claim.where or ""
            lines.append(
                f"| {claim.id} | {in_cell(claim.statement)}{mark} | {in_cell(where)} |"
                f" {claim.kind.replace('_', ' ')} | not judged yet |"
            )
    lines += ["", f"*{text.provenance(table)}*", ""]
    return "\n".join(lines)


def _legend(table: Table) -> str:
    units = {
        f"{m.title or name}{f' in {m.unit}' if m.unit else ''}"
        for name, m in table.spec.metrics.items()
        if any(c.metric == name for c in table.spec.columns.values())
    }
    single = all(
        c.n <= 1 or table.spec.metrics[c.metric].deterministic for c in table.cells.values()
    )
    ours = "ours" if single else "ours, mean ± standard deviation (seeds)"
    return (
        f"{_plain('; '.join(sorted(units)))}. Each cell: {ours}; below it the reported value (n)."
    )


def _grid(table: Table) -> list[str]:
    spec = table.spec
    rows = {name: row.title or name for name, row in spec.rows.items()}
    columns = {name: column.title or name for name, column in spec.columns.items()}
    down, across = (columns, rows) if spec.transposed else (rows, columns)
    lines = [
        f"| | {' | '.join(in_cell(title) for title in across.values())} |",
        f"| --- |{' ---: |' * len(across)}",
    ]
    for first, title in down.items():
        parts: list[str] = []
        for second in across:
            place = (second, first) if spec.transposed else (first, second)
            parts.append(_content(table, place))
        lines.append(f"| {in_cell(title)} | {' | '.join(parts)} |")
    return lines


def _content(table: Table, place: tuple[str, str]) -> str:
    cell = table.cells.get(place)
    if cell is None:
        return ""
    metric = table.spec.metrics[cell.metric]
    ours, theirs = text.ours(cell, metric), text.theirs(cell.reported)
    return f"{ours}<br>{theirs}" if theirs else ours


def in_cell(content: str) -> str:
    """Text inside a Markdown table: no bars, no line breaks, no HTML."""
    return _plain(content).replace("|", "\\|")


def _plain(content: str) -> str:
    """Text in one line and without HTML."""
    return " ".join(content.replace("&", "&amp;").replace("<", "&lt;").split())
