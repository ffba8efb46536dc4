"""Dashboards of tables, read back with the types of W&B's own library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retable.cli import workflow
from retable.cli.wandb_dashboard import dashboard as command
from retable.tables import spec as specs
from retable.tables.aggregate import build
from retable.tables.verdicts.judge import judge_all
from retable.util.errors import UserError
from retable.wandb_tools.dashboard import build as dashboard
from retable.wandb_tools.table_tags import tags_of
from support.dashboard import Views, filters, metrics, sources, written
from support.mini import extra_root, planned

FILES = Path(__file__).parents[2] / "conf" / "table"
TABLES = sorted(p.relative_to(FILES).with_suffix("").as_posix() for p in FILES.rglob("*.yaml"))
SITE = "https://example.org/tables/"


def rows_of(text):
    """Lines of the tables in a Markdown text, as their cells."""
    return [
        [c.strip() for c in line.strip("|").split("|")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]


def runs_of(runset, tags):
    """Keys of the runs that a run set's first filter, by tags, lets through."""
    wanted = set(filters(runset)[0][2])
    return {key for key, some in tags.items() if wanted.intersection(some)}


# Of each table one protocol: a dashboard shows any of them alike.
@pytest.mark.slow
@pytest.mark.parametrize("which", ["first", pytest.param("others", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", TABLES)
def test_every_shipped_table_has_a_valid_spec_without_any_run(name, which, tmp_path, cached_once):
    protocols = specs.load(name).protocols()
    for protocol in protocols[:1] if which == "first" else protocols[1:]:
        shows_every_cell(name, protocol, tmp_path / f"{protocol}.json")


def shows_every_cell(name, protocol, file):
    (grid,) = workflow.plan(name, protocol)
    (source,) = sources([grid])
    made = written(source, file, SITE)
    assert made.again() == made.content
    tags = tags_of(grid)
    shown = [(runs_of(runset, tags), metrics(panels)) for runset, panels in made.grids]
    for place, cell in grid.cells.items():
        keys = set(grid.cell_keys(cell))
        kind = 1 if cell.address.epoch is None else 0  # a result is a bar, of the history a curve
        named = [name for has, all_ in shown if keys <= has for some in all_[kind] for name in some]
        assert any(name.split(" ")[0] == cell.address.metric for name in named), place
    for row in source.table.spec.reported.values():
        for reported in row.values():
            assert reported.value.replace("-", "−") in made.texts[0].replace("-", "−")


def test_a_column_has_its_runs_by_cells_and_rows_are_lines(tmp_path):
    (source,) = sources(workflow.plan("binary_connect/table2", "paper"))
    made = written(source, tmp_path / "spec.json")
    names = [runset["name"] for runset, _ in made.grids]
    assert names == ["MNIST", "CIFAR-10", "SVHN"]
    runset, panels = made.grids[1]
    assert filters(runset) == [
        (
            "tags",
            "IN",
            [f"binary_connect/table2: {row}, cifar10" for row in ("none", "det", "stoch")],
        ),
        ("group", "IN", ["binary_connect/cifar10"]),
        ("tags", "NIN", ["diverged", "failed"]),
    ]
    assert runset["grouping"] == [{"section": "config", "name": "model.value.regularizer"}]
    assert metrics(panels) == [[["val/error"]], [["test/error"]]]
    for panel in panels:
        assert (panel["config"]["groupAgg"], panel["config"]["groupArea"]) == ("mean", "stddev")
    assert "- `model.regularizer = det`: BinaryConnect (det.)" in made.texts[-1]
    assert made.texts[0].startswith("**BinaryConnect: Training Deep Neural Networks")
    assert "[arXiv 1511.00363](https://arxiv.org/abs/1511.00363)" in made.texts[0].splitlines()[0]
    whole = made.view["runSets"][0]
    assert filters(whole)[0] == ("tags", "IN", ["binary_connect/table2"])
    assert [key["name"] for key in whole["grouping"]] == ["group", "model.value.regularizer"]
    assert "the curves are those that the table's metrics suggest" in made.texts[1]


def test_columns_of_the_same_runs_share_them_and_a_solver_has_no_curves(tmp_path):
    (source,) = sources(workflow.plan("risk_parity/real_data", "paper"))
    made = written(source, tmp_path / "spec.json")
    ((runset, panels),) = made.grids
    assert runset["name"].endswith(" and 8 more")
    curves, bars = metrics(panels)
    assert curves == []
    assert len({name for names in bars for name in names}) == 44


def test_curves_are_those_that_the_runs_have_also_of_one_that_goes_on(runs, tmp_path):
    (grid,) = workflow.plan("digits/accuracy", "paper")
    run = grid.cells["fast", "loss"].setting
    for number, text in (
        ("1", '{"epoch": 1, "val/old": 1.0}\n'),
        ("2", '{"epoch": 1, "val/x": 1.0}\n'),
    ):
        attempt = run.folder / "attempts" / number
        attempt.mkdir(parents=True)
        (attempt / "history.jsonl").write_text(text)
    (source,) = sources([grid])
    made = written(source, tmp_path / "spec.json")
    assert metrics(made.sections["val"])[0] == [["val/x"]]
    assert "suggest" not in made.text


@pytest.mark.slow
def test_what_a_real_run_has_left_is_in_it_and_nothing_of_its_machine(retable, runs, tmp_path):
    retable("run", "digits/accuracy", "--protocol", "smoke", "logger=none")
    (grid,) = workflow.plan("digits/accuracy", "smoke")
    (source,) = sources([grid])
    made = written(source, tmp_path / "spec.json")
    (attempt,) = (grid.cells["slow", "accuracy"].setting.folder / "attempts").iterdir()
    (line, *_) = (attempt / "history.jsonl").read_text().splitlines()
    expected = sorted(set(json.loads(line)) - {"epoch", "step"})
    assert expected
    ((_, panels),) = made.grids
    assert metrics(panels) == [[[name] for name in expected], [["test/accuracy"]]]
    assert {name for s in ("train", "val") for (name,) in metrics(made.sections[s])[0]} == set(
        expected
    )
    assert str(tmp_path) not in made.text
    again = written(source, tmp_path / "again.json")
    assert again.text == made.text


def test_the_table_with_verdicts_marks_and_claims_is_a_panel_with_links(tmp_path, monkeypatch):
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    grid, found = planned()
    (table,) = judge_all([build(grid, found)])
    source = dashboard.source_of(grid, table, found, {})
    made = written(source, tmp_path / "spec.json", SITE)
    golden = (Path(__file__).parents[1] / "report" / "golden" / "verdicts.md").read_text()
    (panel,) = made.sections["Table"]
    for text in (panel["config"]["value"], made.texts[0]):
        assert rows_of(golden) == rows_of(text)
    page = f"{SITE}tables/digits/verdicts.html"
    assert f"[this table]({page})" in panel["config"]["value"]
    assert f"({SITE}claims/digits.html)" in panel["config"]["value"]
    assert f"({page}#same.accuracy)" in "".join(made.texts)
    # Runs that only choose a setting belong to no line.
    assert all(filters(runset)[-1][2][-1] == "tuning" for runset, _ in made.grids)


def test_links_lead_to_pages_that_the_site_has(tmp_path, monkeypatch):
    from retable.report.site import pages

    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    grid, found = planned("smoke")
    (table,) = judge_all([build(grid, found)])
    source = dashboard.source_of(grid, table, found, {})
    made = written(source, tmp_path / "spec.json", SITE)
    there = dict(pages.files([source], "runs", lambda *_: None))
    addresses = {part.split(")")[0] for part in made.text.split(f"]({SITE}")[1:]}
    assert len(addresses) > 4
    for address in addresses:
        page, _, anchor = address.partition("#")
        assert page in there
        assert not anchor or f'id="{anchor}"' in there[page]


TRICKY = """\
paper: digits
title: "It's 100 % <b>& more</b>, a=b / 'c' \\U0001F600"
source: {paper_ref: "Table 1"}
metrics: {accuracy: {key: test/accuracy, unit: "%"}}
seeds: 1
columns: {"a<b>'c'": {metric: accuracy, title: "a > b", experiment: digits/base}}
rows: {"lr=0.1, 'x'": [], "größer ≥ [1](x)": [model.optimizer.lr=0.2]}
"""


def test_names_that_filters_could_misread_arrive_as_they_are(tmp_path, monkeypatch):
    root = extra_root(tmp_path)
    (root / "conf" / "table" / "digits" / "tricky.yaml").write_text(TRICKY, encoding="utf-8")
    monkeypatch.setenv("RETABLE_EXTRA", str(root))
    (grid,) = workflow.plan("digits/tricky", "paper")
    (source,) = sources([grid])
    made = written(source, tmp_path / "spec.json")
    assert made.again() == made.content
    ((runset, _),) = made.grids
    borne = tags_of(grid)
    assert sorted(filters(runset)[0][2]) == sorted(
        tag for some in borne.values() for tag in some[1:]
    )


def test_many_cells_of_a_run_are_found_by_another_tag(tmp_path, monkeypatch):
    from retable.tracking import tags

    monkeypatch.setattr(tags, "MAX_CELLS", 0)
    (source,) = sources(workflow.plan("digits/accuracy", "paper"))
    made = written(source, tmp_path / "spec.json")
    for runset, _ in made.grids:
        assert filters(runset)[:2] == [
            ("tags", "IN", ["digits/accuracy"]), ("group", "IN", ["digits/base"]),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("digits/acuracy", {}, "did you mean 'digits/accuracy'?"),
        ("digits/accuracy", {"protocol": "smok"}, "did you mean 'smoke'?"),
        ("digits/accuracy", {"project": "a/b"}, "--project 'a/b': has /"),
        ("digits/accuracy", {"entity": "a b"}, "--entity 'a b': "),
        ("digits/accuracy", {"site": "javascript:1"}, "--site 'javascript:1': expected an address"),
        ("binary_connect", {"out": Path("x.json")}, "--out: binary_connect has 5 tables; name one"),
        ("digits/accuracy", {"out": Path()}, "cannot be written (is a folder)"),
        (
            "digits/accuracy",
            {"out": Path("/dev/null/x.json")},
            "cannot be written (File exists)",
        ),
        ("digits/accuracy", {"source": "result"}, "--from result: not known"),
        ("digits/accuracy", {"source": "results"}, "nothing is published under protocol paper"),
    ],
)
def test_mistakes_are_said_with_what_to_mend(name, options, said):
    with pytest.raises(UserError) as caught:
        command(name, **options)
    assert said in str(caught.value)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"extra 'dashboard': pip install 'retable\[dashboard\]'"):
        dashboard.check_installed()


@pytest.mark.slow
def test_without_a_login_it_is_a_file(retable, runs, tmp_path):
    done = retable(
        "wandb", "dashboard", "digits/accuracy", WANDB_MODE="online", WANDB_API_KEY="",
        WANDB_BASE_URL="http://127.0.0.1:9",
    )  # fmt: skip
    file = runs / "_wandb" / "dashboards" / "digits" / "accuracy-paper.json"
    assert done.stdout.splitlines() == [str(file)]
    assert "there is no login for 127.0.0.1, so nothing is published" in done.stderr
    assert json.loads(file.read_text())["report"]["displayName"].startswith("Test accuracy")


@pytest.fixture
def server(monkeypatch):
    """The stand-in of W&B's server, that also keeps workspaces and reports."""
    from support import wandb_stand_in

    with wandb_stand_in.running() as running:
        running.views = Views()
        for name, answer in running.views.operations().items():
            monkeypatch.setitem(wandb_stand_in._OPERATIONS, name, answer)
        yield running


@pytest.mark.slow
def test_with_a_login_it_is_published_and_the_next_time_brought_up_to_date(retable, server, runs):
    call = ("wandb", "dashboard", "digits/accuracy")
    first = retable(*call, **server.environment).stdout.splitlines()
    file = runs / "_wandb" / "dashboards" / "digits" / "accuracy-paper.json"
    assert first[0] == str(file)
    assert first[1].startswith(f"{server.url}/someone/retable/reports/Test-accuracy")
    assert first[2].startswith(f"{server.url}/someone/retable?nw=")
    spec = json.loads(file.read_text())
    (view,) = server.views.of_type("project-view")
    (report,) = server.views.of_type("runs")
    assert json.loads(view["spec"]) == spec["workspace"]["spec"]
    assert json.loads(report["spec"]) == spec["report"]["spec"]

    second = retable(*call, "--site", SITE, **server.environment).stdout.splitlines()
    assert second == first
    (view,) = server.views.of_type("project-view")
    (report,) = server.views.of_type("runs")
    assert SITE in view["spec"]
    assert SITE in report["spec"]

    server.views.saved.clear()
    done = retable(*call, **server.environment)
    assert done.stderr.count("is gone or cannot be read, so a new one is made") == 2
    assert len(server.views.saved) == 2

    retable(*call, "--project", "other", **server.environment)
    assert len(server.views.saved) == 4
    assert server.views.projects == ["uncategorized", "retable", "other"]


@pytest.mark.slow
def test_a_server_that_refuses_is_one_line_and_the_file_is_there(retable, server, runs):
    server.fault = lambda name: 403 if name in ("UpsertView2", "upsertView") else None
    done = retable("wandb", "dashboard", "digits/accuracy", code=2, **server.environment)
    assert "error: W&B, someone/retable: not published:" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.environment["WANDB_API_KEY"] not in done.stderr
    assert (runs / "_wandb" / "dashboards" / "digits" / "accuracy-paper.json").is_file()
