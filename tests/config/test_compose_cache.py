"""What was composed before is used again exactly where nothing changed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retable.config import compose_cache
from retable.config.compose import compose, groups, hydra_ready
from retable.config.compose_cache import planning
from retable.runs.frozen import freeze
from retable.runs.identity import run_key
from retable.tables import spec
from retable.util import paths
from retable.util.errors import UserError
from support.composed import BASE, asked, cache, conf, planned  # noqa: F401 - fixtures

PAPERS = paths.project_root() / "conf" / "experiment"


def outcome(overrides):
    """A config with the types of its values, or what is said against it."""
    try:
        return repr(compose(overrides))
    except UserError as error:
        return str(error)


# The same config.


def shape(override):
    """An override but for which value of its kind it sets: those differ in nothing composed."""
    key, _, value = override.partition("=")
    return override if key in groups() else (key, type(yaml.safe_load(value)))


def shipped():
    """Overrides of every experiment, and of rows and columns of tables: one of every shape."""
    found = [[f"experiment={name}"] for name in paths.config_names("experiment")]
    for name in paths.config_names("table"):
        table = spec.load(name)
        rows = [(name, row) for name, row in table.rows.items() if row.run]
        columns = list(table.columns)
        places = [
            *((row, c) for row in rows[:1] for c in columns),
            *((row, columns[0]) for row in rows),
        ]
        for protocol in table.protocols():
            for (row_name, row), column in places:
                experiment = table.experiment(column, protocol, row_name)
                if experiment is not None:
                    own = [*table.columns[column].overrides, *row.overrides]
                    found.append([f"experiment={experiment}", *own])
    return [[*own, "seed=0"] for own in {tuple(map(shape, own)): own for own in found}.values()]


def covering(every):
    """The longest lists first, those that set for their paper what none before has set."""
    seen, found = set(), []
    for experiment, *own in sorted(every, key=len, reverse=True):
        paper = experiment.partition("/")[0]
        new = {paper, *((paper, shape(override)) for override in own)} - seen
        if new:
            seen |= new
            found.append([experiment, *own])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("some", [covering, pytest.param(list, marks=pytest.mark.nightly)])
def test_everything_shipped_is_the_same_from_the_cache_and_from_hydra_alone(asked, some):
    overrides = some(shipped())
    names = {own[0].removeprefix("experiment=") for own in overrides}
    assert {name.partition("/")[0] for name in names} >= {p.name for p in PAPERS.iterdir()}
    assert some is covering or names >= {*paths.config_names("experiment")}
    with hydra_ready():
        alone = [outcome(own) for own in overrides]
    assert not any(text.startswith(("paper:", "model")) for text in alone)
    # And the parents, of which one may have a parent.
    once = len(overrides) + sum(text.count("run=SettingConfig(") for text in alone)
    with planning():
        assert [outcome(own) for own in overrides] == alone
    assert len(asked) == once
    with planning():
        assert [outcome(own) for own in overrides] == alone
    assert len(asked) == once


KEYS = st.sampled_from(
    ["seed", "model", "model.hidden", "model.dropout", "data.batch_size", "data", "trainer",
     "trainer.max_epochs", "experiment", "paths.runs", "callbacks", "hydra.run.dir", "stages",
     "table", "model/hidden", "model.hidden@x", "experiment.x", "diverged_above", "launcher",
     "+model.dropout", "++trainer.precision", "~model.hidden", "~callbacks", "+experiment"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["1", "0.5", "1e-3", "true", "null", "", "a", "'a b'", "[1,2]", "{a: 1}", "{lr: 1}",
         "digits/smoke", "default", "local", "1,2", "range(1,3)", "glob(*)", "[fit]",
         "{test/loss: 2}",
         "${data.batch_size}", "${seed}", "${oc.env:HOME}", "${now:%S}", "{1: 2.0}", "nan", ".inf",
         "32-true", "64-true", "{optimizer: {lr: 0.2}}", "\\${a}", '"${data.noise}"']
    ),
    st.text(alphabet="${}[](),:=.~+\\'\"# ab01_-é", max_size=8),
)  # fmt: skip


@pytest.mark.slow
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    given=st.lists(st.tuples(KEYS, VALUES).map("=".join), max_size=4),
    first=st.sampled_from(["experiment=digits/base", "experiment=digits/smoke"]),
)
def test_any_overrides_give_the_same_config_or_refusal_three_times(cache, given, first):
    overrides = [first, "seed=0", *given]
    with hydra_ready():
        alone = outcome(overrides)
    for _ in range(3):
        with planning():
            assert outcome(overrides) == alone
            assert outcome(overrides) == alone


def test_the_order_of_overrides_counts(asked):
    assert planned("model.hidden=3", "model.hidden=4").model["hidden"] == 4
    assert planned("model.hidden=4", "model.hidden=3").model["hidden"] == 3
    assert len(asked) == 2
    assert planned("model.hidden=3", "model.hidden=4").model["hidden"] == 4
    assert len(asked) == 2


def test_outside_of_planning_nothing_is_kept(cache):
    with hydra_ready():
        compose(BASE)
        with planning():
            pass
    assert not cache.exists()
    assert compose_cache.find(BASE) is None


# What makes it old.


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


EDITS = {
    "root": lambda own, extra: append(own / "run.yaml", "# more\n"),
    "trainer": lambda own, extra: append(own / "trainer" / "default.yaml", "# more\n"),
    "extra": lambda own, extra: append(extra / "experiment" / "digits" / "base.yaml", "# more\n"),
    "table": lambda own, extra: append(extra / "table" / "digits" / "accuracy.yaml", "# more\n"),
    "new file": lambda own, extra: (extra / "experiment" / "new.yaml").touch(),
    "new folder": lambda own, extra: (own / "model").mkdir(),
    "renamed": lambda own, extra: (extra / "experiment" / "digits" / "smoke.yaml").rename(
        extra / "experiment" / "digits" / "smoky.yaml"
    ),
    "deleted": lambda own, extra: (extra / "experiment" / "digits" / "smoke.yaml").unlink(),
    "hidden": lambda own, extra: (own / ".hidden").touch(),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_anywhere_under_conf_makes_it_old(conf, cache, asked, edit):
    before = planned()
    assert planned() == before
    assert len(asked) == 1
    edit(*conf)
    assert planned() == before
    assert len(asked) == 2
    assert len(list(cache.iterdir())) == 2


def test_an_edit_is_seen_and_its_way_back_finds_the_old_entry(conf, asked):
    file = conf[1] / "experiment" / "digits" / "base.yaml"
    text = file.read_text(encoding="utf-8")
    assert planned().model["hidden"] == 32
    file.write_text(text.replace("hidden: 32", "hidden: 48"), encoding="utf-8")
    assert planned().model["hidden"] == 48
    file.write_text(text, encoding="utf-8")
    assert planned().model["hidden"] == 32
    assert len(asked) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RETABLE_RUNS", "RETABLE_MIRROR"])
def test_a_variable_that_the_configs_read_makes_it_old(asked, monkeypatch, tmp_path, name):
    field = name.removeprefix("RETABLE_").lower()
    for value in ("a", "", None, "a"):
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
        with planning():
            now = outcome(BASE)
        with hydra_ready():
            assert now == outcome(BASE)
        assert value != "a" or f"{field}='a'" in now
    assert len(asked) == 3
    monkeypatch.setenv("UNRELATED", "b")
    planned()
    assert len(asked) == 3


def test_other_versions_make_it_old(asked, monkeypatch):
    planned()
    monkeypatch.setattr(compose_cache, "__version__", "9")
    planned()
    assert len(asked) == 2
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda n: "9" if n == "omegaconf" else real(n)
    )
    planned()
    assert len(asked) == 3


def test_what_was_edited_while_it_was_planned_is_not_kept(conf, cache):
    file = conf[1] / "experiment" / "digits" / "base.yaml"
    text = file.read_text(encoding="utf-8")
    with planning():
        file.write_text(text.replace("hidden: 32", "hidden: 48"), encoding="utf-8")
        assert compose(BASE).model["hidden"] == 48
        file.write_text(text, encoding="utf-8")
    assert not cache.exists()
    assert planned().model["hidden"] == 32


def test_linked_folders_are_looked_into_and_loops_end(conf, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file.yaml").touch()
    before = compose_cache.sources()
    (conf[1] / "experiment" / "linked").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(elsewhere)
    linked = compose_cache.sources()
    (elsewhere / "file.yaml").write_text("a: 1\n", encoding="utf-8")
    assert len({before, linked, compose_cache.sources()}) == 3


@pytest.mark.parametrize(
    "text",
    ["x: ${now:%S}\n", "x: ${oc.env:${a}}\n", "x: ${ hydra : a }\n", "x: '${oc.env:\"A\"}'\n",
     "hydra: {searchpath: [file:///tmp]}\n"],
)  # fmt: skip
def test_configs_that_depend_on_more_than_files_and_variables_are_not_kept(conf, cache, text):
    assert compose_cache.sources() is not None
    (conf[0] / "trainer" / "other.yaml").write_text(text, encoding="utf-8")
    assert compose_cache.sources() is None
    assert planned().model["hidden"] == 32
    assert not cache.exists()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: ${oc.env:A}, ${oc.env:B,c} ${ oc.env : C , ${oc.env:D,}}", {"A", "B", "C", "D"}),
        ("a: ${b.c} ${oc.select:d,${oc.env:E,null}} {x: 1}", {"E"}),
        ("", set()),
    ],
)
def test_variables_that_a_text_reads(text, names):
    assert compose_cache._variables(text) == names


def test_what_an_override_reads_is_not_kept(asked, monkeypatch):
    for home in ("/a", "/b"):
        monkeypatch.setenv("HOME", home)
        assert planned("paths.runs=${oc.env:HOME}/runs").paths.runs == f"{home}/runs"
    assert len(asked) == 2
    for _ in range(2):
        assert planned("model.hidden=${data.batch_size}").model["hidden"] == 100
    assert len(asked) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "loaded"), [(compose_cache.WORTH_A_FILE, []), (2, ["hydra", "omegaconf"])]
)
def test_a_large_table_that_was_planned_before_needs_no_hydra(conf, tmp_path, rows, loaded):
    file = conf[1] / "table" / "digits" / "accuracy.yaml"
    head, _, _ = file.read_text(encoding="utf-8").partition("rows:")
    lines = [f"  r{n}: [model.hidden={n + 1}]" for n in range(rows)]
    file.write_text("\n".join([f"{head}rows:", *lines]) + "\n", encoding="utf-8")
    code = (
        "import sys\nfrom retable.monitor import table_progress\nfrom retable.tables import grid\n"
        "print(table_progress.progress_of(grid.plan('digits/accuracy')).as_text())\n"
        "print(sorted({'hydra', 'omegaconf', 'torch', 'polars'} & set(sys.modules)))\n"
    )
    for expected in (["hydra", "omegaconf"], loaded):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stdout.splitlines()[-1] == repr(expected)
        assert f"{3 * rows} runs, {3 * rows} to do" in done.stdout
    assert (tmp_path / "cache").exists() == (loaded == [])


# Runs of one setting.


def test_a_run_with_another_seed_has_the_key_of_its_own_config():
    plain = freeze(planned())
    assert plain.with_seed(0) is plain
    seventh = plain.with_seed(7)
    assert seventh.config.seed == 7
    assert seventh.key == run_key(seventh.config) != plain.key
    assert seventh == freeze(planned("seed=7"))
    assert seventh.with_seed(0) == plain
    assert seventh.with_seed(9) is plain.with_seed(9)
    assert seventh.folder.name == seventh.key
