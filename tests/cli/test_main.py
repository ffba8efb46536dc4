"""Every command on the digits paper, in processes of their own."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from retable.cli.main import GROUPS, app


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """One set-up for the whole file: an extra root of its own, runs, and what `run` printed."""
    base = tmp_path_factory.mktemp("cli")
    shutil.copytree(os.environ["RETABLE_EXTRA"], base / "extra")
    env = {
        **os.environ,
        "RETABLE_EXTRA": str(base / "extra"),
        "RETABLE_RUNS": str(base / "runs"),
        "RETABLE_CACHE": str(base / "cache"),
        "HOME": str(base / "home"),
    }

    def call(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "retable", *args], cwd=base, env=env, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    ran = call("run", "digits", "--protocol", "smoke")
    return SimpleNamespace(call=call, ran=ran, base=base, env=env)


def one_document(done: subprocess.CompletedProcess[str]):
    """The one JSON document that is all of stdout."""
    return json.loads(done.stdout)


def test_run_prints_the_table_and_a_summary(here):
    assert here.ran.stdout.startswith("# Test accuracy by learning rate\n")
    assert "protocol `smoke`" in here.ran.stdout
    assert "| slow |" in here.ran.stdout
    assert "2 run, 0 already done" in here.ran.stderr


def test_run_twice_runs_nothing_the_second_time(here):
    records = {p: p.stat().st_mtime_ns for p in (here.base / "runs").rglob("record.json")}
    again = here.call("run", "digits/accuracy", "--protocol", "smoke")
    assert "0 run, 2 already done" in again.stderr
    assert again.stdout == here.ran.stdout
    assert {p: p.stat().st_mtime_ns for p in (here.base / "runs").rglob("record.json")} == records


@pytest.mark.slow
def test_table_in_every_format(here):
    name = ("table", "digits/accuracy", "--protocol", "smoke")
    assert here.call(*name).stdout == here.ran.stdout
    assert here.call(*name, "--format", "csv").stdout.startswith("table,protocol,row,column,metric")
    values = one_document(here.call(*name, "--json"))
    assert values == one_document(here.call(*name, "--format", "json"))
    cells = {(c["row"], c["column"]): c for c in values["cells"]}
    cell = cells["slow", "accuracy"]
    assert (cell["n"], cell["n_planned"], cell["std"], cell["verdict"]) == (1, 1, None, "protocol")
    assert 0 < cell["mean"] < 100
    assert cell["reported"] == {
        "value": "91.30", "spread": "0.50", "spread_kind": "std", "n": 5, "grade": "primary",
        "where": "Table 1, row 1", "note": None,
    }  # fmt: skip
    (key,) = cell["run_keys"]
    assert (here.base / "runs" / "digits" / key / "record.json").is_file()


def test_list_show_and_plan(here):
    listed = one_document(here.call("list", "--json"))
    assert "digits/accuracy" in {entry["table"] for entry in listed["tables"]}
    assert "digits/smoke" in listed["experiments"]
    text = here.call("list").stdout
    assert "digits/accuracy" in text
    assert "2 columns, 4 reported" in text
    # A paper alone is all of its tables: digits has one, so it is not in a list.
    shown = one_document(here.call("show", "digits", "--json"))
    assert shown["table"] == "digits/accuracy"
    assert isinstance(one_document(here.call("show", "risk_parity", "--json")), list)
    assert "slow, accuracy: 91.30" in here.call("show", "digits/accuracy").stdout
    smoke = one_document(here.call("plan", "digits", "--protocol", "smoke", "--json"))
    assert smoke["runs"]["done"] == 2
    assert smoke["runs"]["to do"] == 0
    paper = one_document(here.call("plan", "digits", "--seeds", "2", "--row", "slow", "--json"))
    assert paper["runs"]["to do"] == 2
    assert "nothing to start" in here.call("plan", "digits", "--protocol", "smoke").stdout


def test_summarize(here):
    text = here.call("summarize", "digits/smoke", "--by", "model.optimizer.lr").stdout
    assert text.startswith(f"digits/smoke: 2 runs in {here.base / 'runs'}: 2 done\n")
    args = ("digits/smoke", "--metric", "test/accuracy", "--runs", "runs", "--json")
    found = one_document(here.call("summarize", *args))
    assert found["by"] == ["model.optimizer.lr"]
    assert [g["setting"] for g in found["groups"]] == [
        {"model.optimizer.lr": 0.01}, {"model.optimizer.lr": 0.1},
    ]  # fmt: skip
    cells = one_document(here.call("table", "digits", "--protocol", "smoke", "--json"))["cells"]
    shown = [c["mean"] for c in cells if c["column"] == "accuracy" and c["n"]]
    assert [100 * g["metrics"][0]["mean"] for g in found["groups"]] == pytest.approx(shown)
    wrong = here.call("summarize", "digits/smoke", "--by", "lr", code=2)
    assert "did you mean 'model.optimizer.lr'?" in wrong.stderr
    assert "start some" in here.call("summarize", "digits/base", code=2).stderr


def test_clean_shows_asks_and_deletes(here):
    run = next((here.base / "runs" / "digits").glob("*/record.json")).parent
    for name in ("1", "2"):
        (run / f".config.yaml.00000000000{name}.tmp").write_text("x" * 500)
        os.utime(run / f".config.yaml.00000000000{name}.tmp", (0, 0))
    shown = here.call("clean").stdout
    assert "leftovers        2     1.0 kB" in shown
    assert shown.endswith("nothing removed; say --yes\n")
    plan = one_document(here.call("clean", "--only", "leftovers,caches", "--json"))
    assert (plan["removed"], plan["bytes"]) == (False, 1000)
    assert [c["category"] for c in plan["categories"]] == ["caches", "leftovers"]
    for answer, last in (("n", "nothing removed"), ("y", "freed 1.0 kB (2 of 2)")):
        ours, theirs = pty.openpty()  # as on a terminal
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "retable", "clean", "--only", "leftovers"], cwd=here.base,
            env=here.env, stdin=theirs, capture_output=True, text=True, check=True,
        )  # fmt: skip
        os.close(ours)
        os.close(theirs)
        assert "free 1.0 kB? [y/N]" in done.stdout
        assert done.stdout.splitlines()[-1].endswith(last)
    assert not list(run.glob(".*.tmp"))
    assert "nothing to free" in here.call("clean", "--yes").stdout
    assert one_document(here.call("clean", "--yes", "--json"))["freed"] is None


def test_json_is_one_document_even_with_warnings(here):
    record = next((here.base / "runs" / "digits").glob("*/record.json"))
    attempt = record.parent / "attempts" / "1" / "record.json"
    whole = record.read_text()
    # Two names of one file, so that breaking it breaks both.
    assert record.samefile(attempt)
    record.write_text("{broken")
    try:
        for command in ("table", "plan"):
            done = here.call(command, "digits/accuracy", "--protocol", "smoke", "--json")
            one_document(done)
            assert str(record) in done.stderr
            assert "warning" in done.stderr
        partial = one_document(here.call("table", "digits", "--protocol", "smoke", "--json"))
        assert sorted(c["n"] for c in partial["cells"] if c["n_planned"]) == [0, 1]
    finally:
        record.write_text(whole)


@pytest.mark.slow
def test_publish_and_table_from_results_give_the_same_bytes(here):
    said = here.call("publish", "digits", "--protocol", "smoke").stdout
    results = here.base / "extra" / "results"
    assert str(results / "digits" / "accuracy-smoke.md") in said
    markdown = (results / "digits" / "accuracy-smoke.md").read_text()
    name = ("table", "digits/accuracy", "--protocol", "smoke", "--from", "results")
    assert here.call(*name).stdout == markdown == here.ran.stdout
    assert one_document(here.call(*name, "--json"))["records_from"] == "results"
    assert "accuracy-smoke.md" in (results / "digits" / "README.md").read_text()


def test_prepare(monkeypatch, capsys):
    from retable.cli.main import main

    monkeypatch.setattr(sys, "argv", ["retable", "prepare", "digits", "--protocol", "smoke"])
    with pytest.raises(SystemExit) as left:  # in this process, which has torch loaded
        main()
    assert left.value.code == 0
    out, err = capsys.readouterr()
    assert "is ready" in out
    assert "preparing 1 data setting" in err


@pytest.mark.slow
def test_train_multirun_one_run_and_exit_codes(here):
    args = ("experiment=digits/smoke", "seed=5")
    failed = here.call("train", "-m", *args, "model.fail=no,raise", code=1)
    assert "1 run, 0 already done, 1 failed" in failed.stderr
    assert "asked to" in failed.stderr
    done = here.call("train", *args, "model.fail=no")
    assert "status: done" in done.stdout
    assert "test/accuracy = " in done.stdout
    assert "0 run, 1 already done" in done.stderr
    assert "stale" not in done.stdout + done.stderr
    [folder] = re.findall(r"^folder: (.+)$", done.stdout, re.MULTILINE)
    record = Path(folder) / "record.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "fingerprint": "0" * 64}))
    # Shown as it is, kept by a sweep, done again by a sweep that is asked to, and when run alone.
    text = "stale: computed by other code than is here now"
    composed = here.call("train", *args, "model.fail=no", "--cfg", "job").stdout
    assert f"# state: done, {text}" in composed
    assert text in here.call("train", *args, "model.fail=no", "--keep").stdout
    kept = here.call("train", "-m", *args, "model.fail=no")
    assert "0 run, 1 already done" in kept.stderr
    assert "1 of those already done is stale" in kept.stderr
    before = record.read_text()
    assert (
        "1 run, 0 already done"
        in here.call("train", "-m", *args, "model.fail=no", "--again").stderr
    )
    assert json.loads(record.read_text()) != json.loads(before)
    record.write_text(json.dumps({**content, "fingerprint": "0" * 64}))
    alone = here.call("train", *args, "model.fail=no")
    assert "done again, the old record stands until the new one is there" in alone.stderr
    assert "status: done (attempt 3" in alone.stdout
    assert text not in alone.stdout
    assert "give one of them" in here.call("train", *args, "--keep", "--again", code=2).stderr
    assert {p.name for p in here.base.iterdir()} <= {"extra", "runs", "cache", "home"}


def test_every_help_has_an_example_and_every_command_is_here(here):
    top = here.call("--help").stdout
    listed = top[top.index(f"{next(iter(GROUPS))}:") :].splitlines()
    assert [x[:-1] for x in listed if x and not x.startswith(" ")] == list(GROUPS)
    lines = [x.split(maxsplit=1) for x in listed if x.startswith("  ")]
    names = [name for name, _ in lines]
    assert names == [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(get_command(app).commands)
    assert not any(said.endswith("...") for _, said in lines), top
    for name in names:
        assert "Example: retable" in here.call(name, "-h").stdout, name
    assert here.call().stdout == top
    assert here.call("--version").stdout.startswith("retable ")


def test_help_imports_nothing_heavy(here):
    code = (
        "import sys; sys.argv = ['retable', '--help']\nfrom retable.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'hydra', 'omegaconf', 'pydantic', 'polars', 'numpy', 'yaml'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=here.env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error(here):
    command = f"{sys.executable} -m retable show risk_parity | head -1"
    done = subprocess.run(
        command, shell=True, env=here.env, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
