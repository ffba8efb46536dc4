"""A table's dashboard in the types of wandb-workspaces: a workspace and a report.

What these types cannot say is said otherwise:

- A workspace has one run set, so it filters by the table; the report has one per column.
- Runs can be grouped by keys of their config, not by a tag that fits a pattern. So rows are told
  apart by the keys in which their settings differ, and a text beside the panels says which row a
  line is.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Any

import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws

from retable.tracking.wandb_run import TAGGED
from retable.wandb_tools.dashboard.content import EXPERIMENT, Content, Group
from retable.wandb_tools.table_tags import TUNING

_MIN_LINES = 10
"""Lines that W&B shows in a panel where nothing is said."""


def workspace(content: Content, entity: str, project: str) -> ws.Workspace:
    """The workspace of a table.

    Args:
        content: what it shows.
        entity: user or team in W&B; empty where it is not known yet.
        project: in W&B.
    """
    group = content.whole
    sections = [
        _section(
            content,
            "Table",
            [wr.MarkdownPanel(markdown=_front(content))],
            layout=(1, 1),
            pinned=True,
        )
    ]
    prefixes = dict.fromkeys(name.partition("/")[0] for name in group.curves)
    for prefix in prefixes:
        names = [name for name in group.curves if name.partition("/")[0] == prefix]
        sections.append(_section(content, prefix, [_line_plot(name, group) for name in names]))
    if group.results:
        sections.append(_section(content, "Results", _bars(group)))
    filters = _filters(content, group)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_workspace_name(content),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="Step", max_runs=_most(group)),
        runset_settings=ws.RunsetSettings(
            filters=filters,
            groupby=[
                ws.Metric("Group") if key == EXPERIMENT else ws.Config(_stored(key))
                for key in group.keys
            ]
            or [ws.Metric("Group")],
        ),
        auto_generate_panels=False,
    )


def report(content: Content, entity: str, project: str) -> wr.Report:
    """The report of a table; for the arguments see :func:`workspace`."""
    blocks: list[Any] = [wr.MarkdownBlock(text=content.markdown)]
    blocks += [wr.MarkdownBlock(text=text) for text in [_links(content), _guess(content)] if text]
    for number, group in enumerate(content.groups):
        place = f"report/{number}"
        title = _title(group)
        runset = wr.Runset(
            name=_short(title, 64),
            filters=_filters(content, group),
            groupby=[_report_key(key) for key in group.keys] or ["group"],
        )
        _identify(runset, content, f"{place}/runs")
        panels: list[Any] = [*(_line_plot(name, group) for name in group.curves), *_bars(group)]
        for panel in panels:
            _identify(panel, content, f"{place}/{_title_of(panel)}")
        blocks += [
            wr.H2(text=_short(title, 200)),
            wr.MarkdownBlock(text=_legend(group)),
            wr.PanelGrid(runsets=[runset], panels=panels),
        ]
    # Its address is made from the title, as it is.
    title = re.sub(r"[/\\?#%&]", " ", f"{content.title}, {content.table}, {content.protocol}")
    return wr.Report(
        entity=entity,
        project=project,
        title=_short(title, 128),
        description=f"retable: {content.table}, protocol {content.protocol}",
        blocks=blocks,
        width="fluid",
    )


def as_json(made: ws.Workspace, told: wr.Report) -> dict[str, Any]:
    """Both as the documents that W&B stores, for a file."""
    parts: dict[str, Any] = {"workspace": made, "report": told}
    # The library's own way to them; it has no public one that asks no server.
    models = {name: part._to_model() for name, part in parts.items()}
    dumped = {
        name: m.model_dump_json(by_alias=True, exclude_none=True) for name, m in models.items()
    }
    return {name: json.loads(text) for name, text in dumped.items()}


# Panels.


def _line_plot(name: str, group: Group) -> wr.LinePlot:
    """A metric by epoch: a line per setting, its mean with a band of one standard deviation."""
    return wr.LinePlot(
        title=name,
        x="Step",
        y=[name],
        title_x="epoch",
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=_most(group),
    )


def _bars(group: Group) -> list[wr.BarPlot]:
    """Results: a bar per setting, with one standard deviation over its seeds."""
    return [
        wr.BarPlot(
            title=metric,
            metrics=[*names],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=_most(group),
            max_bars_to_show=_most(group) * len(names),
        )
        for metric, names in group.results.items()
    ]


def _most(group: Group) -> int:
    return max(_MIN_LINES, len(group.lines))


def _section(
    content: Content,
    name: str,
    panels: list[Any],
    *,
    layout: tuple[int, int] = (3, 2),
    pinned: bool = False,
) -> ws.Section:
    for panel in panels:
        _identify(panel, content, f"workspace/{name}/{_title_of(panel)}")
    columns, rows = layout
    section = ws.Section(
        name=name,
        panels=panels,
        is_open=True,
        pinned=pinned,
        layout_settings=ws.SectionLayoutSettings(columns=columns, rows=rows),
    )
    _identify(section, content, f"workspace/{name}")
    return section


def _title_of(panel: Any) -> str:
    return f"{type(panel).__name__} {getattr(panel, 'title', '')}"


def _identify(part: Any, content: Content, place: str) -> None:
    """Give a part an id that follows from its place; the library's own are random."""
    text = f"{content.table} {content.protocol} {place}"
    part._id = hashlib.sha256(text.encode()).hexdigest()[:12]


# Run sets.


def _filters(content: Content, group: Group) -> str:
    """Runs of a group that are done or under way, in the library's language of filters."""
    left_out = sorted(status.value for status in TAGGED) + [TUNING] * content.tuned
    return (
        f"Tags() in {_list(group.tags)} and Metric('Group') in {_list(group.experiments)}"
        f" and Tags() not in {_list(left_out)}"
    )


def _list(texts: list[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    """A text for a filter, which the library reads as Python after it has replaced = < and >."""

    def safe(char: str) -> str:
        known = char.isascii() and (char.isalnum() or char in " _-/:.,")
        return char if known else f"\\U{ord(char):08x}"

    return f"'{''.join(map(safe, text))}'"


def _stored(key: str) -> str:
    """A dotted key as W&B keeps it: below the first name stands ``value``."""
    first, *rest = key.split(".")
    return ".".join([first, "value", *rest])


def _report_key(key: str) -> str:
    return "group" if key == EXPERIMENT else f"config.{_stored(key)}"


# Texts.


def _front(content: Content) -> str:
    parts = [content.markdown, _links(content), _guess(content), _legend(content.whole)]
    return "\n\n".join(part for part in parts if part)


def _links(content: Content) -> str:
    links = ", ".join(f"[{title}]({address})" for title, address in content.links)
    return f"On the site: {links}" if links else ""


def _guess(content: Content) -> str:
    if not content.guessed:
        return ""
    return "No run has a history yet: the curves are those that the table's metrics suggest."


def _legend(group: Group) -> str:
    """Which rows or columns a line is, and where everything behind a cell is."""
    lines = [f"- `{label}`: {', '.join(map(_plain, rows))}" for label, rows in group.lines]
    what = "Lines and bars, each with one standard deviation over its seeds:"
    text = "\n".join([what, "", *lines]) if lines else "The settings are still to be chosen."
    if not group.cells:
        return text
    links = " · ".join(f"[{_plain(title)}]({address})" for title, address in group.cells)
    return f"{text}\n\nBehind the numbers: {links}"


def _title(group: Group) -> str:
    first, more = group.columns[:3], len(group.columns) - 3
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def _plain(text: str) -> str:
    from retable.report.markdown import in_cell

    return in_cell(text).replace("[", "\\[").replace("]", "\\]")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _workspace_name(content: Content) -> str:
    """Its name, without the symbols that W&B takes for emoji."""
    name = f"{content.table} {content.protocol}"
    refused = {"So", "Sk", "Sm", "Sc", "Cs"}
    return "".join("-" if unicodedata.category(c) in refused else c for c in name)
