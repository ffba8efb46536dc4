"""Keys, fingerprints and seeds: what changes them, what may not, and the keys of what is shipped.

New settings are added to the golden file by  python tests/runs/test_identity.py --write , which
refuses to change or drop a line: published records have those keys.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.config.schema import REQUIRED, RunConfig, is_keyed, neutral_of, sections
from retable.runs import identity
from retable.runs.identity import derive_seed, fingerprint, modules_of, run_key
from retable.tables import spec

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden_keys.json"
TARGETS = ["retable.papers.digits.data.Digits", "retable.papers.digits.module.Perceptron"]


def own(group: str) -> list[str]:
    """Names of the project's own configs, without those of the tests' papers."""
    base = ROOT / "conf" / group
    return sorted(p.relative_to(base).with_suffix("").as_posix() for p in base.rglob("*.yaml"))


def neutral_values() -> dict[str, object]:
    """What is left out of a key, by keyed field."""
    found: dict[str, object] = {}
    for prefix, model in [("", RunConfig), *((f"{n}.", s) for n, s in sections().items())]:
        for name in model.model_fields:
            if is_keyed(model, name) and (value := neutral_of(model, name)) is not REQUIRED:
                found[f"{prefix}{name}"] = value
    del found["trainer"]  # neutral field by field
    return dict(sorted(found.items()))


def shipped_keys() -> dict[str, str]:
    """Key, at seed 0, of every experiment and of every setting that a table shows.

    Composed as for planning, which gives what Hydra alone does: see test_compose_cache.
    """
    settings = {(f"experiment={name}",) for name in own("experiment")}
    for name in own("table"):
        table = spec.load(name)
        for protocol in table.protocols():
            for column_name, column in table.columns.items():
                if column.over_columns is not None:
                    continue  # no runs of its own
                for row_name, row in table.rows.items():
                    experiment = table.experiment(column_name, protocol, row_name)
                    if experiment is not None and row.run:
                        overrides = [*column.overrides, *row.overrides]
                        settings.add((f"experiment={experiment}", *overrides))
    with planning():
        return {
            " ".join(setting).removeprefix("experiment="): run_key(compose([*setting, "seed=0"]))
            for setting in sorted(settings)
        }


Golden = dict[str, dict[str, object]]


def lost(golden: Golden, now: Golden) -> list[str]:
    """Lines of the golden file that are not as they were: records with those keys are orphaned."""
    return [
        f"{part}: {name}"
        for part in golden
        for name, value in golden[part].items()
        if name not in now[part] or now[part][name] != value
    ]


def write(now: Golden, file: Path = GOLDEN) -> str:
    """Add lines to the golden file; refuses to change or drop one."""
    golden = json.loads(file.read_text(encoding="utf-8"))
    if orphaned := lost(golden, now):
        more = f" and {len(orphaned) - 5} more" if len(orphaned) > 5 else ""
        sys.exit(
            f"{file.name}: not written, {len(orphaned)} lines would change or go"
            f" ({'; '.join(orphaned[:5])}{more}). Published records have these keys and settings:"
            " give a changed default its neutral value (retable.config.schema.keyed); a line of"
            " a setting that is meant to go is deleted by hand."
        )
    added = sum(len(now[part]) - len(golden[part]) for part in golden)
    file.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    return f"{file.name}: {added} lines added, {sum(map(len, now.values()))} in all"


def test_keys_of_everything_shipped_are_the_golden_ones(cached_once):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    now = {"neutral": neutral_values(), "keys": shipped_keys()}
    assert not (changed := lost(golden, now)), f"records would be orphaned: {changed[:5]} ..."
    assert not lost(now, golden), "python tests/runs/test_identity.py --write adds the new lines"


def test_the_golden_file_grows_and_never_forgets(tmp_path):
    file = tmp_path / "golden.json"
    first = {"neutral": {"trainer.precision": "32-true"}, "keys": {"a": "1", "b": None}}
    file.write_text(json.dumps(first))
    text = file.read_bytes()
    for wrong in (
        {"neutral": {"trainer.precision": "16-mixed"}, "keys": {"a": "1", "b": None}},
        {"neutral": {"trainer.precision": "32-true"}, "keys": {"a": "2", "b": None}},
        {"neutral": {"trainer.precision": "32-true"}, "keys": {"a": "1"}},
        {"neutral": {}, "keys": {"a": "1", "b": None, "c": "3"}},
    ):
        with pytest.raises(SystemExit, match=r"not written, 1 lines would change or go \(\w+: "):
            write(wrong, file)
        assert file.read_bytes() == text
    more = {"neutral": first["neutral"], "keys": {"a": "1", "b": None, "c": "3"}}
    assert write(more, file) == "golden.json: 1 lines added, 4 in all"
    assert json.loads(file.read_text()) == more


def test_golden_file_is_not_trivial():
    keys = json.loads(GOLDEN.read_text(encoding="utf-8"))["keys"]
    assert len(keys) > 20
    assert all(len(key) == 64 for key in keys.values())


# Seeds.


def test_derived_seeds_are_pinned():
    assert derive_seed(0, "split") == 7772336680810930688
    assert derive_seed(1, "split") == 5582649661292942576
    assert derive_seed(0, "order", 3) == 6782676000726402274


def test_derived_seeds_differ_by_seed_and_axis_and_fit_every_generator():
    axes = [("init",), ("order", 0), ("order", 1), ("order", "1"), ("item", 0, 1), ("item", 1, 0)]
    seeds = [derive_seed(s, *axis) for s in (0, 1, 2**62) for axis in axes]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


# Fingerprint: the import closure.


def test_closure_holds_what_computes_and_nothing_that_describes():
    closure = modules_of(TARGETS)
    assert {
        "retable.training.execute",
        "retable.training.checkpointing",
        "retable.training.seeds",
        "retable.papers.base",
        "retable.data.base",
        "retable.papers.digits.data",
        "retable.papers.digits.module",
    } <= set(closure)
    outside = ("cli", "launch", "tables", "report", "config", "compose", "records", "doctor",
               "targets", "static", "identity", "errors", "locations", "provenance")  # fmt: skip
    for module in closure:
        assert module.split(".")[1] not in outside, module


def test_fingerprint_does_not_depend_on_the_order_of_targets():
    assert fingerprint(TARGETS) == fingerprint([*reversed(TARGETS), TARGETS[0]])
    assert fingerprint(TARGETS) != fingerprint(["retable.papers.risk_parity.module.RiskParity"])


def plain(source: str) -> str:
    return identity._plain(ast.parse(source))


SOURCE = '''
def f(x: int, *, y=1.0):
    """Doc."""
    return x + y
'''


@pytest.mark.parametrize(
    "same",
    [
        SOURCE.replace('    """Doc."""\n', ""),
        SOURCE.replace("Doc.", "Another text."),
        "# comment\n" + SOURCE,
        SOURCE.replace("x + y", "(x\n        +  y)  # why"),
        SOURCE.replace("1.0", "1.00"),
        '"""Module."""\n' + SOURCE,
    ],
)
def test_fingerprint_ignores_comments_docstrings_and_layout(same):
    assert plain(same) == plain(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("x + y", "x - y"), ("1.0", "1"), ("x: int", "x: float"), ("def f", "def g"),
     ("x + y", "y + x"), ("return x", "return -x"), ("*, y", "y")],
)  # fmt: skip
def test_fingerprint_sees_code(old, new):
    assert plain(SOURCE.replace(old, new)) != plain(SOURCE)


def test_plain_tree_is_pinned_so_that_every_python_agrees():
    # `type_params` and the like are fields of newer Pythons; empty ones must not show.
    assert plain("def f(x: int = 1) -> int:\n    return x\n") == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x',"
        "annotation=Name(id='int'))],defaults=[Constant(value=1)]),"
        "body=[Return(value=Name(id='x'))],returns=Name(id='int'))])"
    )
    assert plain("class A:\n    x: int\n") == (
        "Module(body=[ClassDef(name='A',body=[AnnAssign(target=Name(id='x'),"
        "annotation=Name(id='int'),simple=1)])])"
    )


def test_fingerprint_follows_the_file(tmp_path):
    """Edits of a copy of the tests' paper, each seen by a fresh process."""
    import os
    import shutil

    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    module = extra / "papers" / "digits" / "module.py"
    code = (
        "import sys\nfrom retable.runs.identity import fingerprint\n"
        f"print(fingerprint({TARGETS!r}), 'torch' in sys.modules)"
    )

    def now() -> str:
        env = {**os.environ, "RETABLE_EXTRA": str(extra)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        value, torch_loaded = done.stdout.split()
        assert torch_loaded == "False"
        return value

    text = module.read_text(encoding="utf-8")
    before = now()
    assert before == fingerprint(TARGETS)
    module.write_text(f"# a comment\n{text}", encoding="utf-8")
    assert now() == before
    module.write_text(text.replace("nn.ReLU()", "nn.Tanh()"), encoding="utf-8")
    assert now() != before


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    print(write({"neutral": neutral_values(), "keys": shipped_keys()}))
