"""Which papers' tests are run in CI (support/in_turn.py)."""

from __future__ import annotations

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


def test_changes_of_the_last_commits_and_of_none_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(in_turn, "ROOT", tmp_path)
    assert in_turn.changed_lately() is None

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for name in ("long", "before", "here", "new"):
        (tmp_path / name).touch()
        if name != "new":
            git("add", name)
            git("commit", "-m", name)
    monkeypatch.setattr(in_turn, "COMMITS", 1)
    (tmp_path / "before").write_text("changed")
    assert sorted(in_turn.changed_lately()) == ["before", "here", "new"]


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


def test_in_a_session_that_names_no_part_all_are_tested(monkeypatch):
    in_turn.chosen.cache_clear()
    monkeypatch.delenv(in_turn.PART, raising=False)
    assert in_turn.chosen() == tuple(in_turn.PAPERS)
    in_turn.chosen.cache_clear()
