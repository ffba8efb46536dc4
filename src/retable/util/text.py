"""Numbers of things, durations and runs as people say them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath


def duration(seconds: float) -> str:
    """A duration: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def counted(count: int, word: str) -> str:
    """A number of things: ``1 run``, ``3 runs``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def enumerated(names: Sequence[str]) -> str:
    """Names in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def few(names: Sequence[str], most: int = 8) -> str:
    """All names where they are few, else the first ones: ``a, b, c, d and 5 more``."""
    shown = names if len(names) <= most else names[: most // 2]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{', '.join(shown)}{more}"


def short_key(key: str) -> str:
    """The beginning of a run's key, by which commands know it: ``3f2a91c0``."""
    return key[:8]


def run_name(what: str, seed: int, key: str) -> str:
    """Name of a run by what it is a seed of: ``digits/base s3 3f2a91c0``."""
    return f"{what} s{seed} {short_key(key)}"


def on_table(command: str, name: str, protocol: str) -> str:
    """A command on a table, to be pasted: ``retable run paper/table --protocol reduced``."""
    option = "" if protocol == "paper" else f" --protocol {protocol}"
    return f"retable {command} {name}{option}"


def folder_name(folder: PurePath | str) -> str:
    """Name of a run of which only the folder is known: ``digits/3f2a91c0``."""
    path = PurePath(folder)
    return f"{path.parent.name}/{short_key(path.name)}"
