"""`retable run --until-decided` on the digits, as a user calls it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

TABLE = "digits/accuracy"


@pytest.fixture
def extra(tmp_path):
    """A root of one's own to publish into."""
    return shutil.copytree(os.environ["RETABLE_EXTRA"], tmp_path / "extra")


def keys_of(runs):
    return sorted(path.name for path in (runs / "digits").iterdir())


@pytest.mark.slow
def test_a_table_is_run_until_it_is_decided_and_published_with_its_looks(retable, runs, extra):
    env = {"RETABLE_EXTRA": extra}
    first = retable("run", TABLE, "--until-decided", "--max-seeds", 5, **env)
    assert "look 1, 4 cells at 3 seeds" in first.stderr
    assert "looks at 3, 5 seeds" in first.stdout
    looks = runs / "_looks" / "digits" / "accuracy-paper.json"
    assert json.loads(looks.read_text())["looks"] == [3, 5]
    done = keys_of(runs)

    # Again: nothing is run, the same is said.
    second = retable("run", TABLE, "--until-decided", **env)
    assert second.stdout == first.stdout
    assert keys_of(runs) == done
    assert retable("table", TABLE, **env).stdout == first.stdout

    # Nobody takes other seeds, or other looks, beside them.
    said = retable("run", TABLE, code=2, **env).stderr
    assert "go on with --until-decided" in said
    said = retable("run", TABLE, "--until-decided", "--max-seeds", 9, code=2, **env).stderr
    assert "looks up to 5 seeds were fixed" in said

    cells = json.loads(retable("table", TABLE, "--json", **env).stdout)["cells"]
    assert {cell["n"] for cell in cells if cell["n"]} <= {3, 5}
    assert any("settled at" in mark for cell in cells for mark in cell["marks"])
    retable("publish", TABLE, **env)
    published = retable("table", TABLE, "--from", "results", **env).stdout
    assert published == first.stdout
    page = (Path(extra) / "results" / "digits" / "accuracy.md").read_text()
    assert "Run until decided" in page
    assert (Path(extra) / "results" / "digits" / "accuracy.looks.json").is_file()


@pytest.mark.slow
def test_looks_are_not_fixed_after_the_first_run(retable, runs):
    retable("run", TABLE, "--seeds", 1, "--row", "fast")
    said = retable("run", TABLE, "--until-decided", code=2).stderr
    assert "before the first one" in said
    assert not (runs / "_looks").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-seeds", "5"], "--max-seeds: belongs to --until-decided"),
        (["--until-decided", "--max-seeds", "1"], "two at least"),
        (["--until-decided", "--seeds", "2"], "is for whole tables"),
        (["--until-decided", "--row", "fast"], "is for whole tables"),
    ],
)
def test_options_that_do_not_go_together_are_refused(retable, runs, options, said):
    assert said in retable("run", TABLE, *options, code=2).stderr
    assert not runs.exists() or not list(runs.iterdir())


@pytest.fixture
def declared(extra):
    """The table under protocol smoke, whose file fixes two looks at it."""
    file = extra / "conf" / "table" / "digits" / "accuracy.yaml"
    text = file.read_text(encoding="utf-8")
    looks = "looks: {fixed: 2026-01-02, protocol: smoke, at: [[1, 2]]}"
    file.write_text(text.replace("smoke: 1}\n", f"smoke: 2}}\n{looks}\n"), encoding="utf-8")
    return [TABLE, "--protocol", "smoke"], {"RETABLE_EXTRA": extra}


def test_a_table_whose_file_fixes_its_looks_is_not_run_until_decided(retable, runs, declared):
    smoke, env = declared
    said = retable("run", *smoke, "--until-decided", code=2, **env).stderr
    assert "its file fixes the looks" in said
    assert "retable run digits/accuracy --protocol smoke" in said
    assert not runs.exists() or not list(runs.iterdir())


@pytest.mark.slow
def test_a_table_whose_file_fixes_its_looks_is_run_as_any_other(retable, runs, declared):
    """All seeds of the last look are planned; those that are done say which look is shown."""
    smoke, env = declared

    def remark():
        return json.loads(retable("table", *smoke, "--json", **env).stdout)["remarks"][1]

    retable("run", *smoke, "--seeds", 1, **env)
    assert remark() == "Looks taken: 2 cells of 1, then 2 seeds: look 1, seed 1 is waiting."
    assert "2 to do" in retable("plan", *smoke, **env).stdout
    assert "look 2, the last" in retable("run", *smoke, **env).stdout
    assert len(keys_of(runs)) == 4
    retable("publish", *smoke, **env)
    published = retable("table", *smoke, "--from", "results", "--json", **env).stdout
    assert {cell["n"] for cell in json.loads(published)["cells"] if cell["n"]} == {2}
    assert "at 1, then 2 seeds, fixed on 2026-01-02" in retable("show", TABLE, **env).stdout
