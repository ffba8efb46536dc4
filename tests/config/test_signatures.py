"""Signatures from source files agree with those of the imported objects."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from retable.config import signatures, source_files
from retable.util.errors import UserError

COMPARED = (
    "torch.nn.Linear",
    "torch.nn.Conv2d",
    "torch.nn.Dropout",
    "torch.nn.CrossEntropyLoss",
    "torch.optim.SGD",
    "torch.optim.AdamW",
    "torch.optim.lr_scheduler.StepLR",
    "torch.optim.lr_scheduler.ReduceLROnPlateau",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "pytorch_lightning.callbacks.EarlyStopping",
    "retable.papers.digits.module.Perceptron",
    "retable.papers.risk_parity.data.RandomCorrelation",
)


def signature(name: str) -> signatures.Signature:
    module, _, last = name.rpartition(".")
    found = signatures.find(module, last)
    assert found is not None, name
    return signatures.signature(found)


@pytest.fixture(scope="module")
def inspected() -> dict[str, dict[str, bool]]:
    """Parameters by name, and whether each is required, as the imported objects have them."""
    names = [*COMPARED, "torchvision.models.resnet._resnet", "torchvision.models.ResNet",
             "torchmetrics.classification.MulticlassAccuracy"]  # fmt: skip
    code = (
        "import importlib, inspect, json, sys\nout = {}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    module, _, last = name.rpartition('.')\n"
        "    of = inspect.signature(getattr(importlib.import_module(module), last)).parameters\n"
        "    named = [p for p in of.values() if p.kind != p.VAR_KEYWORD]\n"
        "    out[name] = {p.name: p.default is p.empty for p in named}\n"
        "print(json.dumps(out))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(names)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_names_and_requirements_are_those_of_the_objects(inspected):
    for name in COMPARED:
        found = signature(name)
        assert {p.name: p.required for p in found.parameters.values()} == inspected[name], name
        assert not found.takes_any, name


@pytest.mark.slow
def test_kwargs_are_followed_to_what_they_are_handed_to(inspected):
    found = signature("torchvision.models.resnet18")
    network = set(inspected["torchvision.models.ResNet"]) - {"block", "layers"}
    assert set(found.parameters) == network | {"weights", "progress"}
    assert not found.takes_any
    # The Metric base takes options out of its **kwargs, so anything may be given.
    accuracy = signature("torchmetrics.classification.MulticlassAccuracy")
    assert set(inspected["torchmetrics.classification.MulticlassAccuracy"]) <= set(
        accuracy.parameters
    )
    assert accuracy.takes_any
    # Made by __new__, and what the subclass gives to super().__init__ itself is no argument.
    assert signature("torchmetrics.Accuracy").parameters["task"].required
    assert set(signature("torchmetrics.MeanMetric").parameters) == {"nan_strategy"}


def _forget():
    for known in (
        source_files.module_file,
        source_files.module_tree,
        signatures.find,
        signatures.signature,
        signatures._choices,
    ):
        known.cache_clear()
    signatures.derives_from.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``made`` with the given modules, found by its sources only."""
    _forget()
    folder = tmp_path / "made"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**modules: str) -> None:
        for name, source in {"__init__": "", **modules}.items():
            (folder / f"{name}.py").write_text(source, encoding="utf-8")

    yield make
    _forget()


def test_reexports_relative_imports_stars_aliases_and_conditions(package):
    package(
        __init__="from .a import *\nfrom . import b\nfrom made.b import Two as Deux\n",
        a="from made.c import Three\nclass One:\n    pass\n",
        b="try:\n    from .c import Three as Two\nexcept ImportError:\n    Two = None\n",
        c="import sys\nif sys.version_info > (3,):\n    class Three:\n        z = 1\n",
    )
    assert signatures.find("made", "One").module == "made.a"
    for name in ("Three", "Deux"):
        found = signatures.find("made", name)
        assert (found.module, found.node.name) == ("made.c", "Three")
    assert signatures.find("made", "sys") is None
    assert signatures.find("made.c", "sys") is None
    assert signatures.find("made", "Nothing") is None
    assert "made" not in sys.modules


def test_circular_imports_and_bases_end(package):
    package(a="from made.b import X\n", b="from made.a import X\n", c="class A(A):\n    pass\n")
    assert signatures.find("made.a", "X") is None
    assert signatures.signature(signatures.find("made.c", "A")).parameters == {}


def test_inheritance_and_dataclasses(package):
    package(
        base="class Base:\n    def __init__(self, a, *, b: int = 1, **kwargs):\n        pass\n",
        sub="from made import base\nimport made.base as other\n"
        "from dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "class Plain(base.Base):\n    pass\n"
        "class More(other.Base):\n    def __init__(self, c, **kwargs):\n"
        "        super().__init__(1, **kwargs)\n"
        "@dataclass(frozen=True)\nclass Data:\n    x: int\n    y: float = 1.0\n"
        "    z: list = field(default_factory=list)\n    w: int = field(init=False)\n"
        "    k: ClassVar[int] = 3\n    r: int = field(repr=False)\n"
        "@dataclass\nclass Child(Data):\n    q: int = 0\n",
    )
    plain, more = signature("made.sub.Plain"), signature("made.sub.More")
    assert set(plain.parameters) == {"a", "b"}
    assert plain.takes_any
    assert set(more.parameters) == {"c", "b"}  # `a` is given by the class itself
    data = signature("made.sub.Data")
    assert {p.name: p.required for p in data.parameters.values()} == {
        "x": True, "y": False, "z": False, "r": True
    }  # fmt: skip
    assert set(signature("made.sub.Child").parameters) == {"x", "y", "z", "r", "q"}
    assert ast.unparse(data.parameters["y"].annotation) == "float"
    child = signatures.find("made.sub", "Child")
    assert signatures.derives_from(child, "made.sub.Data")
    assert signatures.derives_from(signatures.find("made.sub", "More"), "made.base.Base")
    assert not signatures.derives_from(child, "made.base.Base")


def test_a_name_for_some_choices_is_followed_to_them(package):
    package(
        kinds="from typing import Literal\nKind = Literal['a', 'b']\nSize = int\nLoop = Loop\n",
        again="from made.kinds import Kind as Sort, Size\n",
        users="from dataclasses import dataclass\nfrom .again import Sort, Size\n"
        "def f(kind: Sort | None, size: Size, name: str, plain, *, more: list[Sort] = ()):\n"
        "    pass\n"
        "@dataclass\nclass Data:\n    kind: Sort\n",
        a="from made.b import X\n",
        b="from made.a import X\ndef g(x: X):\n    pass\n",
    )
    found = signature("made.users.f").parameters
    spelt = {p.name: p.annotation and ast.unparse(p.annotation) for p in found.values()}
    assert spelt == {
        "kind": "Literal['a', 'b'] | None", "size": "Size", "name": "str", "plain": None,
        "more": "list[Literal['a', 'b']]",
    }  # fmt: skip
    kind = signature("made.users.Data").parameters["kind"].annotation
    assert ast.unparse(kind) == "Literal['a', 'b']"
    assert ast.unparse(signature("made.b.g").parameters["x"].annotation) == "X"


@pytest.mark.parametrize("module", ["", ".", "torch..nn", "torch.nn./etc", "..", "nothing.here"])
def test_odd_module_names_are_no_modules(module):
    assert source_files.module_file(module) is None


def test_torch_is_not_imported_to_check_a_config():
    code = (
        "import sys\nfrom retable.config.compose import compose, hydra_ready\n"
        "with hydra_ready():\n    compose(['experiment=digits/base', 'seed=0'])\n"
        "print(sorted({'torch', 'pytorch_lightning', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_that_is_no_python_is_named(tmp_path, monkeypatch):
    (tmp_path / "brokenlib.py").write_text("x = 1\nif x\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"brokenlib.py, line 2: cannot be parsed \(expected ':'\)"):
        source_files.module_tree("brokenlib")
