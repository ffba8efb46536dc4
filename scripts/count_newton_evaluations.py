"""Residual evaluations that SciPy counts for Newton's method, by version, on the same matrices.

    python scripts/count_newton_evaluations.py [--python 3.10=/path/to/python3.10]

The matrices are those of the authors' notebook: 20 of each N, Test 1. Each version of SciPy solves
them in an environment of its own, by `uv run --isolated`, with this checkout's code of the method
(retable.papers.risk_parity.newton, which needs NumPy and SciPy alone). Prints the mean counts and
writes them to results/risk_parity/measured/newton_evaluations.json, which table
risk_parity/iterations names as the cause of a difference.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from risk_parity_versions import interpreters, run_isolated, save_matrices, write_measured

SIZES = (25, 50, 100, 200, 300)
VERSIONS = {
    "1.8.0": "3.10",  # of February 2022, the month before the paper; has no build for Python 3.11
    "1.11.4": "3.11",
    "1.13.1": "3.11",
    "1.14.0": "3.11",
    "1.17.1": "3.11",
}
SOLVE = """
import json, sys
import numpy as np, scipy
from retable.papers.risk_parity.newton import newton

counts = {}
for name, matrix in np.load(sys.argv[1]).items():
    n = len(matrix)
    _, count, _, converged = newton(matrix, np.full(n, 1 / n), 1e-6, 1023, "improved", "hybr")
    assert converged, name
    counts[name] = count
print(json.dumps({"scipy": scipy.__version__, "numpy": np.__version__, "counts": counts}))
"""


def main() -> None:
    """Count with every version, print, and write."""
    import numpy as np

    from retable.papers.risk_parity.matrices import NOTEBOOK_MATRICES

    given = interpreters(__doc__.splitlines()[0])
    rows: list[dict[str, object]] = []
    first: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "matrices.npz")
        save_matrices(file, SIZES)
        print("SciPy    " + "".join(f"{f'N = {n}':>10}" for n in SIZES) + "   more than the first")
        for version, python in VERSIONS.items():
            found = run_isolated(
                SOLVE,
                str(file),
                python=given.get(python, python),
                packages=[f"scipy=={version}"],
                threads=1,
            )
            assert found["scipy"] == version
            counts = found.pop("counts")
            first = first or counts
            more = sorted({count - first[name] for name, count in counts.items()})
            means = {
                n: np.mean([c for k, c in counts.items() if k.startswith(f"{n}-")]) for n in SIZES
            }
            print(f"{version:<9}" + "".join(f"{m:10.2f}" for m in means.values()) + f"   {more}")
            mean = {str(n): round(float(m), 2) for n, m in means.items()}
            rows.append({**found, "python": python, "mean": mean, "more_than_first": more})
    what = (
        "evaluations of the residual that scipy.optimize.root(method='hybr') counts, mean of"
        f" {NOTEBOOK_MATRICES} matrices of the authors' notebook, Test 1, by N;"
        " more_than_first: every difference of a matrix's count from the first version's that"
        " occurs"
    )
    write_measured("newton_evaluations.json", "count_newton_evaluations.py", what, rows)


if __name__ == "__main__":
    sys.exit(main())
