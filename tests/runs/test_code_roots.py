"""Code beside the project's: each root by its name, with its own commit and changes."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess

import msgspec
import pytest

from retable.admin import doctor
from retable.config import source_files
from retable.launch.dispatch import launch
from retable.launch.local import provenance as in_launch
from retable.launch.worker import Exit
from retable.report import uncommitted
from retable.runs import attempts, code_roots, import_closure, provenance
from retable.runs.record_parts import CodeRoot
from retable.tracking.run_payload import config_of
from support.records import PROVENANCE, plain_record
from support.runs import freeze

MODULE = "papers/digits/module.py"
TARGETS = ["retable.papers.digits.module.Perceptron"]


def git(folder, *args):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True)


def commit_all(folder):
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip()


def forget():
    for known in (
        source_files.module_file,
        source_files.module_tree,
        import_closure.own_places,
        import_closure.imported,
    ):
        known.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def extra(tmp_path, monkeypatch):
    """A folder of papers of which one imports a package of the user's, ``mytools``."""
    home = tmp_path / "home-of-somebody"
    root = home / "mypapers"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(os.environ["RETABLE_EXTRA"], root, ignore=ignored)
    with (root / MODULE).open("a") as file:
        file.write("import mytools.parts\n")
    tools = home / "lib" / "mytools"
    tools.mkdir(parents=True)
    (tools / "__init__.py").write_text("")
    (tools / "parts.py").write_text("x = 1\n")
    monkeypatch.setenv("RETABLE_EXTRA", str(root))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.syspath_prepend(str(home / "lib"))
    forget()
    yield root
    forget()


def roots(runs):
    return {root.name: root for root in provenance.collect(runs, TARGETS).roots}


def test_every_root_has_a_state_of_its_own(extra, runs):
    tools = extra.parent / "lib"
    papers = commit_all(extra)
    assert roots(runs) == {
        "mypapers": CodeRoot(name="mypapers", commit=papers),
        "mytools": CodeRoot(name="mytools"),
    }
    library = commit_all(tools)
    assert roots(runs)["mytools"].commit == library != papers
    (extra / MODULE).write_text((extra / MODULE).read_text() + "# changed\n")
    (extra / "conf" / "new.yaml").write_text("x: 1\n")
    (extra / "notes.md").write_text("of no code")
    (tools / "mytools" / "new.py").write_text("")
    (tools / "other.py").write_text("of another package")
    found = roots(runs)
    assert {name: root.shown for name, root in found.items()} == {
        "mypapers": f"mypapers {papers[:12]} with local changes",
        "mytools": f"mytools {library[:12]} with local changes",
    }
    changed = {
        n: code_roots.changed_files(provenance.kept(runs, r.dirty)) for n, r in found.items()
    }
    assert changed == {"mypapers": [MODULE, "conf/new.yaml"], "mytools": ["mytools/new.py"]}
    text = msgspec.json.encode(list(found.values())).decode()
    text += "".join(path.read_text() for path in (runs / "_store").glob("*.diff"))
    assert "home-of-somebody" not in text


def test_only_what_the_runs_execute_is_asked(extra, runs):
    commit_all(extra)
    assert provenance.collect(runs).roots == []
    assert provenance.collect(runs, ["retable.papers.subtb.module.SubTB"]).roots == []
    found = provenance.collect(runs, ["mytools.parts.x"]).roots
    assert [root.name for root in found] == ["mytools"]


def test_a_file_that_git_is_told_to_ignore_counts_where_runs_execute_it(extra, runs):
    (extra / ".gitignore").write_text("papers/digits/module.py\nconf/ignored.yaml\n")
    commit_all(extra)
    (extra / "conf" / "ignored.yaml").write_text("")
    (found,) = (root for root in code_roots.roots_of(TARGETS) if root.name == "mypapers")
    # Nothing else of it is executed: the repository around it is of something else.
    found.files = [file for file in found.files if file.name == "module.py"]
    assert found.state() == code_roots.State()
    (found,) = (root for root in code_roots.roots_of(TARGETS) if root.name == "mypapers")
    found.files.append(extra / "papers" / "digits" / "data.py")
    assert code_roots.changed_files(found.state().changes) == [MODULE]


def test_a_repository_that_a_hook_names_is_not_taken_for_the_root_s(extra, runs, monkeypatch):
    commit = commit_all(extra)
    monkeypatch.setenv("GIT_DIR", str(extra.parent / "nowhere"))
    assert roots(runs)["mypapers"].commit == commit


def test_an_editable_installation_in_no_repository_has_its_version(extra, runs, tmp_path):
    info = extra.parent / "lib" / "my_tools-1.2.dist-info"
    place = shutil.copytree(extra.parent / "lib", tmp_path / "source" / "src")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-tools\nVersion: 1.2\n")
    url = {"url": f"file://{place.parent}", "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(url))
    root = code_roots.Root("mytools", place, ["mytools"], [place / "mytools" / "parts.py"])
    assert root.version() == "1.2"
    assert CodeRoot(name="mytools", version="1.2").shown == "mytools 1.2"
    assert code_roots.Root("mytools", extra, ["mytools"]).version() is None


def test_names_in_a_diff():
    text = 'diff --git a/x y b/x y\n-diff --git a/no b/no\ndiff --git "a/\\303" "b/\\303"\n'
    assert code_roots.changed_files(f"{text}untracked a b.py {'0' * 64}\n") == [
        "x y",
        "\\303",
        "a b.py",
    ]


FOUND = msgspec.structs.replace(
    PROVENANCE, roots=[CodeRoot(name="mypapers", commit="1" * 40, dirty="2" * 64)]
)


def test_a_launch_asks_for_the_roots_of_its_runs(fake, runs, monkeypatch):
    asked = []
    collect = provenance.collect
    monkeypatch.setattr(in_launch, "collect", lambda *args: asked.append(args) or collect(*args))
    run = freeze()
    fake.script = lambda *_: Exit.INTERRUPTED
    launch([run])
    (args,) = asked
    assert args[1] == sorted(run.targets)


def test_it_is_passed_on_whole_and_old_records_have_none():
    launched = attempts.Launched(FOUND, 2, alone=True)
    assert attempts.launched_from(attempts.launched_json(launched)) == launched
    assert b"roots" not in msgspec.json.encode(PROVENANCE)


def test_what_wandb_is_told_is_plain(runs):
    told = config_of(freeze(), FOUND)["retable"]
    assert told["roots"] == [{"name": "mypapers", "commit": "1" * 40, "dirty": "2" * 64}]
    assert "roots" not in config_of(freeze(), PROVENANCE)["retable"]


def test_records_of_code_in_no_commit_are_counted_by_root(extra, runs):
    commit_all(extra)
    for number in range(5):
        (extra / "papers" / "digits" / f"new{number}.py").write_text("")
    dirty = provenance.collect(runs, TARGETS)
    dirty = msgspec.structs.replace(dirty, commit="c", dirty=None)
    own = msgspec.structs.replace(PROVENANCE, dirty="3" * 64)
    installed = msgspec.structs.replace(
        PROVENANCE, commit=None, roots=[CodeRoot(name="mytools", version="1.2")]
    )
    found = [plain_record(key=str(n), provenance=p) for n, p in enumerate([dirty, dirty, own])]
    found.append(plain_record(key="4", provenance=installed))
    names = [f"papers/digits/new{number}.py" for number in range(3)]
    assert uncommitted.said(found, runs) == [
        f"2 records of code that is in no commit: mypapers had local changes in"
        f" {', '.join(names)} and 2 more files; commit it, then do each with"
        " `retable verify 0 --replace` again",
        "2 records of code that is in no commit: mytools is in no repository; commit it, then do"
        " each with `retable verify 0 --replace` again",
        "1 record of code that is in no commit: retable had local changes, which are not kept"
        " here; commit it, then do it with `retable verify 2 --replace` again",
    ]


@pytest.mark.slow
def test_doctor_names_the_roots_and_counts_the_tables_of_each(extra, monkeypatch):
    commit = commit_all(extra)
    checks = doctor.examine()
    said = [check.finding for check in checks if check.what == "code"]
    assert said[1:] == [
        f"mypapers in {extra}: commit {commit[:12]}",
        f"mytools in {extra.parent / 'lib'}: in no repository, or not added to it",
    ]
    assert said[0].startswith("retable in ")
    (tables,) = (check.finding for check in checks if check.what == "tables")
    assert tables.endswith(f"; 1 table file in {extra / 'conf'}")
    (extra / "conf" / "new.yaml").write_text("")
    (check,) = (c for c in doctor.examine() if c.finding.startswith("mypapers"))
    assert check.finding.endswith("with local changes in 1 file")
    assert check.remedy
    (extra / MODULE).write_text("this is no python")
    forget()
    (check,) = (c for c in doctor.examine() if c.what == "code" and c.state == "broken")
    assert "module.py, line 1: cannot be parsed" in check.finding
    monkeypatch.delenv("RETABLE_EXTRA")
    assert [c.what for c in doctor.examine()].count("code") == 1
