"""A real pdflatex, for what is written as LaTeX."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx,xcolor}
\begin{document}
%s
\end{document}
"""


def compiled(folder: Path, body: str) -> str:
    """Log of a document; fails where pdflatex does."""
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex (texlive-latex-recommended)")
    (folder / "t.tex").write_text(DOCUMENT % body, encoding="ascii")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"],
        cwd=folder,
        capture_output=True,
        timeout=120,
    )
    log = (folder / "t.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-3000:]
    assert (folder / "t.pdf").stat().st_size > 1000
    return log.replace("\n", "")
