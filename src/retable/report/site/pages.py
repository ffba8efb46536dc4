"""Every file of the site as (path, content), from the tables and their runs."""

from __future__ import annotations

from collections.abc import Mapping

from retable.report import claims_text, formatting
from retable.report.site import charts, labels, overview, paper_pages, run_pages, table_pages
from retable.report.site.inputs import RunUse, ShownTable, Tell, runs_of
from retable.report.site.templating import Files, given, page
from retable.tables import paper_info
from retable.tables.verdicts.judge import add


def files(sources: list[ShownTable], origin: str, tell: Tell) -> Files:
    """All pages and data files.

    Args:
        sources: tables to show.
        origin: ``results`` or ``runs``.
        tell: told how far it is.
    """
    used = runs_of(sources)
    shorts = run_pages.short_keys(used)
    by_key = {
        k[:12]: f"runs/{run_pages.page_of(u.record, shorts[k])}.html" for k, u in used.items()
    }
    yield overview.rendered(sources, origin, len(used))
    for number, source in enumerate(sources):
        tell("writing tables", number, len(sources))
        yield from table_pages.files(source, shorts, by_key)
    for paper in dict.fromkeys(source.table.spec.paper for source in sources):
        members = [source for source in sources if source.table.spec.paper == paper]
        yield paper_pages.rendered(paper, members)
        yield _claims(paper, members, by_key)
    yield page("runs.html", "runs.html", {"count": len(used)})
    yield "data/runs.js", given(run_pages.listing(used, shorts, sources))
    for number, key in enumerate(used):
        if number % 100 == 0:
            tell("writing runs", number, len(used))
        yield from _run(key, used, shorts, sources)


def _claims(paper: str, members: list[ShownTable], pages: Mapping[str, str]) -> tuple[str, str]:
    return page(
        labels.claims_page(paper),
        "claims.html",
        {
            "paper": paper,
            "title": paper_info.title_of(paper),
            "sources": [source for source in members if source.table.claims],
            "sentence": formatting.claims_tally(add(labels.tally_of(s.table) for s in members)),
            "legend": claims_text.legend([c for source in members for c in source.table.claims]),
            "pages": pages,
        },
    )


def _run(
    key: str, runs: Mapping[str, RunUse], shorts: Mapping[str, str], sources: list[ShownTable]
) -> Files:
    use, short = runs[key], shorts[key]
    name = f"runs/{run_pages.page_of(use.record, short)}"
    curves = charts.learning({"": charts.bands([use.history(key)])})
    yield page(f"{name}.html", "run.html", run_pages.view(key, runs, shorts, sources, curves))
    if curves:
        yield f"{name}.js", given(curves)
