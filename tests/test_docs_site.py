"""The pages as a site: built without a warning, with all that is public."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import retable

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="Sphinx is not installed (uv sync --group docs)")
    made = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndocs: setup\n")[2]
    recipe = made.splitlines()[0].split()
    options = recipe[recipe.index("sphinx-build") + 1 :]
    assert options[-4:] == ["-d", "docs/_build/doctrees", ".", "docs/_build/html"]
    assert "--fail-on-warning" in options
    site = tmp_path / "html"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options[:-3], str(tmp_path / "trees"), ".", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    page = (site / "docs" / "api" / "python.html").read_text(encoding="utf-8")
    for name in retable.__all__:
        assert f'id="retable.{name}"' in page, name
    page = (site / "docs" / "api" / "papers.html").read_text(encoding="utf-8")
    for name in ("papers.base.PaperModule.shared_step", "data.base.PaperDataModule"):
        assert f'id="retable.{name}"' in page, name
    followed = 0
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'(?:<script[^>]* src|<link[^>]* href|<img[^>]* src)="https?:', text)
        for link in re.findall(r'(?:href|src)="([^"#?:]+)(?:[#?][^"]*)?"', text):
            assert (page.parent / unquote(link)).exists(), f"{page.relative_to(site)}: {link}"
            followed += 1
    assert followed > 1000


def test_every_module_of_networks_is_among_the_pages():
    text = (ROOT / "docs" / "api" / "networks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"automodule:: retable\.nets\.(\w+)", text))
    modules = {path.stem for path in (ROOT / "src" / "retable" / "nets").glob("*.py")}
    assert named == modules - {"__init__"}
