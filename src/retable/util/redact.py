"""Texts as they may be published: no secret, no home folder, no e-mail address in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, cast

SECRET = "<secret>"  # noqa: S105 - what stands in a secret's place
EMAIL = "<e-mail>"

MIN_CHARACTERS = 8
"""Values of variables that are shorter are no secrets, and replacing them would garble texts."""

_SECRET_NAME = re.compile(
    r"KEY(S|_ID)?($|_)|TOKENS?($|_)|SECRET|PASSW|PASSPHRASE|CREDENTIAL", re.IGNORECASE
)
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


def scrub(text: str) -> str:
    """A text without what belongs to its user.

    The home folder becomes ``~``; values of environment variables whose names say that they are
    secret (``..._KEY``, ``..._TOKEN``, passwords, credentials) and e-mail addresses are replaced.
    """
    return _scrubbed(text, _secrets(), _homes())


def _scrubbed(text: str, secrets: list[str], homes: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, SECRET)
    for home in homes:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    return _ADDRESS.sub(EMAIL, text)


def private_at(value: Any) -> list[str] | None:
    """Where a tree of plain values holds what :func:`scrub` takes out; None where nowhere."""
    return _private_at(value, _secrets(), _homes())


def _private_at(value: Any, secrets: list[str], homes: list[str]) -> list[str] | None:
    if isinstance(value, str):
        return [] if _scrubbed(value, secrets, homes) != value else None
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        entries = cast("dict[Any, Any]", value).items()
    elif isinstance(value, list):
        entries = enumerate(cast("list[Any]", value))
    for name, entry in entries:
        found = _private_at(entry, secrets, homes)
        if found is not None:
            return [str(name), *found]
    return None


def is_secret(name: str) -> bool:
    """Whether an environment variable's name says that its value is a secret."""
    return _SECRET_NAME.search(name) is not None


def _secrets() -> list[str]:
    """Values to hide, long ones first, because one may contain another."""
    values = {value for name, value in os.environ.items() if is_secret(name)}
    # Of a key in several lines a message may show one.
    values |= {line for value in values for line in value.splitlines()}
    return sorted((v for v in values if len(v.strip()) >= MIN_CHARACTERS), key=len, reverse=True)


def _homes() -> list[str]:
    home = os.environ.get("HOME", "").rstrip("/")
    return [home, *({os.path.realpath(home)} - {home, "/"})] if home else []
