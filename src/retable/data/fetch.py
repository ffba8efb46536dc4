"""Single files: from the mirror, else from the cache, else fetched; always checked by checksum."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import secrets
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from retable.util.errors import UserError

_TIMEOUT_S = 60


class DataUnavailable(UserError):
    """Data that can be had neither from a mirror nor from its source."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold a lock beside ``path``: of two processes that fill a cache, one waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find(name: str, sha256: str, *, cache: Path, mirror: Path | None) -> Path | None:
    """A file in the mirror or the cache, checked; None where it is in neither.

    Raises:
        UserError: where a file of that name has another checksum.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{name}: has to lie below the mirror and the cache")
    for place, folder in (("mirror", mirror), ("cache", cache)):
        if folder is None or not (folder / name).is_file():
            continue
        found = sha256_of(folder / name)
        if found != sha256:
            remedy = "delete it" if place == "cache" else "mend the mirror"
            raise UserError(
                f"{folder / name}: is truncated or altered (sha256 {found[:12]}, expected"
                f" {sha256[:12]}); {remedy}"
            )
        return folder / name
    return None


def fetch(name: str, url: str, sha256: str, *, cache: Path, mirror: Path | None) -> Path:
    """Have a file, fetching it into the cache where needed.

    Args:
        name: path below the cache, and below the mirror.
        url: address to fetch it from.
        sha256: checksum of its content.
        cache: folder of the cache.
        mirror: folder that is looked in first.

    Returns:
        Where it is.

    Raises:
        DataUnavailable: without mirror and network; the message says both remedies.
        UserError: where what was fetched has another checksum.
    """
    path = find(name, sha256, cache=cache, mirror=mirror)
    if path is not None:
        return path
    target = cache / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; set RETABLE_CACHE") from None
    with locked(target):
        if target.is_file() and sha256_of(target) == sha256:
            return target
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "retable"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
                temporary.write_bytes(reply.read())
            found = sha256_of(temporary)
            if found != sha256:
                raise UserError(
                    f"{url}: gave another file (sha256 {found[:12]}, expected {sha256[:12]});"
                    f" set RETABLE_MIRROR to a folder that holds the right {name}"
                )
            temporary.replace(target)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise DataUnavailable(
                f"{name}: neither in a mirror nor to be fetched from {url} ({error}); set"
                f" RETABLE_MIRROR to a folder that holds {name}, or run where there is a network"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
    return target
