"""The site as files: complete, escaped, the same twice, and never over somebody else's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec import structs
from typer.testing import CliRunner

from retable.cli.main import app
from retable.report import publish
from retable.report.site import build, inputs, labels, pages, run_data, run_pages
from retable.report.site.inputs import runs_of
from retable.report.site.templating import given
from retable.runs.record_parts import StartedFrom
from retable.runs.records import run_folder, write_attempt
from retable.tables.grid import plan
from retable.util import paths
from retable.util.errors import UserError
from support.site import (
    HURT,
    HURT_ERROR,
    HURT_STATEMENT,
    Page,
    built,
    given_data,
    html,
    made,
    once,
    page,
    quiet,
    runs_data,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("site") / "out").folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_kind_of_page_is_there(site):
    assert {
        "index.html",
        "runs.html",
        "papers",
        "claims",
        "tables",
        "runs",
        "cells",
        "curves",
        "data",
    } <= {p.name for p in site.iterdir()}
    assert {p.name for p in (site / "tables" / "digits").iterdir()} == {
        "accuracy.html",
        "accuracy-smoke.html",
    }
    assert len(runs_data(site)) == 8  # 6 of paper, 2 of smoke


def test_every_link_and_file_named_by_a_page_exists(site):
    checked = 0
    for path in html(site):
        found = page(path)
        for _, attrs in found.elements:
            for name in ("href", "src", "data-src", "data-runs"):
                address = attrs.get(name)
                if address is None or address.startswith(("data:", "https://")):
                    continue
                file, _, anchor = address.partition("#")
                file = file.partition("?")[0]
                target = (path.parent / unquote(file)).resolve() if file else path
                assert target.is_file(), f"{path.name}: {address}"
                if anchor and target.suffix == ".html":
                    assert anchor in {a.get("id") for _, a in page(target).elements}, address
                checked += 1
    assert checked > 60


def test_what_the_cells_open_links_to_runs_that_exist(site):
    files = list((site / "cells").rglob("*.js"))
    assert len(files) == sum(len(source.table.cells) for source in made())
    shorts = {run["short"] for run in runs_data(site).values()}
    shown = [run for file in files for _, _, run, _ in given_data(file)["seeds"]]
    assert set(shown) <= shorts
    assert len(set(shown)) > 5


def test_what_a_run_links_to_exists(site):
    seen = 0
    pages = set()
    for run in runs_data(site).values():
        for _, _, path, cells in run["places"]:
            pages.add(path)
            ids = {attrs.get("id") for _, attrs in page(site / path).elements}
            assert set(cells[1::2]) <= ids
            seen += len(cells)
    assert seen > 10
    assert pages == {"tables/digits/accuracy.html", "tables/digits/accuracy-smoke.html"}


def test_no_page_needs_another_host(site):
    for path in html(site):
        found = page(path)
        policy = [m["content"] for m in found.all("meta") if m.get("http-equiv")]
        assert len(policy) == 1
        assert "default-src 'none'" in policy[0]
        assert "http" not in policy[0]
        assert "unsafe-eval" not in policy[0]
        for tag, attrs in found.elements:
            if tag != "a":
                values = [attrs.get(n) or "" for n in ("src", "href", "data-src", "action")]
                assert not any(v.startswith(("http", "//")) for v in values), (path, tag)
            assert not [name for name in attrs if name.startswith("on")]
    for name in ("site.js", "runs.js", "site.css"):
        text = (site / "assets" / name).read_text(encoding="utf-8")
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "fetch(" not in text


def test_the_first_page_is_light_and_has_no_plot_library(site):
    found = page(site / "index.html")
    loaded = [a["src"] for a in found.all("script")] + [
        a["href"] for a in found.all("link") if a["rel"] == "stylesheet"
    ]
    assert sorted(loaded) == ["assets/site.css", "assets/site.js"]
    size = sum((site / name).stat().st_size for name in ["index.html", *loaded])
    assert size < 300_000
    for path in html(site):
        assert "plotly" not in path.read_text(encoding="utf-8")


def test_building_twice_gives_identical_bytes(site, tmp_path):
    assert tree(built(tmp_path / "again").folder) == tree(site)


def test_an_older_site_is_replaced_and_nothing_else_is_left(tmp_path):
    folder = built(tmp_path / "out").folder
    (folder / "stale.html").write_text("x")
    built(folder)
    assert not (folder / "stale.html").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    assert (built(tmp_path / "out").folder / "index.html").is_file()


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_is_no_site_is_not_overwritten(tmp_path, what):
    out = tmp_path / "out"
    if what == "folder":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    elif what == "file":
        out.write_text("years of work")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a site of retable"):
        built(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert what != "folder" or (out / "thesis.tex").read_text() == "years of work"


def test_a_build_that_fails_leaves_the_old_site_whole(tmp_path, monkeypatch):
    folder = built(tmp_path / "out").folder
    before = tree(folder)

    def broken(*args):
        yield "index.html", "half"
        raise RuntimeError("killed")

    monkeypatch.setattr(pages, "files", broken)
    with pytest.raises(RuntimeError):
        built(folder)
    assert tree(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_to_show_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing to show: no table has a record in runs"):
        build.build([], tmp_path / "out", origin="runs", tell=quiet)
    assert list(tmp_path.iterdir()) == []


# Escaping.


def test_text_stays_text_wherever_it_comes_from(site):
    shown = {HURT_STATEMENT: 0, "Fast | <b>rate</b>": 0, "Some <i>CPU</i>": 0}
    fragments = [given_data(p)["html"] for p in (site / "cells").rglob("*.js")]
    for content in [*(p.read_text(encoding="utf-8") for p in html(site)), *fragments]:
        found = Page(content)
        assert all((a["src"] or "").endswith("/figure.svg") for a in found.all("img"))
        assert not found.all("b") or "rate" not in content.split("<b>")[1][:6]
        assert all(
            (a.get("src") or "").endswith(("site.js", "runs.js")) for a in found.all("script")
        )
        for text in shown:
            shown[text] += text in found.text
    assert all(shown.values()), shown
    assert HURT_ERROR in [run.get("error") for run in runs_data(site).values()]
    listing = given_data(site / "data" / "runs.js")
    assert listing["experiments"] == [f"digits/{HURT}"]


def test_a_run_names_the_chain_that_it_ends(tmp_path):
    source = once()
    runs = dict(list(runs_of([source]).items())[:3])
    first, second, third = runs
    elsewhere = "e" * 64
    for key, above in ((first, elsewhere), (second, first), (third, second)):
        record = structs.replace(runs[key].record, started_from=StartedFrom(key=above))
        runs[key] = type(runs[key])(record, runs[key].history, runs[key].places)
    shorts = run_pages.short_keys(runs)
    (tmp_path / "runs").mkdir()
    for path, content in run_data.files(runs, shorts, [source]):
        (tmp_path / path).write_text(given(content), encoding="utf-8")
    chain = runs_data(tmp_path)[third]["chain"]
    assert [key for key, _, _ in chain] == [elsewhere[:16], first[:16], second[:16]]
    assert [page for _, _, page in chain] == [
        "", f"run.html?{shorts[first]}", f"run.html?{shorts[second]}",
    ]  # fmt: skip


@hypothesis.given(st.text(), st.text())
def test_names_never_share_an_address(a, b):
    assert re.fullmatch(r"[A-Za-z0-9_~-]*", labels.slug(a))
    assert (labels.slug(a) == labels.slug(b)) == (a == b)


@pytest.mark.parametrize(
    "url", ["javascript:hurt()", "data:text/html,x", 'https://a"b', "ftp://a", None]
)
def test_only_plain_addresses_become_links(url):
    assert labels.link(url) is None
    assert labels.link("https://host/path?a=1") == "https://host/path?a=1"


# Where it comes from.


@pytest.fixture
def recorded(runs, tmp_path, monkeypatch) -> Path:
    """The small sweep as run folders; results in a folder of this test."""
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    monkeypatch.setattr(paths, "results_dir", lambda: extra / "results")
    for source in made():
        for key, found in source.records.items():
            folder = run_folder(runs, "digits", key)
            attempt = folder / "attempts" / "1"
            attempt.mkdir(parents=True)
            rows = "".join(f"{json.dumps(row)}\n" for row in source.history(key))
            (attempt / "history.jsonl").write_text(rows)
            write_attempt(attempt, found)
            write_attempt(folder, found)
    return extra


@pytest.mark.slow
def test_runs_and_results_give_the_same_site(recorded, tmp_path):
    here = inputs.from_runs(quiet, pytest.fail)
    assert {(s.table.name, s.table.protocol) for s in here} == {
        ("digits/accuracy", "paper"),
        ("digits/accuracy", "smoke"),
    }
    for source in here:
        publish.publish(plan(source.table.name, source.table.protocol))
    published = inputs.from_results(quiet, pytest.fail)
    first, second = (
        build.build(found, tmp_path / f"from_{name}", origin=name, tell=quiet).folder
        for name, found in (("runs", here), ("results", published))
    )
    a, b = tree(first), tree(second)
    assert a.keys() == b.keys()
    assert {name for name in a if a[name] != b[name]} == {"index.html"}  # says which of the two
    assert any(name.startswith("curves/") for name in a)
    assert any(re.fullmatch(r"runs/\w\w\.js", name) for name in a)


def test_the_command(recorded, tmp_path, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    call = CliRunner().invoke
    refused = call(app, ["site"], standalone_mode=False)
    assert isinstance(refused.exception, UserError)
    assert "no table has a record in results" in str(refused.exception)
    refused = call(app, ["site", "--from", "run"], standalone_mode=False)
    assert "did you mean 'runs'" in str(refused.exception)
    out = tmp_path / "a b" / "out"
    done = call(app, ["site", "--from", "runs", "--output", str(out), "--open"])
    assert done.exit_code == 0, done.output
    assert f"{out}/index.html: " in done.output
    assert opened == [(out / "index.html").as_uri()]
    assert "a%20b" in opened[0]
