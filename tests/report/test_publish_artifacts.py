"""What a figure is drawn from is published beside the records, and gives the same figure again."""

from __future__ import annotations

import os
import re
import shutil

import pytest
import torch
from msgspec import structs

from retable.launch.dispatch import launch
from retable.report import publish
from retable.report.restore import restore
from retable.runs import published_artifacts, records
from retable.runs.artifacts import file_of, read_file, write_artifacts
from retable.tables.grid import plan
from retable.util import paths
from retable.util.errors import UserError
from support import heat
from support.runs import record_of


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """The table of heat maps: four runs, two of each panel; and results of its own."""
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    with heat.files():
        yield plan(heat.NAME, "smoke")


def published():
    return sorted(published_artifacts.folder_of(heat.NAME, "smoke").glob("*"))


def pages():
    """Markdown and picture as they are published."""
    page = publish.published_file(heat.NAME, "smoke")
    return page.read_text(encoding="utf-8"), page.with_suffix(".svg").read_text(encoding="utf-8")


def artifact_of(run):
    attempt = run.folder / "attempts" / str(record_of(run).attempt)
    return file_of(attempt, "cosines")


@pytest.mark.slow
def test_the_figure_is_the_same_from_what_is_published_and_from_what_is_restored(
    grid, runs, fake, capsys
):
    assert launch(list(grid.runs())).done == 4
    publish.publish(grid)
    assert len(published()) == 4
    text, picture = pages()
    assert "![Cosines of &lt;b>classes&lt;/b>: Heat maps of cosine" in text
    assert "slow &amp; all: 10 × 10 numbers of 2 runs" in text
    assert picture.count(">2 runs</text>") == 2
    # By hand: the mean over the seeds.
    slow = grid.cell_runs(grid.cells["slow", "accuracy"])
    mean = sum(read_file(artifact_of(run))["all"].double() for run in slow) / 2
    written = re.findall(r'<text class="[kl]"[^>]*>([^<]*)</text>', picture)
    assert written[:100] == [heat.text_of(value) for value in mean.flatten().tolist()]
    before = [file.read_bytes() for file in published()]
    assert before == [artifact_of(run).read_bytes() for run in sorted(grid.runs(), key=key)]
    # Written again without the runs, and from runs that were restored.
    shutil.rmtree(runs)
    publish.rewrite("digits", "smoke")
    assert pages() == (text, picture)
    assert restore(grid).written == 4
    publish.publish(grid)
    assert pages() == (text, picture)
    assert [file.read_bytes() for file in published()] == before
    # What is published stays where the record is here and the arrays are not.
    artifact_of(slow[0]).unlink()
    publish.publish(grid)
    assert pages() == (text, picture)
    assert "warning" not in capsys.readouterr().err


def key(run):
    return run.key


def test_what_is_large_is_left_out_and_said_so(grid, monkeypatch, capsys):
    heat.leave_runs(grid)
    publish.publish(grid)
    size = max(file.stat().st_size for file in published())
    monkeypatch.setattr(published_artifacts, "MAX_ALL_BYTES", size + 10)
    capsys.readouterr()
    publish.publish(grid)
    said = capsys.readouterr().err
    assert len(published()) == 1
    assert said.count("its artefact is too large to be published") == 3
    assert (
        "panel 'fast', is empty: artefact 'cosines' is recorded, but its file is not here" in said
    )
    assert "1 of 2 runs" in pages()[1]
    assert "Nothing to show: artefact" in pages()[1]
    monkeypatch.setattr(published_artifacts, "MAX_BYTES", size - 10)
    publish.publish(grid)
    assert not published_artifacts.folder_of(heat.NAME, "smoke").exists()


def test_a_seed_without_arrays_is_not_in_the_mean(grid):
    heat.leave_runs(grid)
    first, _ = grid.cell_runs(grid.cells["slow", "accuracy"])
    artifact_of(first).unlink()
    publish.publish(grid)
    assert "slow &amp; all: 10 × 10 numbers of 1 of 2 runs" in pages()[0]


def test_a_figure_that_names_no_array_is_not_published(grid):
    heat.leave_runs(grid)
    heat.FILE.write_text(heat.TABLE.replace("array: half", "array: hafl"), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        publish.publish(plan(heat.NAME, "smoke"))
    assert str(caught.value) == (
        "digits/heat: figure.panels.1.array: no array 'hafl' in artefact 'cosines'; did you mean"
        " 'half'?"
    )
    assert not published_artifacts.folder_of(heat.NAME, "smoke").parent.exists()


def test_a_published_artefact_that_was_altered_is_named(grid):
    heat.leave_runs(grid)
    publish.publish(grid)
    first, second, *_ = published()
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=rf"{first.name}: holds other arrays than the record"):
        publish.rewrite("digits", "smoke")


def test_a_run_that_was_done_again_otherwise_takes_its_old_arrays_away(grid):
    heat.leave_runs(grid)
    publish.publish(grid)
    run = next(iter(grid.runs()))
    attempt = artifact_of(run).parents[1]
    sha256 = write_artifacts(attempt, {"cosines": {"all": torch.eye(10), "half": torch.eye(5)}})
    other = structs.replace(record_of(run), artifacts=sha256)
    for file in (attempt / records.RUN_RECORD, run.folder / records.RUN_RECORD):
        file.unlink()
        file.write_text(records.dump(other), encoding="utf-8")
    artifact_of(run).unlink()
    publish.publish(grid)
    assert published_artifacts.file_of(heat.NAME, "smoke", run.key, "cosines") not in published()
    assert len(published()) == 3


def test_tables_without_heat_maps_publish_no_arrays(grid):
    heat.leave_runs(grid)
    publish.publish(grid)
    assert len(published()) == 4
    heat.FILE.write_text(heat.TABLE.replace(heat.FIGURE, ""), encoding="utf-8")
    publish.publish(plan(heat.NAME, "smoke"))
    assert published() == []


@pytest.mark.slow
def test_on_the_command_line(retable, tmp_path):
    extra = tmp_path / "extra"
    with heat.files():
        shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    name, smoke = heat.NAME, ("--protocol", "smoke")
    part = ("--row", "slow", "--seeds", "1")
    retable("run", name, *smoke, *part, "logger=none", RETABLE_EXTRA=extra)
    done = retable("publish", name, *smoke, RETABLE_EXTRA=extra)
    assert "figure, panel 'fast', is empty: no run of it is finished" in done.stderr
    page = extra / "results" / "digits" / "heat-smoke.md"
    beside = "heat-smoke.parquet, heat-smoke.svg, heat-smoke.artifacts/ (1 file)"
    overview = f"{extra / 'results' / 'README.md'}, and pages of the paper whose claims share p"
    first, second = done.stdout.splitlines()
    assert (first, second.partition(" (Holm)")[0]) == (f"{page}, {beside}", overview)
    again = retable("publish", name, *smoke, "--from", "results", RETABLE_EXTRA=extra)
    assert again.stdout.splitlines() == [first, str(extra / "results" / "README.md")]
    assert "(heat-smoke.svg)" in page.read_text(encoding="utf-8")
    picture = page.with_suffix(".svg").read_text(encoding="utf-8")
    tex = retable("table", name, *smoke, "--format", "latex", RETABLE_EXTRA=extra).stdout
    assert r"\begin{tabular}" in tex
    site = tmp_path / "site"
    retable("site", "--output", site, RETABLE_EXTRA=extra)
    shown = (site / "tables" / "digits" / "heat-smoke.html").read_text(encoding="utf-8")
    assert 'src="../../curves/digits/heat-smoke/figure.svg"' in shown
    assert "slow &amp; all: 10 × 10 numbers of 1 of 2 runs, from " in shown
    assert "fast: nothing, no run of it is finished" in shown
    drawn = site / "curves" / "digits" / "heat-smoke" / "figure.svg"
    assert drawn.read_text(encoding="utf-8") == picture
