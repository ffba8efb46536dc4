"""Data that only the user can have: where it lies below the mirror, and whether it is the right."""

from __future__ import annotations

from pathlib import Path

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.util.errors import UserError


def in_mirror(key: str, name: str, paths: DataPaths, what: str) -> Path:
    """Where a file or a folder of the mirror is.

    Args:
        key: of the config that names it.
        name: its path below the mirror.
        paths: of the run.
        what: it has to be, in words, for the message.

    Raises:
        DataUnavailable: where it is not there.
        UserError: where the name leads out of the mirror.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{key}: {name} has to lie below the mirror")
    if paths.mirror is None or not (paths.mirror / name).exists():
        where = f"not in {paths.mirror}" if paths.mirror else "there is no mirror"
        raise DataUnavailable(
            f"{key}: {name}: {where}, and it cannot be fetched. It is {what}; put it into the"
            " folder of RETABLE_MIRROR"
        )
    return paths.mirror / name


def agree(key: str, where: Path, found: str, wanted: str | None) -> None:
    """Refuse data of another checksum than the config's, or where that has none.

    Raises:
        UserError: saying what the checksum is.
    """
    if wanted is None:
        raise UserError(
            f"{key}: none is given; {where} has {found}: if it is the data you mean, write that"
            " into the experiment"
        )
    if found != wanted:
        raise UserError(
            f"{where}: is not the data of the experiment (sha256 {found[:12]}, {key} has"
            f" {wanted[:12]})"
        )
