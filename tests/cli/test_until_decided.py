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
