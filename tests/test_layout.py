"""The rules of the house: who may import whom, what belongs to a paper, how long a file is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from retable.admin import paper_names

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "retable"
PAPERS = sorted(
    p.name for p in (SOURCE / "papers").iterdir() if p.is_dir() and p.name != "__pycache__"
)
MAX_LINES = 350
MAX_TYPE_IGNORES = 8


# Each imports from itself and from those before it.
LAYERS = (
    "util", "config", "training", "runs", "tracking", "launch", "tables", "report", "monitor",
    "wandb_tools", "admin", "cli",
)  # fmt: skip
WITH_TRAINING = {"data", "nets", "papers"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("retable.")}


def layer(name: str) -> str:
    return "training" if name in WITH_TRAINING else name


def test_every_import_leads_to_its_own_or_an_earlier_layer():
    """Imports within functions and those for types alone included; prints the graph."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for path in SOURCE.glob("*/**/*.py"):
        inside = path.relative_to(SOURCE)
        for name in imports(path):
            arrow = layer(inside.parts[0]), layer(name.split(".")[1])
            arrows.setdefault(arrow, []).append(f"{inside} imports {name}")
    order = LAYERS.index
    for here in LAYERS:
        there = sorted({b for a, b in arrows if a == here != b} - {"__version__"}, key=order)
        print(f"{here:>12} -> {' '.join(there)}")
    for (here, there), found in arrows.items():
        backwards = there in LAYERS and order(there) > order(here)
        assert not backwards, found
        assert {here, there} != {"launch", "tables"}, found  # cli joins them
        # All that training reaches is in the fingerprint: the schema of configs is to stay outside.
        assert here != "training" or there in {"training", "util"}, found


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_imports_its_own_and_shared_parts_only(paper):
    allowed = (
        f"retable.papers.{paper}.",
        "retable.papers.base.",
        "retable.data.",
        "retable.nets.",
        "retable.training.data_parallel.",
        "retable.training.seeds.",
        "retable.util.errors.",
    )
    for path in (SOURCE / "papers" / paper).rglob("*.py"):
        for name in imports(path):
            assert f"{name}.".startswith(allowed), f"{path.name} imports {name}"


def test_the_harness_names_no_paper():
    """Docstrings and the help's examples may name one; code may not."""
    for path in paper_names.harness():
        for line, word in paper_names.words(path.read_text(encoding="utf-8")):
            assert word not in PAPERS, f"{path.name}, line {line} names {word}"
        for name in imports(path):
            parts = name.split(".")
            assert not (parts[1] == "papers" and parts[2] in PAPERS), f"{path.name}: {name}"


def test_a_network_imports_no_paper_and_importing_one_imports_no_other():
    """What papers share must not make one paper's records stale by another's change."""
    assert len(ast.parse((SOURCE / "nets" / "__init__.py").read_text()).body) == 1
    for path in (SOURCE / "nets").glob("*.py"):
        for name in imports(path):
            assert name.startswith(("retable.nets.", "retable.training.data_parallel")), name


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_has_every_file_that_adding_one_touches(paper):
    for path in (
        f"src/retable/papers/{paper}/__init__.py",
        f"src/retable/papers/{paper}/README.md",
        f"src/retable/papers/{paper}/paper.yaml",
        f"conf/experiment/{paper}",
        f"conf/table/{paper}",
        f"tests/papers/test_{paper}.py",
        f"results/{paper}",
    ):
        assert (ROOT / path).exists(), f"{path} is missing"
    named = re.compile(rf"_target_: (retable\.papers\.{paper}\.\w+)\.\w+[,}}\n]")
    configs = (ROOT / "conf" / "experiment" / paper).glob("*.yaml")
    modules = {name for file in configs for name in named.findall(file.read_text(encoding="utf-8"))}
    assert modules, "no experiment builds a class of the paper"
    for name in modules:
        assert (ROOT / "src" / f"{name.replace('.', '/')}.py").exists(), name
    assert paper in (ROOT / "README.md").read_text(encoding="utf-8")
    assert list((ROOT / "conf" / "experiment" / paper).glob("*smoke*.yaml")), "no smoke experiment"


def test_the_list_in_contributing_is_the_one_tested_here():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for part in (
        "src/retable/papers/<paper>/",
        "conf/experiment/<paper>/",
        "conf/table/<paper>/",
        "tests/papers/test_<paper>.py",
        "results/<paper>/",
    ):
        assert part in text


def test_files_stay_short():
    for folder in ("src", "tests", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines"


def test_few_type_ignores():
    text = "\n".join(p.read_text(encoding="utf-8") for p in SOURCE.rglob("*.py"))
    found = re.findall(r"# (?:type: ignore|pyright: ignore)", text)
    assert len(found) <= MAX_TYPE_IGNORES, f"{len(found)} ignores"


def test_every_version_bound_has_a_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    for line in block.splitlines():
        if "<" in line:
            assert "#" in line, line


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; sys.argv = ['retable', '--version']\n"
        "from retable.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'pydantic', 'polars', 'numpy', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_map_is_right():
    """ARCHITECTURE.md names every layer and room, and only files that are there."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text[text.index("## Layers") : text.index("## The life of a run")]
    first = re.findall(r"^\| (`[^|]*) \|", table, re.M)
    assert [re.findall(r"`(\w+)`", cell)[0] for cell in first] == list(LAYERS)
    folders = {p.name for p in SOURCE.iterdir() if (p / "__init__.py").is_file()}
    assert folders == {*LAYERS, *WITH_TRAINING}
    assert all(f"`{name}`" in table for name in folders)
    named = re.findall(r"`((?:src|conf|slurm|tests|docs)/[\w./-]+)`", text)
    named += re.findall(r"\]\(([\w./-]+)\)", text)
    assert named
    for name in named:
        assert (ROOT / name).exists(), name
    for path in re.findall(r"[`\"]([a-z_]+/[a-z_/.]+)[`\"]", text):
        module = path.partition(".")[0] + ".py"  # a function may stand behind it
        places = ROOT / path, SOURCE / path, ROOT / module, SOURCE / module
        assert any(place.exists() for place in places), path


def test_every_decision_is_listed():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d\d-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(p.name for p in folder.glob("[0-9]*.md"))
