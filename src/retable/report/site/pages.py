"""Every file of the site as (path, content), from the tables and their runs."""

from __future__ import annotations

from collections.abc import Mapping

from retable.report import claims_text, formatting
from retable.report.site import charts, labels, run_pages, table_pages
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
    yield _overview(sources, origin, len(used))
    for number, source in enumerate(sources):
        tell("writing tables", number, len(sources))
        yield from table_pages.files(source, shorts, by_key)
    for paper in dict.fromkeys(source.table.spec.paper for source in sources):
        yield _claims(paper, sources, by_key)
    yield page("runs.html", "runs.html", {"count": len(used)})
    yield "data/runs.js", given(run_pages.listing(used, shorts, sources))
    for number, key in enumerate(used):
        if number % 100 == 0:
            tell("writing runs", number, len(used))
        yield from _run(key, used, shorts, sources)


# Overview.


def _overview(sources: list[ShownTable], origin: str, count: int) -> tuple[str, str]:
    groups: dict[tuple[str, str], list[ShownTable]] = {}
    for source in sources:
        groups.setdefault((source.table.spec.paper, source.table.protocol), []).append(source)
    # A claim that is looked at under several protocols counts once, under the paper's own.
    chosen: dict[str, str] = {}
    for paper, protocol in groups:
        if protocol == "paper" or paper not in chosen:
            chosen[paper] = protocol
    total = add(
        labels.tally_of(source.table)
        for (paper, protocol), members in groups.items()
        for source in members
        if chosen[paper] == protocol
    )
    return page(
        "index.html",
        "overview.html",
        {
            "groups": [
                {
                    "paper": paper,
                    "title": paper_info.title_of(paper),
                    "protocol": protocol,
                    "page": table_pages.claims_page(paper),
                    "sources": members,
                    "runs": len({key for source in members for key in source.records}),
                    "tally": add(labels.tally_of(source.table) for source in members),
                }
                for (paper, protocol), members in groups.items()
            ],
            "n_papers": len({paper for paper, _ in groups}),
            "n_tables": len(sources),
            "n_runs": count,
            "origin": origin,
            "sentences": formatting.tally(total),
        },
    )


def _claims(paper: str, sources: list[ShownTable], pages: Mapping[str, str]) -> tuple[str, str]:
    members = [source for source in sources if source.table.spec.paper == paper]
    return page(
        table_pages.claims_page(paper),
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
