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


@pytest.mark.parametrize("mutant", mutants.mutants(), ids=lambda m: m.name)
def test_every_fault_can_be_made_and_its_test_exists(mutant, tmp_path):
    file = Path("src", "retable", mutant.file)
    (tmp_path / file).parent.mkdir(parents=True)
    text = (ROOT / file).read_text(encoding="utf-8")
    (tmp_path / file).write_text(text, encoding="utf-8")
    mutant.make(tmp_path)
    assert ast.dump(ast.parse((tmp_path / file).read_text())) != ast.dump(ast.parse(text))
    test, name = mutant.test.split("[")[0].split("::")
    tree = ast.parse((ROOT / "tests" / test).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_two_faults_have_one_name():
    names = [mutant.name for mutant in mutants.mutants()]
    assert len(set(names)) == len(names)


def test_parts_are_all_of_them_once():
    every = mutants.mutants()
    parts = [mutants.chosen_of(every, ["--part", f"{k}/4"]) for k in range(1, 5)]
    assert sorted(m.name for part in parts for m in part) == sorted(m.name for m in every)
    assert mutants.chosen_of(every, [every[3].name]) == [every[3]]
    for wrong in (["0/4"], ["5/4"], ["4"], []):
        with pytest.raises(ValueError, match="expected K/N"):
            mutants.chosen_of(every, ["--part", *wrong])


def test_a_fault_whose_place_is_gone_is_said_so(tmp_path):
    file = tmp_path / "src" / "retable" / "a.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    lost = mutants.Mutant("lost", "a.py", (("x = 2", "x = 3"),), "test_a.py::test_a")
    with pytest.raises(ValueError, match="lost: stands 0 times"):
        lost.make(tmp_path)


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
