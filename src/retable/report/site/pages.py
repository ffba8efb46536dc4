"""Every file of the site as (path, content), from the tables and their runs."""

from __future__ import annotations

from collections.abc import Mapping

from retable.report import claims_text, counts, formatting
from retable.report.not_run import not_run
from retable.report.site import labels, overview, paper_pages, run_data, run_pages, table_pages
from retable.report.site.inputs import ShownTable, Tell, runs_of
from retable.report.site.templating import Files, given, page
from retable.tables import paper_info


def files(sources: list[ShownTable], origin: str, tell: Tell) -> Files:
    """All pages and data files.

    Args:
        sources: tables to show.
        origin: ``results`` or ``runs``.
        tell: told how far it is.
    """
    used = runs_of(sources)
    shorts = run_pages.short_keys(used)
    by_key = {key[:12]: run_pages.page_of(short) for key, short in shorts.items()}
    papers: dict[str, list[ShownTable]] = {}
    for source in sources:
        papers.setdefault(source.table.spec.paper, []).append(source)
    missing = {
        paper: not_run(paper, {(s.table.name, s.table.protocol) for s in members})
        for paper, members in papers.items()
    }
    yield overview.rendered(papers, missing, origin, len(used))
    for number, source in enumerate(sources):
        tell("writing tables", number, len(sources))
        yield from table_pages.files(source, shorts, by_key)
    for paper, members in papers.items():
        yield paper_pages.rendered(paper, members, missing[paper])
        yield _claims(paper, members, by_key)
    yield page("runs.html", "runs.html", {"count": len(used)})
    yield "data/runs.js", given(run_pages.listing(used, shorts, sources))
    yield page("run.html", "run.html", {})
    done = 0
    for path, content in run_data.files(used, shorts, sources):
        tell("writing runs", done, len(used))
        done += len(content["runs"])
        yield path, given(content)


def _claims(paper: str, members: list[ShownTable], pages: Mapping[str, str]) -> tuple[str, str]:
    return page(
        labels.claims_page(paper),
        "claims.html",
        {
            "paper": paper,
            "title": paper_info.title_of(paper),
            "sources": [source for source in members if source.table.claims],
            "sentence": formatting.claims_tally(counts.together(s.table for s in members)),
            "legend": claims_text.legend([c for source in members for c in source.table.claims]),
            "pages": pages,
        },
    )
