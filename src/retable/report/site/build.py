"""Write the site into a folder: whole or not there, and never over somebody else's."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from retable.report.site import pages
from retable.report.site.inputs import ShownTable, Tell
from retable.util.atomic import beside
from retable.util.errors import UserError

MARKER = ".retable-site"
_FIRST = ("site.css", "site.js")
_ASSETS = (*_FIRST, "runs.js")


@dataclass(frozen=True)
class Built:
    """Facts of a site that was written.

    Attributes:
        folder: the site.
        n_files: files in it.
        size: bytes.
        first: bytes that the first page loads.
    """

    folder: Path
    n_files: int
    size: int
    first: int


def build(sources: list[ShownTable], output: Path, *, origin: str, tell: Tell) -> Built:
    """Build the site; the same records give the same bytes.

    Args:
        sources: tables to show.
        output: folder to write; an older site there is replaced.
        origin: ``results`` or ``runs``, as the pages say.
        tell: told how far it is.

    Raises:
        UserError: where there is nothing to show, or something else at ``output``.
    """
    output = output.absolute()
    _refuse_foreign(output)
    if not sources:
        raise UserError(f"nothing to show: no table has a record in {origin}")
    try:
        with beside(output) as temporary:
            _write(temporary, sources, origin, tell)
            _swap(temporary, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror})") from None
    sizes = {p: p.stat().st_size for p in output.rglob("*") if p.is_file()}
    first = sum(sizes[output / name] for name in ("index.html", *(f"assets/{a}" for a in _FIRST)))
    return Built(output, len(sizes), sum(sizes.values()), first)


def _refuse_foreign(output: Path) -> None:
    if output.is_dir() and (not any(output.iterdir()) or (output / MARKER).is_file()):
        return
    if output.is_symlink() or output.exists():
        raise UserError(
            f"--output {output}: exists and is not a site of retable; name another folder, or"
            " remove it yourself"
        )


def _write(folder: Path, sources: list[ShownTable], origin: str, tell: Tell) -> None:
    folder.mkdir(parents=True)
    known: set[Path] = set()
    curves = False
    for name, content in pages.files(sources, origin, tell):
        path = folder / name
        if path.parent not in known:
            path.parent.mkdir(parents=True, exist_ok=True)
            known.add(path.parent)
        curves = curves or name.startswith("curves/") or '"charts":' in content
        path.write_bytes(content.encode(errors="replace"))
    assets = folder / "assets"
    assets.mkdir()
    own = files("retable.report.site") / "assets"
    for name in _ASSETS:
        (assets / name).write_bytes((own / name).read_bytes())
    if curves:
        with as_file(files("plotly") / "package_data" / "plotly.min.js") as script:
            shutil.copyfile(script, assets / "plotly.min.js")
    # Last, so that only a whole site is ever taken for one.
    (folder / MARKER).write_text("made by `retable site`\n", encoding="utf-8")


def _swap(new: Path, output: Path) -> None:
    old = new.with_suffix(".old")
    there = output.exists()
    if there:
        output.rename(old)
    try:
        new.rename(output)
    except OSError:
        if there:
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)
