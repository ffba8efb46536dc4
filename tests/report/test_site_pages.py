"""What the pages of the site show: counts, cells, claims, layout, curves, the list of runs."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from retable.report import counts
from retable.report.counts import Counts
from retable.report.not_run import NotRun
from retable.report.site import (
    bars,
    cell_view,
    charts,
    labels,
    overview,
    paper_pages,
    run_pages,
    table_pages,
)
from retable.report.site.inputs import runs_of
from retable.report.svg import curves, verdict_bars
from retable.tables.paper_info import PaperInfo
from retable.tables.results import Judged, JudgedClaim
from support.site import (
    ACCURACY,
    HURT,
    HURT_STATEMENT,
    Page,
    built,
    given_data,
    history,
    made,
    once,
    page,
    runs_data,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("site") / "out").folder


def test_the_overview_counts_what_the_tables_say(site):
    tables = made()
    found = page(site / "index.html")
    assert "1 paper, 2 tables, 8 published runs, <0.1 core-hours" in found.text
    by_protocol = {s.table.protocol: counts.of(s.table) for s in tables}
    own, smoke = by_protocol["paper"], by_protocol["smoke"]
    assert own.judged > 0
    assert (
        f"Up to {own.by_chance:.1f} of the cells would be better or worse by chance" in found.text
    )
    values = [a["data-value"] for a in found.all("td") if "data-value" in a]
    share = (own.reproduced + own.consistent) / own.judged
    hours = f"{6 * 1.5 / 3600:.6f}"  # six runs of 1.5 s of a core
    # The paper's own protocol: cells, claims, runs, hours, and that nothing of it was never run.
    n_claims = own.upheld + own.contradicted + own.claims_undecided + own.claims_partial
    upheld = own.upheld / (n_claims + own.not_judged)
    assert values[:5] == [str(share), str(upheld), "6", hours, "0"]
    assert values[5:7] == ["", str(smoke.upheld / n_claims_of(smoke))]
    said = verdict_bars.said(verdict_bars.cells(own))
    assert said
    content = (site / "index.html").read_text(encoding="utf-8")
    assert content.count(f'class="counts">{said}<') == 3  # of all, of the paper, of its table
    assert found.text.count("not compared") == 2  # the other protocol, and its table
    heads = [a["data-col"] for a in found.all("th") if "data-col" in a]
    assert heads == [str(n) for n in range(7)]
    folds = found.all("button")[1:]
    assert [a["aria-expanded"] for a in folds] == ["false"]


def n_claims_of(tally) -> int:
    return sum(n for _, n, _ in verdict_bars.claims(tally))


def test_a_bar_has_its_counts_in_words_and_none_where_nothing_is_counted():
    found = str(bars.of(verdict_bars.cells(Counts(reproduced=3, different=1))))
    assert found.count("<rect") == 2
    assert 'width="75.0"' in found
    assert Page(found).said[-1] == "3 reproduced, 1 better or worse"
    assert bars.of(verdict_bars.cells(Counts())) == ""


def test_cells_of_which_a_run_is_missing_are_counted():
    table = once().table  # of the fast row's three runs one has diverged
    assert overview.not_complete(table) == 2
    assert overview.not_complete(replace(table, cells={})) == 0


SENTENCES = ["It holds {accuracy C3 not judged}, at {accuracy slow/accuracy}.", "{accuracy C9}!"]


def test_a_paper_s_page_says_who_wrote_it_and_what_came_out(monkeypatch, site):
    info = PaperInfo(
        title="On <b>digits</b>", authors=["A. One", "B. Two"], venue="ICML", year=2020,
        arxiv="2001.00001", code="https://host/code", says="They count.", found=SENTENCES,
    )  # fmt: skip
    monkeypatch.setattr("retable.tables.paper_info.load", lambda paper: info)
    path, content = paper_pages.rendered("digits", made(), [NotRun(["more"], "paper", "no time")])
    assert path == "papers/digits.html"
    found = Page(content)
    for said in ("On <b>digits</b>", "A. One, B. Two", "ICML 2020", "They count.", "core-hours",
                 "Protocol smoke", "more under protocol paper: no time",
                 "(accuracy has no claim C9)", "2/5"):  # fmt: skip
        assert said.strip("()") in found.text, said
    links = [a["href"] for a in found.all("a")]
    assert "https://arxiv.org/abs/2001.00001" in links
    assert "../claims/digits.html#digits~2f~accuracy.C3" in links
    assert "../tables/digits/accuracy.html#slow.accuracy" in links
    # What it leads to is on the pages of the site.
    claims = {a.get("id") for _, a in page(site / "claims" / "digits.html").elements}
    assert "digits~2f~accuracy.C3" in claims
    assert [a["src"] for a in found.all("img")] == [
        "../curves/digits/accuracy/figure.svg", "../curves/digits/accuracy-smoke/figure.svg",
    ]  # fmt: skip


def test_a_wide_table_is_cut_and_the_figure_s_points_are_below_a_fold(tmp_path, monkeypatch):
    monkeypatch.setattr("retable.report.site.table_pages.MOST_COLUMNS", 1)
    source = once()
    panel = source.table.spec.figure.panels[0].model_copy(update={"points": {"loss": 2.0}})
    figure = source.table.spec.figure.model_copy(update={"panels": [panel]})
    spec = source.table.spec.model_copy(update={"figure": figure})
    cut = replace(source, table=replace(source.table, spec=spec))
    folder = built(tmp_path / "out", [cut]).folder
    content = (folder / "tables" / "digits" / "accuracy.html").read_text(encoding="utf-8")
    above, _, below = content.partition('<details class="points">')
    assert above.count('<table class="cells"') == 1
    assert 'id="slow.accuracy"' in above
    assert "Numbers of the figure (2 cells)" in below
    assert 'id="slow.loss"' in below
    ids = re.findall(r'class="cell[^>]* id="([^"]+)"', content)
    assert len(ids) == len(set(ids)) == len(source.table.cells)


def cell_data(site: Path, name: str) -> dict:
    return given_data(site / "cells" / "digits" / "accuracy" / f"{name}.js")


def cell_text(site: Path, name: str) -> str:
    return Page(cell_data(site, name)["html"]).text


def test_a_cell_opens_every_seed_the_reported_value_and_the_formula(site):
    text = cell_text(site, "r0c0")
    seeds = cell_data(site, "r0c0")["seeds"]
    values = [pytest.approx(100 * value) for value in ACCURACY["slow"]]
    assert [value for _, value, _, _ in seeds] == values
    for said in ("91.30 ± 0.50 (5)", "Table 1, row 1", "from the paper or its authors' material",
                 "3 of 3 runs", "test/accuracy", "Difference", "Margin"):  # fmt: skip
        assert said in text
    judged = once().table.cells["slow", "accuracy"].judged
    assert judged is not None
    assert len(judged.steps) > 3
    for step in judged.steps:
        assert step in text


def test_a_lost_run_is_listed_with_what_became_of_it(site):
    text = cell_text(site, "r1c0")
    assert "2 of 3 runs" in text
    seeds = cell_data(site, "r1c0")["seeds"]
    assert [(value is None, said) for _, value, _, said in seeds] == [
        (False, ""), (False, ""), (True, "diverged"),
    ]  # fmt: skip


def test_a_cell_that_is_only_reported_says_from_where(site):
    text = cell_text(site, "r2c0")
    assert "97.2§" in text
    assert "computed from reported values" in text
    assert "Runs" not in text


def test_a_verdict_has_a_sign_and_a_word_and_bold_is_as_judged(tmp_path):
    source = once()
    place = ("slow", "accuracy")
    for kind, sign in (("worse", "−"), ("better", "+"), ("reproduced", "="), ("undecided", "?")):
        cell = replace(source.table.cells[place], judged=Judged(kind, kind, bold=kind == "better"))
        table = replace(source.table, cells={**source.table.cells, place: cell})
        folder = built(tmp_path / kind, [replace(source, table=table)]).folder
        content = (folder / "tables" / "digits" / "accuracy.html").read_text(encoding="utf-8")
        row = content.split('id="slow.accuracy"')[1].split("</a>")[0]
        assert f'aria-hidden="true">{sign}</span> {kind}' in row
        assert ("<b>" in row) == (kind == "better")
    assert labels.cell_chip(replace(cell, judged=Judged("better", "better"))).style == "different"
    assert labels.cell_chip(replace(cell, judged=Judged("worse", "worse"))).style == "different"


def test_claims_stand_as_they_are_with_their_verdict(site):
    found = page(site / "claims" / "digits.html")
    for said in ("The fast rate is better", HURT_STATEMENT, "from memory of the literature",
                 "not judged: vague"):  # fmt: skip
        assert said in found.text
    chip = labels.claim_chip(JudgedClaim("C", "s", "", "primary", "ordering", "contradicted", "no"))
    assert (chip.sign, chip.style) == ("✕", "different")


@pytest.mark.parametrize("transposed", [False, True])
def test_a_table_is_laid_out_like_the_paper_s(tmp_path, transposed):
    plain = [without_figure(source) for source in made(transposed=transposed)]
    folder = built(tmp_path / "out", plain).folder
    content = (folder / "tables" / "digits" / "accuracy.html").read_text(encoding="utf-8")
    table = content[content.index('<table class="cells"') :]
    heads = re.findall(r'<th scope="(col|row)"[^>]*>([^<]+)', table[: table.index("</table>")])
    columns = [text for scope, text in heads if scope == "col"]
    rows = [text for scope, text in heads if scope == "row"]
    by_method, by_metric = (
        ["slow", "Fast | &lt;b&gt;rate&lt;/b&gt;", "quoted"],
        ["Accuracy", "Loss"],
    )
    assert (rows, columns) == ((by_metric, by_method) if transposed else (by_method, by_metric))
    first_row = table.split("<tr>")[2]
    assert ('id="fast.accuracy"' in first_row) == transposed


def test_a_run_s_page_has_its_config_results_and_provenance(site):
    run = next(run for run in runs_data(site).values() if run["results"])
    assert run["name"] == f"digits/{HURT}"
    assert run["config"]["model.lr"] in ("0.1", "0.01")
    assert run["config"]["model.note"] == HURT  # a text: the script makes no HTML of it
    assert run["facts"]["Commit"] == "0123456789abcdef"
    assert "torch 2.11.0" in run["facts"]["Software"]
    assert "Some <i>CPU</i>, 2 cores" in run["facts"]["Machine"]
    assert len(run["results"]) == 3
    assert run["results"][-1][2:] == [3, 12.5]  # the time, which is not compared, last
    assert run["timings"] == "test/time_ms"
    assert [chart["title"] for chart in run["charts"]] == ["loss"]


# Curves.


def test_a_figure_has_ours_with_a_band_and_the_reported_points():
    source = once()
    (chart,) = charts.figure(source)
    lines = {(line["name"], line["kind"]): line for line in chart["lines"]}
    slow = lines["slow", "ours"]
    assert slow["x"] == [1.0, 2.0]  # in the order of the axis, not of the file
    cell = source.table.cells["slow", "accuracy"]
    assert slow["y"][0] == pytest.approx(cell.mean, rel=1e-5)
    assert slow["sd"][0] == pytest.approx(cell.std, rel=1e-5)
    assert lines["slow, reported", "paper"] == {
        "name": "slow, reported", "kind": "paper", "x": [1.0], "y": [91.3], "sd": [0.5],
        "style": slow["style"], "key": False,
    }  # fmt: skip
    assert ("quoted, reported", "paper") in lines
    assert charts.figure(without_figure(once())) == []
    assert not any("mark" in line for line in chart["lines"])


def test_lines_are_told_apart_where_colours_begin_again():
    many = {f"row {i}": {"loss": {"x": [0.0], "y": [float(i)], "sd": []}} for i in range(36)}
    (chart,) = charts.learning(many)
    assert len({line["style"] for line in chart["lines"]}) == 36


def test_a_figure_marks_its_rows_where_their_column_says():
    source = once()
    figure = source.table.spec.figure
    source = with_figure(source, figure and figure.model_copy(update={"marks": "accuracy"}))
    (chart,) = charts.figure(source)
    marks = {(line["name"], line["kind"]): line.get("mark") for line in chart["lines"]}
    assert marks["slow", "ours"] == pytest.approx(source.table.cells["slow", "accuracy"].mean)
    assert marks["slow, reported", "paper"] is None
    (_, html), *_ = table_pages.files(source, {key: key for key in source.records}, {})
    assert f"Upright lines: {curves.uprights(source.table)}." in str(html)


def without_figure(source):
    return with_figure(source, None)


def with_figure(source, figure):
    table = replace(source.table, spec=source.table.spec.model_copy(update={"figure": figure}))
    return replace(source, table=table)


def test_learning_curves_are_means_and_deviations_over_the_seeds():
    histories = [history(record) for record in once().records.values()][:3]
    found = charts.bands(histories)
    assert list(found) == ["train/loss", "val/loss"]
    assert found["val/loss"]["x"] == [1.0, 3.0, 5.0, 7.0, 9.0]
    values = [h[3]["val/loss"] for h in histories]
    mean = sum(values) / 3
    assert found["val/loss"]["y"][1] == pytest.approx(mean)
    assert found["val/loss"]["sd"][1] == pytest.approx(
        math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
    )
    (chart,) = charts.learning({"": found})
    assert [line["name"] for line in chart["lines"]] == ["train/loss", "val/loss"]
    assert [c["title"] for c in charts.learning({"a": found, "b": found})] == [
        "train/loss",
        "val/loss",
    ]


def test_what_is_not_finite_leaves_a_gap_and_valid_json():
    rows = [{"epoch": 0.0, "a": 1.0}, {"epoch": 1.0, "a": math.nan}, {"epoch": 2.0, "a": math.inf}]
    assert charts.bands([rows])["a"]["x"] == [0.0]
    assert charts.bands([[{"epoch": 0.0}]]) == {}


# The list of runs.


def test_the_list_of_runs_has_what_tells_them_apart():
    tables = made()
    used = runs_of(tables)
    shorts = run_pages.short_keys(used)
    found = run_pages.listing(used, shorts, tables)
    assert set(found["settings"]) == {"lr=0.01", "lr=0.1"}
    assert found["statuses"].count("diverged") == 1
    assert found["tables"] == ["digits/accuracy", "digits/accuracy (smoke)"]
    assert [row[0] for row in found["runs"]] == sorted(shorts.values())
    assert {tuple(row[8]) for row in found["runs"]} == {(0,), (1,)}


def test_short_keys_grow_until_they_tell_apart():
    keys = ["a" * 20 + "b" * 44, "a" * 20 + "c" * 44]
    shorts = run_pages.short_keys(dict.fromkeys(keys))
    assert len(set(shorts.values())) == 2
    assert all(key.startswith(short) for key, short in shorts.items())


def test_keys_in_a_cause_become_links():
    pieces = list(
        labels.with_runs("x (tested by run 0123456789ab)", {"0123456789ab": "runs/p/x.html"})
    )
    assert pieces == [
        ("x (tested by run ", None),
        ("0123456789ab", "runs/p/x.html"),
        (")", None),
    ]
    assert list(labels.with_runs("0123456789ab", {})) == [("0123456789ab", None)]


def test_seeds_are_those_that_the_table_asks_for():
    source = once()
    found = cell_view.seeds(source, ("fast", "accuracy"))
    assert [(s.seed, s.status, s.value is None) for s in found] == [
        (0, "done", False), (1, "done", False), (2, "diverged", True),
    ]  # fmt: skip
    assert cell_view.seeds(source, ("quoted", "accuracy")) == []
