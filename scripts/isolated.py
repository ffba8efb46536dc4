"""Run a piece of code with other versions of packages, by `uv run --isolated`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


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
