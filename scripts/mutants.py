"""Small deliberate faults, one at a time: each has to be caught by the test that is named for it.

    python scripts/mutants.py             # all of them
    python scripts/mutants.py lease       # those whose name contains a word

Works on a copy: source, tests and configs are copied to a temporary folder, where each fault is
applied by itself. The named test has to pass without the fault, and fail (not err) with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mutants_training import ENTRIES

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "tests", "conf", "results", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        name: what is wrong, in words.
        file: source file, from the project's root.
        edits: pairs of present text, which stands there once, and faulty text.
        test: the test that catches it.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    test: str


MUTANTS = [
    Mutant(
        "seed dropped from the key",
        "src/retable/config/schema.py",
        (("is_keyed(model, name)]", 'is_keyed(model, name) and name != "seed"]'),),
        "tests/config/test_schema.py::test_keyed_fields_change_the_key_and_unkeyed_do_not[seed]",
    ),
    Mutant(
        "a keyed field made unkeyed",
        "src/retable/config/schema.py",
        (
            (
                "accumulate_grad_batches: PositiveInt = keyed(",
                "accumulate_grad_batches: PositiveInt = unkeyed(",
            ),
        ),
        "tests/config/test_schema.py::test_what_is_keyed_is_pinned",
    ),
    Mutant(
        "a record confirmed within a tolerance",
        "src/retable/launch/refresh.py",
        (
            (
                "elif old.substance() != new.substance():",
                'elif compare(old, new).kind == "different":',
            ),
        ),
        "tests/launch/test_code_comparison.py::test_bits_that_differ_confirm_nothing_though_they_are_the_record_s",
    ),
    Mutant(
        "a record confirmed by a commit that is not its code",
        "src/retable/launch/code_comparison.py",
        ((") != record.computed_by:", ') == "none":'),),
        "tests/launch/test_code_comparison.py::test_a_commit_that_is_not_the_record_s_code_confirms_nothing",
    ),
    Mutant(
        "relative imports not in the fingerprint",
        "src/retable/runs/import_closure.py",
        (("base = source_files.absolute(module, node)", 'base = node.module or ""'),),
        "tests/runs/test_import_closure.py::test_the_closure_holds_every_own_module_and_no_other",
    ),
    Mutant(
        "optimiser state not restored",
        "src/retable/training/checkpointing.py",
        (
            (
                '        _close_epoch(content["loops"]["fit_loop"])\n',
                '        _close_epoch(content["loops"]["fit_loop"])\n'
                '        for state in content["optimizer_states"]:\n'
                '            state["state"] = {}\n',
            ),
        ),
        "tests/training/test_checkpointing.py::test_resuming_changes_no_bit[momentum]",
    ),
    Mutant(
        "sampler epoch off by one",
        "src/retable/data/base.py",
        (
            (
                "sampler.set_epoch(epoch_of(self.trainer))",
                "sampler.set_epoch(max(0, epoch_of(self.trainer) - 1))",
            ),
        ),
        "tests/training/test_checkpointing.py::test_resuming_with_loading_processes_changes_no_bit[workers]",
    ),
    Mutant(
        "plateau step lost",
        "src/retable/papers/base.py",
        (
            (
                '            checkpoint["retable_schedule"] = state',
                '            checkpoint["retable_schedule"] = {}',
            ),
        ),
        "tests/training/test_checkpointing.py::test_resuming_changes_no_bit[plateau_best]",
    ),
    Mutant(
        "missing seed treated as absent",
        "src/retable/tables/aggregate.py",
        (("                len(grid.cell_seeds(plan)),\n", "                len(values),\n"),),
        "tests/tables/test_aggregate.py::test_partial",
    ),
    Mutant(
        "ddof 0",
        "src/retable/tables/aggregate.py",
        (("array.std(ddof=1)", "array.std(ddof=0)"),),
        "tests/tables/test_aggregate.py::test_mean_std_n_and_per_cent",
    ),
    Mutant(
        "lease ignored",
        "src/retable/runs/lease.py",
        (
            (
                "            if dead is False:\n                return None\n",
                "            dead = True\n",
            ),
        ),
        "tests/launch/test_worker_refusals.py::test_held_by_another",
    ),
    Mutant(
        "stale not marked",
        "src/retable/tables/aggregate.py",
        (('        marks.append("stale")\n', "        pass\n"),),
        "tests/tables/test_aggregate.py::test_marks_of_code_devices_and_grades",
    ),
    Mutant(
        "record written before the history",
        "src/retable/launch/worker.py",
        (
            (
                "        records.write_atomic(history, history_text(rows))\n",
                "        pass\n",
            ),
            ("        records.write_atomic(history, text)\n", "        pass\n"),
        ),
        "tests/launch/test_worker.py::test_the_history_is_whole_before_the_record_is_written",
    ),
    Mutant(
        "diverged filling a cell",
        "src/retable/runs/record_set.py",
        (("        done = self.done(numbers)\n", "        done = numbers >= 0\n"),),
        "tests/tables/test_aggregate.py::test_only_done_fills_a_cell",
    ),
    Mutant(
        "selection by a test metric",
        "src/retable/tables/select.py",
        (
            (
                "return self.by, None, None",
                'return self.by.replace("val/", "test/"), "", None',
            ),
        ),
        "tests/tables/test_select.py::test_the_test_split_has_no_say",
    ),
    Mutant(
        "binary weights not clipped after the step",
        "src/retable/papers/binary_connect/module.py",
        (("            layer.clip()\n", "            pass\n"),),
        "tests/papers/binary_connect/test_bc_training.py"
        "::test_a_weight_at_its_bound_is_kept_by_the_clip_and_not_frozen",
    ),
    Mutant(
        "statistics of the training weights used for those of evaluation",
        "src/retable/papers/binary_connect/module.py",
        (
            (
                "    network.eval()\n    for norm in norms(network):\n",
                "    network.train()\n    for norm in norms(network):\n",
            ),
        ),
        "tests/papers/binary_connect/test_bc_norm.py"
        "::test_recomputing_draws_nothing_and_leaves_weights_and_averages_alone",
    ),
    Mutant(
        "cached images taken without a look at their checksum",
        "src/retable/data/image_cache.py",
        (
            (
                "    if arrays is None or checksum(arrays) != sha256:\n",
                "    if arrays is None:\n",
            ),
        ),
        "tests/data/test_image_cache.py"
        "::test_a_damaged_cache_file_is_refused_and_made_again_once_deleted",
    ),
    Mutant(
        "order of training images the same in every epoch",
        "src/retable/data/tensor_loader.py",
        (("        epoch = self.epoch()\n", "        epoch = 0\n"),),
        "tests/data/test_tensor_loader.py::test_the_order_is_a_function_of_seed_and_epoch_alone",
    ),
    Mutant(
        "better and worse swapped",
        "src/retable/tables/verdicts/cell.py",
        (('return "better" if (d < 0)', 'return "better" if (d > 0)'),),
        "tests/tables/verdicts/test_cell_verdicts.py::test_better_and_worse_follow_the_direction",
    ),
    Mutant(
        "standard error read as a standard deviation",
        "src/retable/tables/verdicts/reported.py",
        (("return x * math.sqrt(n) * unbiased", "return x * unbiased"),),
        "tests/tables/verdicts/test_reported.py::test_spreads_become_standard_deviations",
    ),
    Mutant(
        "what the printed digits hide forgotten",
        "src/retable/tables/verdicts/cell.py",
        (("df) * se + reading.h", "df) * se"),),
        "tests/tables/verdicts/test_cell.py::test_welch",
    ),
    Mutant(
        "one-sided where two-sided is meant",
        "src/retable/tables/verdicts/cell.py",
        (("t_quantile((1 + level) / 2, df)", "t_quantile(level, df)"),),
        "tests/tables/verdicts/test_cell.py::test_no_reported_spread",
    ),
    Mutant(
        "Holm's correction skipped",
        "src/retable/tables/verdicts/multiplicity.py",
        (("ps[place] * (len(ps) - rank)", "ps[place]"),),
        "tests/tables/verdicts/test_multiplicity.py::test_holms_value",
    ),
    Mutant(
        "level of looks not spent but given to each",
        "src/retable/tables/verdicts/power.py",
        (("[total * n / sum(looks) for n in looks]", "[total for _ in looks]"),),
        "tests/tables/verdicts/test_power.py::test_looks_and_what_they_spend",
    ),
    Mutant(
        "secondhand counted as verified",
        "src/retable/tables/verdicts/judge.py",
        (('reported.grade == "primary"', 'reported.grade in {"primary", "secondhand"}'),),
        "tests/tables/verdicts/test_judge.py::test_only_what_the_paper_prints_counts_as_verified",
    ),
    *(Mutant(*entry) for entry in ENTRIES),
]


def copy_project(target: Path) -> None:
    """Copy what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.nb?")
            shutil.copytree(source, target / name, ignore=ignore)
        elif source.exists():
            shutil.copy(source, target / name)


def apply(mutant: Mutant, root: Path) -> None:
    """Make the fault in a copy.

    Raises:
        ValueError: where the text to change does not stand there exactly once.
    """
    path = root / mutant.file
    text = path.read_text(encoding="utf-8")
    for old, new in mutant.edits:
        if text.count(old) != 1:
            raise ValueError(f"{mutant.name}: stands {text.count(old)} times in the file: {old!r}")
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def run_tests(root: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests of a copy, with the copy's source; exit code and output."""
    path = os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def caught(output: str) -> str | None:
    """First line of the failure that caught a fault; None where the test did not fail as such."""
    if not re.search(r"\b\d+ failed\b", output) or re.search(r"\b\d+ errors?\b", output):
        return None
    line = re.search(r"^E\s+(.*)$", output, re.MULTILINE)
    return line[1][:100] if line else ""


def check(mutant: Mutant) -> tuple[bool, str]:
    """Whether the named test catches a fault, and how."""
    with tempfile.TemporaryDirectory(prefix="retable-mutant-") as folder:
        root = Path(folder)
        copy_project(root)
        apply(mutant, root)
        code, output = run_tests(root, [mutant.test])
    how = caught(output) if code == 1 else None
    return (True, how) if how is not None else (False, output[-2000:])


def main() -> int:
    """Check all mutants, or those named."""
    words = sys.argv[1:]
    chosen = [m for m in MUTANTS if not words or any(w in m.name for w in words)]
    if not chosen:
        print(f"no mutant of that name; there are: {', '.join(m.name for m in MUTANTS)}")
        return 2
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="retable-mutant-") as folder:
        copy_project(Path(folder))
        code, output = run_tests(Path(folder), sorted({m.test for m in chosen}))
    if code != 0:
        print(f"without any fault the named tests do not all pass:\n{output[-4000:]}")
        return 1
    print(f"without faults: all named tests pass ({time.monotonic() - begin:.0f} s)", flush=True)
    survived = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for mutant, (is_caught, how) in zip(chosen, pool.map(check, chosen), strict=True):
            survived += not is_caught
            mark = "caught  " if is_caught else "SURVIVED"
            print(f"{mark} {mutant.name}\n         by {mutant.test}\n         {how}", flush=True)
    seconds = time.monotonic() - begin
    print(f"{len(chosen) - survived} of {len(chosen)} caught, {seconds:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
