"""What the scripts share that try the risk parity notebook with other versions of packages."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "results" / "risk_parity" / "measured"


def run_isolated(code: str, *arguments: str, python: str, packages: list[str], threads: int) -> Any:
    """What a piece of code prints as JSON, in an environment of its own.

    Args:
        code: Python, which finds this checkout's `src` on its path.
        arguments: that it finds in `sys.argv`.
        python: version or path of the interpreter.
        packages: requirements, such as `scipy==1.8.0`.
        threads: of BLAS.
    """
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    own = ["--isolated", "--no-project", "--python", python]
    for package in packages:
        own += ["--with", package]
    done = subprocess.run(
        [uv, "run", "--quiet", *own, "python", "-c", code, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "OPENBLAS_NUM_THREADS": str(threads),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def interpreters(description: str) -> dict[str, str]:
    """Interpreters that the command line names, by version of Python."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--python", action="append", default=[], metavar="VERSION=PATH")
    return dict(text.split("=", 1) for text in parser.parse_args().python)


def save_matrices(file: Path, sizes: Sequence[int]) -> None:
    """Write the matrices of the authors' notebook, Test 1, as ``N-number``."""
    import numpy as np

    from retable.papers.risk_parity.matrices import NOTEBOOK_MATRICES, notebook_correlation

    matrices: dict[str, Any] = {
        f"{n}-{index}": notebook_correlation(n, 1, index)
        for n in sizes
        for index in range(NOTEBOOK_MATRICES)
    }
    np.savez(file, **matrices)


def write_measured(name: str, script: str, what: str, rows: list[dict[str, object]]) -> None:
    """Write what a script has measured to the folder of the paper's results that is for it."""
    from retable.runs.provenance import cpu_model
    from retable.util.atomic import write_atomic

    output = MEASURED / name
    made = {"what": what, "script": f"scripts/{script}", "cpu": cpu_model(), "rows": rows}
    output.parent.mkdir(exist_ok=True)
    write_atomic(output, json.dumps(made, indent=2) + "\n")
    print(f"written to {output.relative_to(ROOT)}")
