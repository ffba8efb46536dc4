"""The files that a new paper begins with: a small one, but whole, which can be run and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from string import Template

from retable.admin import paper_names
from retable.util import paths
from retable.util.errors import UserError, brief

TEMPLATE = Path(__file__).parent / "paper_template"

_FILES = {
    "init.py.txt": "{papers}/{paper}/__init__.py",
    "module.py.txt": "{papers}/{paper}/module.py",
    "README.md.txt": "{papers}/{paper}/README.md",
    "paper.yaml.txt": "{papers}/{paper}/paper.yaml",
    "base.yaml.txt": "conf/experiment/{paper}/base.yaml",
    "smoke.yaml.txt": "conf/experiment/{paper}/smoke.yaml",
    "accuracy.yaml.txt": "conf/table/{paper}/accuracy.yaml",
    "test.py.txt": "{tests}/test_{paper}.py",
}


@dataclass(frozen=True)
class Home:
    """Where papers are written.

    Attributes:
        folder: the repository, or a folder of one's own, which need not be there yet.
        is_repository: which of the two.
    """

    folder: Path
    is_repository: bool

    @property
    def papers(self) -> str:
        """Folder of the papers' packages, below."""
        return "src/retable/papers" if self.is_repository else "papers"

    @property
    def tests(self) -> str:
        """Folder of the papers' tests, below."""
        return "tests/papers" if self.is_repository else "tests"


def home(into: str | None = None) -> Home:
    """Where a new paper is to be.

    Args:
        into: folder of one's own; that of ``RETABLE_EXTRA`` where left out, and where that is not
            set, the repository.

    Raises:
        UserError: where no folder is said and there is no repository, or where it is no folder.
    """
    root, name = paths.project_root(), "--into"
    if into is None:
        name, into = "RETABLE_EXTRA", os.environ.get("RETABLE_EXTRA") or None
    if into is None:
        if root == paths.PACKAGE:
            raise UserError(
                "--into: say in which folder the paper is to be; there is no checkout of retable"
                " here, and RETABLE_EXTRA is not set"
            )
        return Home(root, True)
    folder = Path(into).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{name}: {brief(into)} is not a folder; name one, or a new one")
    return Home(folder, folder == root)


def write(paper: str, at: Home) -> list[Path]:
    """Write the files of a new paper.

    Args:
        paper: its slug.
        at: of :func:`home`.

    Returns:
        The files, in the order in which one comes to edit them.

    Raises:
        UserError: where the slug cannot be had or a file is there already, before any is written.
    """
    paper_names.check(paper, _taken(at))
    places = {"paper": paper, "papers": at.papers, "tests": at.tests}
    files = {at.folder / place.format(**places): name for name, place in _FILES.items()}
    for file in files:
        if os.path.lexists(file):
            raise UserError(f"{paths.shown(file)}: is there already; move it, or choose a name")
    for file, name in files.items():
        text = (TEMPLATE / name).read_text(encoding="utf-8")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(Template(text).substitute(paper=paper))
        except OSError as error:
            raise UserError(f"{paths.shown(file)}: cannot be written ({error.strerror})") from None
    return list(files)


def _taken(at: Home) -> list[Path]:
    """Folders that hold a folder for each paper that there is."""
    extra = os.environ.get("RETABLE_EXTRA")  # it may not be there yet
    roots = [Home(paths.PACKAGE, False), at, *([Home(Path(extra), False)] if extra else [])]
    confs = [paths.conf_dir(), *(root.folder / "conf" for root in roots)]
    found = [root.folder / root.papers for root in roots]
    found += [conf / group for conf in confs for group in ("experiment", "table")]
    return list(dict.fromkeys(found))
