"""How the methods' times compare, by version of Python, NumPy and SciPy, on the same matrices.

    python scripts/time_risk_parity.py [--python 3.8=/path/to/python3.8]

The matrices are those of the authors' notebook: 20 of each N, Test 1. The notebook names the Python
that it ran in, 3.8; the authors' own package of that time is timed beside this checkout's literal
code. Each version runs in an environment of its own (`uv run --isolated`). As in the notebook, each
matrix is solved once by each method, one after the other, and the times are summed; all of it
twice, after a warm-up. Run it on a machine that does nothing else. Prints the ratios to the
original descent and writes them to results/risk_parity/measured/times_by_version.json.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from risk_parity_versions import ROOT, interpreters, run_isolated, save_matrices, write_measured

SIZES = (25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 400, 500, 600)
THEIRS = "pyfeng 0.2.0"  # the first release with RiskParity, two months later than the notebook
OURS = "this checkout"
INT8 = "this checkout, signs of int8"  # as theirs; ours are float64
SHOWN, WIDTH = (25, 50, 100, 200, 300, 400, 500, 600), 67
ENVIRONMENTS = (
    # Python, NumPy, SciPy, threads of BLAS, code: one thing at a time is another
    ("3.8", "1.21.2", "1.7.1", 1, THEIRS),
    ("3.8", "1.21.2", "1.7.1", 2, THEIRS),
    ("3.8", "1.21.2", "1.7.1", 1, INT8),
    ("3.8", "1.21.2", "1.7.1", 1, OURS),
    ("3.8", "1.22.4", "1.8.1", 1, THEIRS),
    ("3.8", "1.23.5", "1.9.3", 1, THEIRS),
    ("3.8", "1.24.4", "1.10.1", 1, THEIRS),
    ("3.11", "1.24.4", "1.10.1", 1, THEIRS),
    ("3.11", "1.26.4", "1.13.1", 1, THEIRS),
    ("3.11", "2.4.6", "1.17.1", 1, THEIRS),
    ("3.11", "2.4.6", "1.17.1", 1, OURS),
)
TIME = """
import __future__, json, os, platform, sys, time, types, typing
from importlib.util import find_spec
import numpy as np, scipy

matrices, folder, code = np.load(sys.argv[1]), sys.argv[2], sys.argv[3]

# The files as they stand, without their packages, which import much more; read so that Python 3.8
# can: annotations are not evaluated, and `tuple` in an alias is typing's.
def load(folder, name):
    made = types.ModuleType(name)
    made.tuple = typing.Tuple
    sys.modules[name] = made
    with open(os.path.join(folder, name.rsplit(".")[-1] + ".py")) as file:
        flag = __future__.annotations.compiler_flag
        exec(compile(file.read(), file.name, "exec", flag), made.__dict__)
    return made

if code.startswith("pyfeng"):
    RiskParity = load(find_spec("pyfeng").submodule_search_locations[0], "assetalloc").RiskParity

    def methods(matrix):
        model = RiskParity(cov=matrix)
        return {
            "newton": lambda: model.weight_newton(1e-6),
            "original": lambda: model.weight_ccd_original(1e-6),
            "improved": lambda: model.weight(1e-6),
        }
else:
    literal = load(folder, "retable.papers.risk_parity.literal")
    newton = load(folder, "retable.papers.risk_parity.newton")
    sign = np.int8 if code.endswith("int8") else np.float64

    def methods(matrix):
        n = len(matrix)
        b, s = np.full(n, 1 / n), np.ones(n, dtype=sign)
        return {
            "newton": lambda: newton.newton(matrix, b, 1e-6, 1023, "improved", "hybr"),
            "original": lambda: literal.ccd_original(matrix, b, s, 1e-6, 1023),
            "improved": lambda: literal.ccd_improved(matrix, b, s, 1e-6, 1023, True),
        }

def once(names):
    spent = {"newton": 0.0, "original": 0.0, "improved": 0.0}
    for name in names:
        for method, solve in methods(matrices[name]).items():
            start = time.perf_counter()
            solve()
            spent[method] += 1000 * (time.perf_counter() - start)
    return {method: total / len(names) for method, total in spent.items()}

sizes = {}
for name in matrices.files:
    sizes.setdefault(name.split("-")[0], []).append(name)
once(next(iter(sizes.values())))
times = {size: [once(names), once(names)] for size, names in sizes.items()}
versions = {"numpy": np.__version__, "scipy": scipy.__version__}
print(json.dumps({"python": platform.python_version(), **versions, "ms": times}))
"""


def main() -> None:
    """Time in every environment, print, and write."""
    import numpy as np

    from retable.papers.risk_parity.matrices import NOTEBOOK_MATRICES

    given = interpreters(__doc__.splitlines()[0])
    rows: list[dict[str, object]] = []
    code = str(ROOT / "src" / "retable" / "papers" / "risk_parity")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "matrices.npz")
        save_matrices(file, SIZES)
        print(" " * WIDTH + "".join(f"{f'N = {n}':>9}" for n in SHOWN))
        for python, numpy, scipy, threads, whose in ENVIRONMENTS:
            theirs = [whose.replace(" ", "==")] if whose == THEIRS else []
            found = run_isolated(
                TIME,
                *(str(file), code, whose),
                python=given.get(python, python),
                packages=[f"numpy=={numpy}", f"scipy=={scipy}", *theirs],
                threads=threads,
            )
            assert (found["numpy"], found["scipy"]) == (numpy, scipy)
            times = found.pop("ms")
            row: dict[str, object] = {**found, "threads": threads, "code": whose}
            for method in ("improved", "newton"):
                ratios = {n: [t[method] / t["original"] for t in times[str(n)]] for n in SIZES}
                name = f"{python}, {numpy}, {scipy}, {threads}, {whose}: {method}"
                means = "".join(f"{np.mean(ratios[n]):9.3f}" for n in SHOWN)
                print(f"{name:<{WIDTH}}{means}", flush=True)
                row[method] = {str(n): [round(r, 4) for r in both] for n, both in ratios.items()}
            row["original_ms"] = {
                str(n): [round(t["original"], 3) for t in times[str(n)]] for n in SIZES
            }
            rows.append(row)
    what = (
        "time of a method over that of the original descent, sums over the"
        f" {NOTEBOOK_MATRICES} matrices of the authors' notebook, Test 1, by N, in two passes;"
        " original_ms: milliseconds a matrix of the original descent"
    )
    write_measured("times_by_version.json", "time_risk_parity.py", what, rows)


if __name__ == "__main__":
    sys.exit(main())
