"""Which tests are run in CI, of the papers' and of the slow ones (support/in_turn.py)."""

from __future__ import annotations

import os
import subprocess

import pytest

from support import in_turn

PAPERS = ["a", "b", "c", "d", "e"]


def test_unchanged_papers_take_turns():
    others = ["README.md", "src/retable/runs/lease.py", "results/c/table.md"]
    parts = [in_turn.tested(PAPERS, f"{k}/3", others) for k in (1, 2, 3)]
    assert parts == [["a", "d"], ["b", "e"], ["c"]]


@pytest.mark.parametrize(
    "file",
    [
        "src/retable/papers/c/module.py",
        "conf/experiment/c/smoke.yaml",
        "conf/table/c/table.yaml",
        "tests/papers/test_c.py",
        "tests/papers/c/test_module.py",
        "tests/support/c.py",
    ],
)
def test_what_has_changed_is_tested_always(file):
    assert in_turn.tested(PAPERS, "2/3", [file]) == ["b", "c", "e"]


@pytest.mark.parametrize(
    "file", ["src/retable/training/execute.py", "src/retable/papers/base.py", "uv.lock"]
)
def test_all_are_where_what_all_are_built_upon_has(file):
    assert in_turn.tested(PAPERS, "2/3", ["src/retable/papers/c/module.py", file]) == PAPERS


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Git in a repository of this test's own, of whose commits the last one is lately."""
    monkeypatch.setattr(in_turn, "ROOT", tmp_path)
    monkeypatch.setattr(in_turn, "COMMITS", 1)
    monkeypatch.delenv(in_turn.SINCE, raising=False)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]

    def call(*words, hour=0):
        when = f"2026-01-01T{hour:02d}:00:00+0000"
        dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        subprocess.run(
            ["git", *who, *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            env=os.environ | dates,
        )

    assert in_turn.changed_lately() is None
    call("init")
    return call


@pytest.fixture
def history(git, tmp_path):
    """A commit of a file each, at the hours of a day that their names begin with."""
    for name in ("01_a", "02_b", "11_c", "14_d", "15_e", "20_f"):
        (tmp_path / name).touch()
        git("add", name)
        git("commit", "-m", name, hour=int(name[:2]))
    return git


def test_changes_of_the_last_commits_and_of_none_yet(history, tmp_path):
    (tmp_path / "new").touch()
    (tmp_path / "02_b").write_text("changed")
    assert sorted(in_turn.changed_lately()) == ["02_b", "20_f", "new"]


@pytest.mark.parametrize(
    ("commits", "since", "changed"),
    [
        (2, None, ["11_c", "14_d", "15_e"]),  # all of the last hours
        (4, None, ["02_b", "11_c", "14_d", "15_e"]),  # fewer commits than are lately in any case
        (5, None, None),  # no revision before the first one
        (2, "HEAD~1", ["15_e"]),
        (2, "unknown", None),
    ],
)
def test_lately_is_so_many_commits_and_hours_or_what_is_said(
    history, monkeypatch, commits, since, changed
):
    history("reset", "--hard", "HEAD~1")
    monkeypatch.setattr(in_turn, "COMMITS", commits)
    monkeypatch.setattr(in_turn, "HOURS", 4)
    if since:
        monkeypatch.setenv(in_turn.SINCE, since)
    assert in_turn.changed_lately() == changed


@pytest.mark.parametrize(
    ("then", "changed"),
    [
        ('version = "2.0"\n', ["uv.lock"]),
        ("", ["uv.lock"]),
        ('version = "1.0"\n{ name = "a", specifier = ">=2.0" },\n', []),
        ('version = "1.0"\nname = "b"\nversion = "2.0"\n', []),  # what was there is as it was
    ],
)
def test_the_lock_has_changed_where_a_package_has_another_version(git, tmp_path, then, changed):
    lock = tmp_path / "uv.lock"
    for hour, text in ((1, 'version = "1.0"\n'), (9, then)):
        lock.write_text(text)
        git("add", "uv.lock")
        git("commit", "-m", "a", hour=hour)
    assert in_turn.changed_lately() == changed


def test_what_is_new_in_what_papers_share_has_changed_for_nobody(git, tmp_path):
    folder = tmp_path / "src" / "retable" / "data"
    folder.mkdir(parents=True)
    for hour, text in ((1, "a"), (9, "b")):
        (folder / "old.py").write_text(text)
        (folder / f"new_{text}.py").touch()
        (tmp_path / f"other_{text}.py").touch()
        git("add", ".")
        git("commit", "-m", text, hour=hour)
    (folder / "untracked.py").touch()
    assert in_turn.changed_lately() == ["other_b.py", "src/retable/data/old.py"]


@pytest.mark.parametrize(
    ("test", "paper"),
    [
        ("tests/papers/igb/test_igb_data.py::test_a", "igb"),
        ("tests/papers/test_igb.py::test_a[subtb]", "igb"),
        ("tests/papers/test_base.py::test_a", None),
        ("tests/papers/test_contract.py::test_a[subtb]", "subtb"),
        ("tests/config/test_shipped_configs.py::test_quick", None),
        ("tests/report/test_published.py::test_a[subtb]", None),
    ],
)
def test_which_tests_are_a_paper_s(test, paper):
    assert in_turn.paper_of(test) == paper


@pytest.mark.parametrize(
    ("file", "whole"),
    [
        ("src/retable/launch/slurm/job.py", {"cli", "launch", "slurm"}),
        ("src/retable/training/execute.py", {"launch", "runs", "slurm", "tracking", "training"}),
        ("src/retable/report/site/page.py", {"browser", "cli", "report"}),
        ("src/retable/tables/spec.py", {"cli", "fuzz", "report", "tables"}),
        ("src/retable/tracking/sync.py", {"tracking", "wandb_tools"}),
        ("slurm/dev-cluster/up", {"slurm"}),
        ("tests/data/test_cache.py", {"data"}),
        ("tests/support/fuzz_mutations.py", {"fuzz", "runs"}),  # by way of support/fuzz.py
        ("src/retable/papers/igb/module.py", set()),
        ("README.md", set()),
    ],
)
def test_slow_tests_are_all_run_where_what_they_are_about_has_changed(file, whole):
    folders = in_turn.folders_in_turn([])
    assert {"browser", "launch", "runs", "slurm", "tables", "wandb_tools"} < folders
    assert folders - in_turn.folders_in_turn([file]) == whole


def test_which_tests_are_chosen_changes_none_of_them():
    assert in_turn.folders_in_turn([in_turn.CHOOSING]) == in_turn.folders_in_turn([])


@pytest.mark.parametrize(
    "file",
    [
        "tests/conftest.py",
        "uv.lock",
        "tests/support/slurm.py",  # a plugin of conftest.py
        "tests/support/runs.py",  # of which others of them are made
        "tests/support/data.json",
    ],
)
def test_no_slow_test_takes_turns_where_what_all_are_built_upon_has_changed(file):
    assert not in_turn.folders_in_turn(["README.md", file])


@pytest.fixture
def tests_of_its_own(tmp_path, monkeypatch):
    """Tests that use modules of `support` in every way there is."""
    files = {
        "tests/conftest.py": 'pytest_plugins = [f"support.{name}" for name in ("plugin",)]',
        "tests/support/plugin.py": "from support import base",
        "tests/support/by_name.py": "import support.deep",
        "tests/a/test_a.py": "from support.by_name import it",
        "tests/b/test_b.py": 'COMMAND = ["python", "-m", "support.process"]',
        "tests/c/conftest.py": "from support import (\n    other,\n    browser,\n)",
        "tests/c/test_c.py": '"""Words: base, process."""',
        "tests/papers/test_one.py": "from support import other",
        "tests/papers/two/test_two.py": 'SCRIPT = "tests/support/script.py"',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(in_turn, "ROOT", tmp_path)
    in_turn._users.cache_clear()
    yield
    in_turn._users.cache_clear()


@pytest.mark.parametrize(
    ("module", "folders", "papers"),
    [
        ("deep", {"a"}, []),
        ("by_name", {"a"}, []),
        ("process", {"b"}, []),
        ("browser", {"c"}, []),
        ("other", {"c"}, ["one"]),
        ("script", set(), ["two"]),
        ("plugin", {"a", "b", "c"}, []),
        ("base", {"a", "b", "c"}, []),
        ("unused", {"a", "b", "c"}, []),
    ],
)
def test_tests_that_use_what_has_changed_in_support_are_all_run(
    tests_of_its_own, module, folders, papers
):
    file = f"tests/support/{module}.py"
    assert {"a", "b", "c"} - in_turn.folders_in_turn([file]) == folders
    assert in_turn.tested(["one", "two"], "3/3", [file]) == papers


@pytest.mark.parametrize("folder", ["launch", "slurm", "runs"])
def test_every_file_has_its_turn_once_and_whole(folder):
    files = [
        path.relative_to(in_turn.ROOT).as_posix()
        for path in (in_turn.ROOT / "tests" / folder).rglob("test_*.py")
    ]
    tests = [f"{file}::test_{k}" for file in files for k in range(3)]
    of_each = [[t for t in tests if in_turn.is_turn(t, f"{k}/3")] for k in (1, 2, 3)]
    assert sorted(test for some in of_each for test in some) == sorted(tests)
    assert max(map(len, of_each)) - min(map(len, of_each)) <= 3
    assert all(len(some) % 3 == 0 for some in of_each)
    assert sum(len({t.partition("::")[0] for t in some}) for some in of_each) == len(files)


@pytest.fixture
def session(monkeypatch):
    """A session of a part, in which files have changed lately; the answers are its own."""

    def clear():
        for one in (in_turn._changed, in_turn.chosen, in_turn.slow_in_turn):
            one.cache_clear()

    def begin(part, changed=()):
        monkeypatch.setattr(in_turn, "changed_lately", lambda: changed)
        monkeypatch.setenv(in_turn.PART, part) if part else monkeypatch.delenv(
            in_turn.PART, raising=False
        )
        clear()

    yield begin
    clear()


SLOW = [f"tests/runs/{path.name}::test_a" for path in (in_turn.ROOT / "tests/runs").glob("test_*")]


def left_out():
    return {test for test in SLOW if in_turn.left_out(test, slow=True)}


def test_in_a_session_that_names_no_part_all_are_tested(session):
    session(None)
    assert in_turn.chosen() == tuple(in_turn.PAPERS)
    assert not left_out()


def test_where_git_does_not_say_what_has_changed_all_are_tested(session):
    session("1/3", None)
    assert in_turn.chosen() == tuple(in_turn.PAPERS)
    assert not left_out()


def test_what_is_left_out_of_a_part(session):
    session("1/3")
    assert left_out() == {test for test in SLOW if not in_turn.is_turn(test, "1/3")} != set()
    assert not any(in_turn.left_out(test, slow=False) for test in SLOW)
    assert not in_turn.left_out("tests/test_first_paper.py::test_a", slow=True)
    first, second = in_turn.PAPERS[:2]
    assert not in_turn.left_out(f"tests/papers/test_{first}.py::test_a", slow=False)
    assert in_turn.left_out(f"tests/papers/test_{second}.py::test_a", slow=False)
    session("1/3", ["src/retable/runs/lease.py"])
    assert not left_out()
