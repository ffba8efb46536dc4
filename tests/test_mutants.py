"""The list of deliberate faults stays true; `make mutants` applies them."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
sys.path.insert(0, str(ROOT / "scripts"))
mutants = importlib.util.module_from_spec(SPEC)
sys.modules["mutants"] = mutants
SPEC.loader.exec_module(mutants)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: m.name)
def test_every_fault_can_be_made_and_its_test_exists(mutant, tmp_path):
    target = tmp_path / mutant.file
    target.parent.mkdir(parents=True)
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    target.write_text(text, encoding="utf-8")
    mutants.apply(mutant, tmp_path)
    assert ast.dump(ast.parse(target.read_text())) != ast.dump(ast.parse(text))
    file, name = mutant.test.split("[")[0].split("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_fault_whose_place_is_gone_is_said_so(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    lost = mutants.Mutant("lost", "a.py", (("x = 2", "x = 3"),), "tests/test_a.py::test_a")
    with pytest.raises(ValueError, match="lost: stands 0 times"):
        mutants.apply(lost, tmp_path)


@pytest.mark.parametrize(
    ("output", "how"),
    [
        ("E   assert 1 == 2\n1 failed in 2s", "assert 1 == 2"),
        ("1 passed in 2s", None),
        ("E   SyntaxError\n1 error in 1s", None),
        ("E   x\n1 failed, 1 error in 1s", None),
    ],
)
def test_only_a_failed_test_has_caught_a_fault(output, how):
    assert mutants.caught(output) == how
