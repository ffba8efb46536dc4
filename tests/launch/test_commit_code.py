"""The code of a commit for real: a git repository, its work tree, uv, and runs done by it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable.launch import commit_code
from retable.launch.commit_code import Code, Order, Unavailable
from retable.runs import records, snapshot
from retable.util import paths

ROOT = Path(__file__).parents[2]
EXPERIMENT = "binary_connect/mnist_smoke"


def git(folder, *args):
    call = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *args]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(repository, text):
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", text)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """The project as it is, as a repository with one commit; with the uv of the real one."""
    uv = commit_code._uv()
    if uv is None:
        pytest.skip("needs uv")
    monkeypatch.setenv("UV", uv)
    folder = tmp_path / "project"
    for name in ("src", "conf"):
        compiled = shutil.ignore_patterns("__pycache__", "*.nb?")
        shutil.copytree(ROOT / name, folder / name, ignore=compiled)
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy2(ROOT / name, folder / name)
    git(tmp_path, "init", "-q", str(folder))
    commit(folder, "first")
    return folder


@pytest.fixture
def call(repository, tmp_path):
    """The command line of that repository, without any other paper."""

    def run(*args, code=0, stop_at=None):
        env = {**os.environ, "PYTHONPATH": str(repository / "src")}
        del env["RETABLE_EXTRA"]
        command = [sys.executable, "-P", "-m", "retable", *args]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if stop_at is not None:
            deadline = time.monotonic() + 120
            while not stop_at():
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, _ = process.communicate(timeout=300)
        assert process.returncode == code, out
        return out

    return run


def edit(repository, file, old, new):
    path = repository / "src" / "retable" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.slow
def test_edits_are_confirmed_or_refused_against_the_record_s_own_commit(repository, call, runs):
    def record():
        [path] = runs.glob("binary_connect/*/record.json")
        return records.read(path)

    call("train", f"experiment={EXPERIMENT}", "seed=0")
    first, head = record(), git(repository, "rev-parse", "HEAD")
    assert (first.provenance.commit, first.provenance.dirty) == (head, None)
    assert "nothing is stale" in call("refresh", EXPERIMENT)

    # Nothing that is computed changes; the record's own bits are not asked.
    edit(
        repository,
        "training/execute.py",
        "def seed_everything",
        "UNUSED = 1\n\n\ndef seed_everything",
    )
    path = next(runs.glob("binary_connect/*/record.json"))
    odd = json.loads(path.read_text())
    odd["provenance"]["cpu"] = "another"
    odd["results"][0]["value"] += 1e-9
    path.write_text(json.dumps(odd))
    second = commit(repository, "an edit")
    stopped = call(
        "refresh", first.key[:12], code=130,
        stop_at=lambda: list(runs.glob(f"_refresh/*/{head[:12]}/*/*/attempts/1/log.txt")),
    )  # fmt: skip
    assert "stopped; the same command goes on from here" in stopped
    assert record().fingerprint == first.fingerprint
    out = call("refresh", str(path.parent))
    assert f"by commit {head[:12]}: 1 run" in out
    assert "beside the record of another processor: equal within tolerance" in out
    assert "1 stale setting: 1 record confirmed" in out
    (trace,) = record().blessings
    assert (trace.against, trace.commit, trace.dirty) == (head, second, None)
    assert (trace.was, trace.now) == (first.fingerprint, record().fingerprint)
    assert trace.old_sha256 == trace.new_sha256 == first.substance_sha256()
    assert record().results[0].value == odd["results"][0]["value"]
    assert not (runs / "_refresh").exists()

    # Its bits change: said, and nothing else.
    edit(
        repository,
        "training/execute.py",
        'derive_seed(seed, "init")',
        'derive_seed(seed, "init", 1)',
    )
    before = record()
    out = call("refresh", EXPERIMENT, code=1)
    assert f"gives other bits than its commit {head[:12]} here, first in epoch 0" in out
    assert "cause: the code, as the packages are the same" in out
    assert record() == before

    # Its commit is another one: what it says is of no use.
    odd = json.loads(path.read_text())
    odd["blessings"][0]["was"] = "e" * 64
    path.write_text(json.dumps(odd))
    out = call("refresh", EXPERIMENT, code=1)
    assert f"was not computed by the code of its commit {head[:12]}: fingerprint eeee" in out


@pytest.fixture
def here(repository, monkeypatch):
    """That repository as the project of this process."""
    monkeypatch.setattr(paths, "project_root", lambda: repository)
    commit_code.why_unknown.cache_clear()
    yield repository
    commit_code.why_unknown.cache_clear()


@pytest.mark.slow
def test_a_tree_is_the_commit_s_and_made_once(here, monkeypatch):
    first = git(here, "rev-parse", "HEAD")
    edit(here, "training/seeds.py", '"""', '"""Edited. ')
    second = commit(here, "second")
    edit(here, "training/seeds.py", '"""', '"""Not committed. ')
    trees = [commit_code._tree(name) for name in (first, second)]
    texts = [(tree / "src" / "retable" / "training/seeds.py").read_text() for tree in trees]
    assert ["Edited." in text for text in texts] == [False, True]
    assert not any("Not committed" in text for text in texts)
    assert sorted(p.name for p in trees[0].iterdir()) == [
        "conf",
        "pyproject.toml",
        "src",
        "uv.lock",
    ]
    monkeypatch.setattr(commit_code.tarfile, "open", pytest.fail)
    assert commit_code._tree(first) == trees[0]
    assert {p.name for p in trees[0].parent.iterdir()} == {first, second}, "a temporary was left"


def test_only_commits_of_the_user_s_own_branches_are_executed(here, tmp_path):
    """A record is data: one that was made elsewhere may name whatever was fetched."""
    first = git(here, "rev-parse", "HEAD")
    edit(here, "training/seeds.py", '"""', '"""Edited. ')
    second = commit(here, "of somebody")
    git(here, "update-ref", "refs/pull/1/head", second)
    git(here, "reset", "-q", "--hard", first)
    assert commit_code.why_unknown(first) is None
    said = f"commit {second[:12]} is on no local branch (git branch NAME {second[:12]} makes one)"
    assert commit_code.why_unknown(second) == said
    with pytest.raises(Unavailable, match="is on no local branch"):
        commit_code.of_commit(second, pytest.fail)
    commit_code.why_unknown.cache_clear()
    git(here, "branch", "mine", second)
    assert commit_code.why_unknown(second) is None
    git(here, "branch", "-q", "-D", "mine")
    git(here, "checkout", "-q", "--detach", second)
    commit_code.why_unknown.cache_clear()
    assert commit_code.why_unknown(second) is None


def test_a_commit_without_a_lock_is_not_to_be_had(here):
    git(here, "rm", "-q", "--cached", "uv.lock")
    git(here, "commit", "-q", "-m", "no lock")
    with pytest.raises(Unavailable, match=r"has not all of src, conf, pyproject.toml, uv.lock"):
        commit_code.of_commit(git(here, "rev-parse", "HEAD"), pytest.fail)


@pytest.mark.slow
def test_the_same_lock_needs_no_environment_and_another_gets_one_once(here):
    """With the uv that there is, and a lock without packages."""
    if os.environ.get("RETABLE_TESTS_OLDEST"):
        pytest.skip("the oldest packages are not those of uv.lock")
    same = commit_code.of_commit(git(here, "rev-parse", "HEAD"), pytest.fail)
    assert not same.has_own_packages
    (here / "pyproject.toml").write_text(
        '[project]\nname = "retable"\nversion = "0"\nrequires-python = ">=3.11"\n'
    )
    (here / "uv.lock").unlink()
    uv = commit_code._uv()
    subprocess.run([uv, "lock", "--offline", "--quiet"], cwd=here, check=True)
    other = commit(here, "other packages")
    (here / "uv.lock").write_text("")  # what lies there now is the present's
    said = []
    code = commit_code.of_commit(other, said.append)
    assert code.has_own_packages
    place = code.python.parents[1]
    assert said[0] == f"making the environment of uv.lock at {other[:12]} with uv, in {place}"
    show = "import sys, importlib.metadata as m; print(*sys.version_info[:3], *m.distributions())"
    out = subprocess.run([code.python, "-c", show], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [str(part) for part in sys.version_info[:3]]
    assert commit_code.of_commit(other, pytest.fail).python == code.python
    (here / "pyproject.toml").write_text("[project]\nname = 3\n")
    broken = commit(here, "broken")
    with pytest.raises(Unavailable, match=r"uv cannot make the environment of .*name"):
        commit_code.of_commit(broken, said.append)


def worker(folder: Path, engine: str) -> Code:
    """Code of which there is only what the worker asks for, as a stub writes it."""
    package = folder / "src" / "retable" / "launch"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py"):
        path.write_text("")
    (package.parent / "compose.py").write_text("def from_values(values):\n    return values\n")
    (package / "frozen.py").write_text(
        "class Run:\n    def __init__(self, c):\n"
        "        self.key, self.fingerprint = c['key'], c['code']\n\n"
        "def freeze(config):\n    return Run(config)\n"
    )
    (package / "engine.py").write_text(engine)
    return Code("commit 1", folder / "src", Path(sys.executable))


ENGINE = (
    "import sys\n\nclass Summary:\n    stopped = False\n\n"
    "def launch(runs):\n    print('loud', [r.key for r in runs])\n    return Summary()\n"
)


def test_only_runs_of_the_expected_code_are_done_and_noise_is_no_answer(tmp_path, capfd):
    code = worker(tmp_path, ENGINE)
    orders = [
        Order("a", "x", {"key": "a", "code": "x"}),
        Order("b", "x", {"key": "b", "code": "y"}),
        Order("c", "x", {"key": "d", "code": "x"}),
        Order("e", "x", {}),
    ]
    answer = commit_code.execute(code, orders)
    assert answer.computed_by == {"a": "x", "b": "y"}
    assert answer.refused == {"c": "its config gives the key d", "e": "'key'"}
    assert not answer.stopped
    assert "loud ['a']" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("def other(): ...", "commit 1: ImportError: the code of this commit has no launch"),
        ("import os\nos._exit(3)", "commit 1 ended with code 3"),
        ("def launch(runs):\n    raise ValueError('no\\nroom')", "commit 1: ValueError: no room"),
    ],
)
def test_code_that_cannot_be_used_is_said_in_a_line(tmp_path, engine, message):
    code = worker(tmp_path, engine)
    with pytest.raises(Unavailable) as error:
        commit_code.execute(code, [Order("a", "x", {"key": "a", "code": "x"})])
    assert str(error.value).startswith(message)


def test_the_other_code_ends_with_whoever_asked(tmp_path):
    code = worker(
        tmp_path, "import time\n\ndef launch(runs):\n    open('on', 'w')\n    time.sleep(99)\n"
    )
    ask = (
        "import sys; from pathlib import Path; from retable.launch.commit_code import *;"
        f"execute(Code('c', Path({str(code.source)!r}), Path(sys.executable)),"
        "[Order('a', 'x', {'key': 'a', 'code': 'x'})])"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", ask])
    deadline = time.monotonic() + 30
    while not (tmp_path / "on").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    process.kill()
    process.wait()
    while Path(f"/proc/{children[0]}").exists() and time.monotonic() < deadline:
        if " Z " in Path(f"/proc/{children[0]}/stat").read_text():
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{children[0]}").exists()


def test_a_snapshot_can_be_ordered_as_any_code(tmp_path, runs):
    """The present code under other packages is run from a snapshot, which has no configs."""
    source = snapshot.make(runs, [])
    code = Code("present", source, Path(sys.executable))
    answer = commit_code.execute(code, [Order("k" * 64, "x", {"seed": 0})])
    assert "is missing" in answer.refused["k" * 64]
