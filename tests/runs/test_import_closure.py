"""The user's own code is part of the fingerprint, wherever it lies; what is installed is not."""

from __future__ import annotations

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retable.config import source_files
from retable.runs import identity, import_closure, records, snapshot
from retable.runs.identity import fingerprint, modules_of

ROOT = Path(__file__).parents[2]
# A paper over three modules, of which one lies deeper, and a helper package of the user's.
PAPER = {
    "papers/spread/__init__.py": "",
    "papers/spread/module.py": (
        "from helperlib.nets import widened\n\n"
        "from retable.papers.digits.module import Perceptron\n\n"
        "from .losses import smoothed\n\n\n"
        "class Spread(Perceptron):\n"
        "    def __init__(self, *, seed: int, hidden: int = 8, optimizer=None) -> None:\n"
        "        super().__init__(seed=seed, hidden=widened(hidden), optimizer=optimizer)\n\n"
        "    def build_losses(self) -> None:\n"
        "        self.criterion = smoothed()\n"
    ),
    "papers/spread/losses.py": (
        "from .parts import constants as known\n\n\n"
        "def smoothed():\n"
        "    from torch import nn\n\n"
        "    return nn.CrossEntropyLoss(label_smoothing=known.SMOOTHING)\n"
    ),
    "papers/spread/parts/__init__.py": "",
    "papers/spread/parts/constants.py": "SMOOTHING = 0.1\n",
    "conf/experiment/spread/smoke.yaml": (
        "# @package _global_\npaper: spread\nprotocol: smoke\n"
        "data: {_target_: retable.papers.digits.data.Digits, train_size: 200}\n"
        "model:\n  _target_: retable.papers.spread.module.Spread\n"
        "  optimizer: {_target_: torch.optim.SGD, _partial_: true, lr: 0.1}\n"
        "trainer: {max_epochs: 1}\n"
    ),
    "helpers/helperlib/__init__.py": "from . import defaults\n",
    "helpers/helperlib/defaults.py": "FACTOR = 2\n",
    "helpers/helperlib/nets.py": (
        "from . import defaults\n\n\ndef widened(hidden):\n    return hidden * defaults.FACTOR\n"
    ),
    "helpers/helperlib/weights.json": "{}\n",
    "helpers/helperlib/unused.py": "raise RuntimeError('nobody imports me')\n",
}
OWN = {
    "retable.papers.spread.module",
    "retable.papers.spread.losses",
    "retable.papers.spread.parts.constants",
    "helperlib",
    "helperlib.defaults",
    "helperlib.nets",
}
TARGETS = ["retable.papers.spread.module.Spread"]


@pytest.fixture
def extra(tmp_path) -> Path:
    """The extra root with that paper, beside the one it builds on."""
    root = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], root)
    for name, text in PAPER.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def seen(extra, monkeypatch):
    """What this process thinks of that paper's files as they are now."""
    monkeypatch.setenv("RETABLE_EXTRA", str(extra))
    monkeypatch.syspath_prepend(extra / "helpers")

    def look(of=fingerprint, targets=TARGETS):
        forget()
        return of(targets)

    yield look
    forget()


def forget() -> None:
    importlib.invalidate_caches()
    for known in (source_files.module_file, source_files.module_tree, import_closure.own_places,
                  import_closure._holds_distributions, import_closure.imported,
                  identity._text_of, identity._fingerprint):  # fmt: skip
        known.cache_clear()


def test_the_closure_holds_every_own_module_and_no_other(seen):
    closure = set(seen(modules_of))
    assert closure >= OWN
    assert "retable.papers.digits.module" in closure
    # Left out: a package around a module that runs nothing, what nobody imports, or is installed.
    assert "retable.papers.spread" not in closure
    assert "helperlib.unused" not in closure
    assert {name.partition(".")[0] for name in closure} == {"retable", "helperlib"}


@pytest.mark.parametrize("name", [name for name in PAPER if name.endswith(".py")])
def test_an_edit_of_any_of_its_files_is_another_code(seen, extra, name):
    path = extra / name
    before = seen()
    path.write_text(f"# a comment\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    assert seen() == before
    path.write_text(f"{path.read_text(encoding='utf-8')}\nMORE = 1\n", encoding="utf-8")
    assert (seen() == before) == name.endswith("unused.py")


def test_dots_are_resolved_from_modules_and_from_packages(seen, extra):
    module = extra / "papers" / "spread" / "parts" / "constants.py"
    module.write_text("from .. import losses\nfrom ...spread.extras import *\nSMOOTHING = 0.1\n")
    (extra / "papers" / "spread" / "extras.py").write_text("X = 1\n")
    package = extra / "helpers" / "helperlib" / "__init__.py"
    package.write_text("from .sub.inner import thing as other\n")
    (extra / "helpers" / "helperlib" / "sub").mkdir()  # a package without a file
    (extra / "helpers" / "helperlib" / "sub" / "inner.py").write_text("thing = 1\n")
    assert set(seen(modules_of)) >= {"retable.papers.spread.extras", "helperlib.sub.inner"}


def test_what_a_star_imports_by_all_is_followed(seen, extra):
    module = extra / "papers" / "spread" / "losses.py"
    package = extra / "papers" / "spread" / "stars"
    package.mkdir()
    module.write_text(f"from .stars import *\n{module.read_text()}")
    for name in ("first", "second", "third"):
        (package / f"{name}.py").write_text("X = 1\n")
    for text, wanted in (
        ('__all__ = ["first", "X"]\nX = 1\n', {"first"}),
        ('from . import third\n__all__ = ("second",)\n', {"second", "third"}),
        ("__all__ = [n for n in dir()]\n", set()),  # not known without running it
    ):
        (package / "__init__.py").write_text(text)
        found = {n.rpartition(".")[2] for n in seen(modules_of) if ".stars." in n}
        assert found == wanted, text


def test_a_helper_that_is_one_file_or_compiled_counts(seen, extra):
    helper = extra / "helpers" / "helperlib" / "nets.py"
    helper.write_text(f"import onefile\nimport helperlib.fast\n{helper.read_text()}")
    (extra / "helpers" / "onefile.py").write_text("X = 1\n")
    suffix = import_closure.EXTENSION_SUFFIXES[0]
    compiled = extra / "helpers" / "helperlib" / f"fast{suffix}"
    compiled.write_bytes(b"\x7fELF 1")
    before = seen()
    assert set(modules_of(TARGETS)) >= {"onefile", "helperlib.fast"}
    compiled.write_bytes(b"\x7fELF 2")
    assert seen() != before


@pytest.mark.parametrize("folder", ["site-packages", "python/target"])
def test_what_is_installed_is_provenance(seen, extra, monkeypatch, folder):
    """Also with ``pip install --target``, as the modules of clusters have it."""
    installed = extra / folder
    shutil.copytree(extra / "helpers", installed)
    shutil.rmtree(extra / "helpers")
    monkeypatch.syspath_prepend(installed)
    assert ("helperlib" in seen(modules_of)) == (folder != "site-packages")
    (installed / "helperlib-1.0.dist-info").mkdir()
    assert "helperlib" not in seen(modules_of)


def test_an_editable_installation_is_the_users_own(extra, tmp_path):
    """By a real one, as ``pip install -e`` makes it: a ``.pth`` file in the environment."""
    site = tmp_path / "env" / "site-packages"
    site.mkdir(parents=True)
    (site / "helperlib-1.0.dist-info").mkdir()
    (site / "_helperlib.pth").write_text(f"{extra / 'helpers'}\n")
    code = (
        "import site, sys; site.addsitedir(sys.argv[1]);"
        "from retable.runs.identity import modules_of; print(*modules_of(sys.argv[2:]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(site), *TARGETS],
        env={**os.environ, "RETABLE_EXTRA": str(extra)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) >= OWN


def test_a_snapshot_holds_the_helpers_whole(seen, extra, runs):
    (extra / "helpers" / "onefile.py").write_text("X = 1\n")
    (extra / "helpers" / "spaces" / "inner").mkdir(parents=True)
    (extra / "helpers" / "spaces" / "beside.py").write_text("X = 1\n")
    (extra / "helpers" / "spaces" / "huge.bin").write_bytes(b"0")
    (extra / "helpers" / "spaces" / "inner" / "__init__.py").write_text("X = 1\n")
    path = extra / "papers" / "spread" / "losses.py"
    path.write_text(f"import onefile, spaces.beside, spaces.inner\n{path.read_text()}")
    forget()
    first = snapshot.make(runs, TARGETS)
    outside = {p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file()}
    outside = {n for n in outside if not n.startswith(("retable/", snapshot.EXTRA))}
    package = {n.removeprefix("helpers/") for n in PAPER if n.startswith("helpers/")}
    assert outside == {*package, "onefile.py", "spaces/beside.py", "spaces/inner/__init__.py"}
    assert (first / snapshot.EXTRA / "papers" / "spread" / "parts" / "constants.py").is_file()
    assert snapshot.make(runs, TARGETS) == first
    (extra / "helpers" / "helperlib" / "weights.json").write_text('{"a": 1}')
    assert snapshot.make(runs, TARGETS) != first


@pytest.mark.slow
def test_a_spread_paper_runs_from_its_snapshot_and_an_edit_of_the_helper_is_seen(
    retable, extra, runs, tmp_path
):
    env = {"RETABLE_EXTRA": extra, "PYTHONPATH": extra / "helpers"}
    # A folder one happens to work in is no part of what is imported.
    (tmp_path / "cwd" / "helperlib").mkdir(parents=True)
    (tmp_path / "cwd" / "helperlib" / "__init__.py").write_text("raise SystemExit('from here')")
    train = ("train", "experiment=spread/smoke", "launcher.snapshot=true")

    def record(seed):
        retable(*train, f"seed={seed}", cwd=tmp_path / "cwd", **env)
        found = [records.read(path) for path in runs.glob("spread/*/record.json")]
        return next(r for r in found if r.seed == seed)

    first = record(0)
    [copy] = (runs / "_snapshots").iterdir()
    code = "import helperlib, retable.runs.identity as i, sys;"
    code += "print(helperlib.__file__, i.fingerprint(sys.argv[1:]))"
    targets = sorted(identity.targets_of(first.config))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *targets],
        env={**os.environ, "PYTHONPATH": str(copy), "RETABLE_EXTRA": str(copy / snapshot.EXTRA)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(copy / "helperlib" / "__init__.py"), first.fingerprint]
    helper = extra / "helpers" / "helperlib" / "defaults.py"
    helper.write_text("FACTOR = 3\n")
    second = record(1)
    assert second.fingerprint != first.fingerprint
    found = retable("summarize", "spread/smoke", "--json", **env)
    assert sum(group["stale"] for group in json.loads(found.stdout)["groups"]) == 1
    assert len(list((runs / "_snapshots").iterdir())) == 2


EVERYWHERE = """
import a
def f(one=lambda: 0):
    import b
    async def g():
        async with x: from c import y
        async for _ in z: import d
class C:
    import e
if x: import f0
elif y: import g
else: import h
for _ in x: import i
else: import j
while x: import k
else: import l
with x: import m
try: import n
except E: import o
else: import p
finally: import q
try: import r
except* E: import s
match x:
    case 1: import t
    case _:
        if y:
            import u
"""


def test_imports_are_found_wherever_a_statement_may_stand():
    files = ROOT.joinpath("src").rglob("*.py")
    for text in [EVERYWHERE, *(file.read_text(encoding="utf-8") for file in files)]:
        tree = ast.parse(text)
        kinds = (ast.Import, ast.ImportFrom)
        wanted = {id(node) for node in ast.walk(tree) if isinstance(node, kinds)}
        found = [id(n) for n in import_closure._statements(tree.body) if isinstance(n, kinds)]
        assert sorted(found) == sorted(wanted)
