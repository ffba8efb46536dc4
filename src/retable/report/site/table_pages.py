"""A table's page, with the data files of its cells and curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from retable.report import footnotes, formatting, layout
from retable.report.layout import MOST_COLUMNS
from retable.report.site import cell_view, charts, labels
from retable.report.site.cell_view import CellView
from retable.report.site.charts import Bands, Chart
from retable.report.site.inputs import ShownTable
from retable.report.site.templating import Files, environment, given, page
from retable.report.svg import curves
from retable.tables.cell_map_spec import CellMap
from retable.tables.figure_spec import Scatter
from retable.tables.heat_spec import Heat, Image
from retable.tables.results import CellId


def files(source: ShownTable, shorts: Mapping[str, str], pages: Mapping[str, str]) -> Files:
    """A table's page and what its cells open.

    Args:
        source: the table.
        shorts: beginning of each run's key that names it.
        pages: a run's page by the first twelve characters of its key.
    """
    table, spec = source.table, source.table.spec
    views = cell_view.views(source)
    bands = _bands(source, views)
    blocks = layout.blocks(table, MOST_COLUMNS)
    points = [block for block in blocks if block.drawn]
    drawn = charts.figure(source)
    pictured = isinstance(spec.figure, Scatter | CellMap | Heat | Image)
    learning = dict(_learning(source, bands))
    yield page(
        f"tables/{source.stem}.html",
        "table.html",
        {
            "table": table,
            "spec": spec,
            "blocks": [block for block in blocks if not block.drawn],
            "drawn": points,
            "n_drawn": sum(place in views for block in points for place in block.cells()),
            "views": views,
            "seeds": spec.seed_list(table.protocol),
            "sentences": formatting.table_tally(table),
            "legend": footnotes.legend(table),
            "reasons": footnotes.reasons(table),
            "marks": footnotes.mark_notes(table),
            "footnotes": [*spec.notes, *footnotes.footnotes(table)],
            "claims_page": labels.claims_page(spec.paper),
            "provenance": formatting.provenance(table),
            "figure": drawn,
            "uprights": curves.uprights(table),
            "figure_data": f"curves/{source.stem}/figure.js",
            "picture": source.picture if pictured else "",
            "mapped": curves.described(table),
            "learning": [(name, title, drawn) for name, (title, drawn) in learning.items()],
            "url": labels.link(spec.source.code),
            "chips": _chips(views),
            "pages": pages,
        },
    )
    if drawn:
        yield f"curves/{source.stem}/figure.js", given(drawn)
    if spec.figure is not None:  # also where a script draws it here: the paper's page shows it
        yield source.picture, curves.render(table)
    for name, (_, content) in learning.items():
        yield name, given(content)
    curves_of = {setting: charts.learning({"": found}) for setting, found in bands.items()}
    for setting, content in curves_of.items():
        yield f"curves/{source.stem}/{setting}.js", given(content)
    template = environment().get_template("cell.html")
    for place, view in views.items():
        setting = cell_view.setting_of(source, place)
        seeds = cell_view.seeds(source, place)
        content = template.render(
            root="../../",
            pages=pages,
            seeds=seeds,
            charts=curves_of.get(setting or "", []),
            charts_data=f"curves/{source.stem}/{setting}.js",
            **cell_view.details(source, view),
        )
        rows = [[s.seed, s.value, shorts[s.key] if s.recorded else "", s.said] for s in seeds]
        yield view.data, given({"html": content, "seeds": rows})


def _bands(source: ShownTable, views: Mapping[CellId, CellView]) -> dict[str, Bands]:
    """Curves of each setting over its seeds; settings without any are left out."""
    found: dict[str, Bands] = {}
    for setting, places in cell_view.settings(source, views).items():
        keys = dict.fromkeys(key for p in places for key in source.table.cells[p].run_keys)
        curve = charts.bands([source.history(key) for key in keys])
        if curve:
            found[setting] = curve
    return found


def _learning(
    source: ShownTable, bands: Mapping[str, Bands]
) -> Iterator[tuple[str, tuple[str, list[Chart]]]]:
    """File, title and charts of each group of columns that compares the same settings."""
    spec = source.table.spec
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for column in spec.columns:
        found: dict[str, str] = {}
        for row in spec.rows:
            setting = cell_view.setting_of(source, (row, column))
            if setting is not None and setting in bands:
                found.setdefault(setting, row)
        if len(found) > 1:
            groups.setdefault(tuple(found.items()), []).append(column)
    for number, (members, columns) in enumerate(groups.items()):
        named = {spec.rows[row].title or row: bands[setting] for setting, row in members}
        title = spec.columns[columns[0]].title or columns[0]
        yield (
            f"curves/{source.stem}/columns{number}.js",
            (title if len(columns) == 1 else "", charts.learning(named)),
        )


def _chips(views: Mapping[CellId, CellView]) -> list[tuple[labels.Chip, int]]:
    """Verdicts of a table with their number, in the order in which they are judged."""
    chips = [view.chip for view in views.values() if view.chip]
    counts = Counter(chip.kind for chip in chips)
    order = [*formatting.SIGN, "protocol"]
    first = {chip.kind: chip for chip in reversed(chips)}
    return [
        (
            replace(first[kind], text=kind if kind in formatting.SIGN else first[kind].text),
            counts[kind],
        )
        for kind in order
        if kind in counts
    ]
