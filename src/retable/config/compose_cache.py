"""Cache of composed configs: a table is planned again without Hydra.

Composing costs a hundred times what validating does. While a table or a sweep is planned, two
things are therefore kept: the config that the chosen files make, before single values are set, in
memory; and the plain values that validation receives, on disk, per list of overrides. Validation
itself runs on all of them, so nothing that is kept can get past a refusal.

The file's name is a digest of everything that a composition depends on besides its overrides. A
file that is broken or cannot be written is no file, and a few settings are not worth one.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable import __version__
from retable.config.composed import PLAIN_KEY, Base, Composed, Whole
from retable.util import paths
from retable.util.atomic import write_atomic

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

FOLDER = "compose"
KEPT_FILES = 4
WORTH_A_FILE = 10
"""New settings at once that are written; a few are composed again in the time Hydra starts."""
MAX_BYTES = 64 * 2**20
_CODE = ("config", "util")
"""Packages of this project that stand between the files and the values."""
_REFERENCE = re.compile(r"\$\{([^{}$]*)")
_VARIABLE = re.compile(r"\s*oc\.env\s*:\s*([A-Za-z_]\w*)\s*(?:,.*)?", re.DOTALL)
# Resolvers whose value follows from the config alone.
_PURE = {"oc.create", "oc.decode", "oc.deprecated", "oc.dict.keys", "oc.dict.values", "oc.select"}


@dataclass(frozen=True)
class Sources:
    """Digest and stamps of the inputs that every composition depends on.

    Attributes:
        digest: SHA-256 of file names, contents, environment variables and versions.
        stamps: when the files were changed, to notice an edit that was taken back.
    """

    digest: str
    stamps: tuple[tuple[int, int], ...]


def sources() -> Sources | None:
    """Current inputs of all compositions; None where they cannot be told from the files."""
    whole = hashlib.sha256()
    stamps: list[tuple[int, int]] = []
    variables: set[str] = set()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            whole.update(f"{len(data)}:".encode() + data)

    try:
        for number, folder in enumerate(paths.conf_dirs()):
            for path in _below(folder):
                add(f"{number}", str(path.relative_to(folder)))
                if not path.is_file():
                    continue  # a folder's name is a group's
                content, stat = path.read_bytes(), path.stat()
                found = _variables(content.decode("utf-8", "replace"))
                if found is None or b"searchpath" in content:
                    return None
                add(content)
                stamps.append((stat.st_mtime_ns, stat.st_ino))
                variables |= found
        # In a checkout the version stays while the code between file and values changes.
        for path in sorted(p for name in _CODE for p in (paths.PACKAGE / name).glob("*.py")):
            add(str(path.relative_to(paths.PACKAGE)), path.read_bytes())
    except (OSError, UnicodeEncodeError):
        return None
    for name in sorted(variables):
        value = os.environ.get(name)
        add(name, "unset" if value is None else f"={value}".encode("utf-8", "surrogateescape"))
    add(__version__)
    for package in ("hydra-core", "omegaconf", "pyyaml"):
        add(package, importlib.metadata.version(package))
    return Sources(whole.hexdigest(), tuple(stamps))


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder, in order; linked folders too, since Hydra follows links."""
    seen: set[str] = set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(base, name) for name in sorted([*folders, *files]))


def _variables(text: str) -> set[str] | None:
    """Environment variables that interpolations read; None where one depends on more than them."""
    found: set[str] = set()
    for inner in _REFERENCE.findall(text):
        name, colon, _ = inner.partition(":")
        match = _VARIABLE.fullmatch(inner)
        if match:
            found.add(match[1])
        elif colon and name.strip() not in _PURE:
            return None
    return found


class Memory:
    """Cache of compositions while one table or sweep is planned."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._hydra = False
        self._bases: dict[tuple[str, ...], Base] = {}
        self._parsed: dict[str, Override | None] = {}
        self.checked: set[str | None] = set()
        self._sources = sources()
        self._file = None if self._sources is None else _file(self._sources)
        self._entries = {} if self._file is None else _load(self._file)
        self._new: dict[str, str] = {}

    def find(self, overrides: Sequence[str]) -> dict[str, Any] | None:
        """Values that these overrides gave before."""
        text = self._entries.get(json.dumps(list(overrides)))
        try:
            values = None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None

    def keep(self, overrides: Sequence[str], values: dict[str, Any]) -> None:
        """Remember what overrides gave, where JSON can say it and nothing else enters."""
        if self._file is None or any(_variables(text) != set() for text in overrides):
            return
        try:
            text = json.dumps(values)
            same = json.loads(text) == values
        except (TypeError, ValueError, RecursionError):
            return
        if same:
            self._new[json.dumps(list(overrides))] = text

    def save(self) -> None:
        """Write what is new, with what others wrote meanwhile."""
        if self._file is None or len(self._new) < WORTH_A_FILE or sources() != self._sources:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            entries = {**_load(self._file), **self._new}
            size = sum(len(key) + len(text) + 2 for key, text in entries.items())
            for key in list(entries):  # the oldest first
                if size <= MAX_BYTES:
                    break
                size -= len(key) + len(entries.pop(key)) + 2
            body = "".join(f"{key}\n{text}\n" for key, text in entries.items()).encode()
            write_atomic(self._file, _checksum(self._file, body) + body)
            _prune(self._file.parent)
        except OSError:
            pass  # a read-only or full disk: the next plan composes again

    def compose(self, overrides: Sequence[str]) -> Composed:
        """Compose with Hydra, which is started here, and asked once per choice of files."""
        from hydra import compose

        from retable.config.compose import hydra_ready

        if not self._hydra:
            self._stack.enter_context(hydra_ready())
            self._hydra = True
        try:
            quick = self._quickly(overrides)
        except Exception:  # Hydra has to say what is wrong
            return Whole(compose("run", overrides=list(overrides)))
        if quick is not None:
            return quick
        config = self._shortcut(overrides)
        return Whole(compose("run", overrides=list(overrides)) if config is None else config)

    def _quickly(self, overrides: Sequence[str]) -> Composed | None:
        """Set single values among plain ones; None where they cannot tell what would come out."""
        base, changes = self._base(overrides), self._changes(overrides)
        return None if base is None or changes is None else base.with_values(changes)

    def _base(self, overrides: Sequence[str]) -> Base | None:
        """What the chosen files make, before single values are set."""
        from hydra import compose

        choices = tuple(text for text in overrides if not text.startswith("++"))
        if any(text.startswith("~") for text in choices):
            return None
        if choices not in self._bases:
            self._bases[choices] = Base(compose("run", overrides=list(choices)))
        return self._bases[choices]

    def _changes(self, overrides: Sequence[str]) -> list[tuple[str, Any]] | None:
        """Single values with their keys, in order."""
        parsed = [self._parse(text) for text in overrides if text.startswith("++")]
        known = [override for override in parsed if override is not None]
        if len(known) < len(parsed):
            return None
        return [(override.key_or_group, override.value()) for override in known]

    def _shortcut(self, overrides: Sequence[str]) -> DictConfig | None:
        """Set single values in a copy of what the chosen files make, as Hydra itself does last.

        None where it is not as simple as that, or something is wrong: Hydra has to say what.
        """
        from omegaconf import OmegaConf

        try:
            base, changes = self._base(overrides), self._changes(overrides)
            if base is None or changes is None:
                return None
            config = copy.deepcopy(base.whole.config)
            for key, value in changes:
                OmegaConf.update(config, key, value, merge=True, force_add=True)
        except Exception:
            return None
        return config

    def _parse(self, text: str) -> Override | None:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        if text not in self._parsed:
            override = OverridesParser.create().parse_override(text)
            key = override.key_or_group
            single = override.is_force_add() and not override.is_sweep_override()
            # A folder's name is a group, of which a config is chosen, unless a mapping is given.
            group = any((folder / key).is_dir() for folder in paths.conf_dirs())
            plain = PLAIN_KEY.fullmatch(key) and override.package is None
            usable = single and plain and (not group or isinstance(override.value(), dict))
            self._parsed[text] = override if usable else None
        return self._parsed[text]


def _file(known: Sources) -> Path | None:
    """File of what was composed from these sources."""
    folder = os.environ.get("RETABLE_CACHE")
    try:
        if not folder:
            # Read like this because importing OmegaConf takes longer than all of a warm plan.
            text = (paths.conf_dir() / "paths" / "default.yaml").read_text(encoding="utf-8")
            usual = re.search(r"^cache: \$\{oc\.env:RETABLE_CACHE,([\w./-]+)\}", text, re.MULTILINE)
            folder = usual[1] if usual else paths.cache_folder()
    except Exception:
        return None  # composing says what is wrong with the file
    return Path(folder) / FOLDER / f"{known.digest}.jsonl"


def _checksum(file: Path, body: bytes) -> bytes:
    return f'"{hashlib.sha256(file.name.encode() + body).hexdigest()}"\n'.encode()


def _load(file: Path) -> dict[str, str]:
    """Entries of a file as texts, none where it is not as it was written.

    The first line is a checksum of the rest, then overrides and values take turns, a line each.
    """
    try:
        data = file.read_bytes()
    except OSError:
        return {}
    with suppress(OSError):
        os.utime(file)  # those that are used are kept
    head, newline, body = data.partition(b"\n")
    if head + newline != _checksum(file, body):
        return {}
    lines = body.decode("ascii", "replace").split("\n")
    return dict(zip(lines[0:-1:2], lines[1:-1:2], strict=False))


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[KEPT_FILES:]:
        path.unlink(missing_ok=True)


_memory: Memory | None = None


@contextmanager
def planning() -> Generator[None]:
    """While many runs are composed: use and extend what was composed before.

    Hydra starts at the first setting that is new. Nothing is written where an exception leaves.
    Within another one, as when many tables are planned, it is the outer one that goes on.
    """
    global _memory
    if _memory is not None:
        yield
        return
    with ExitStack() as stack:
        memory = _memory = Memory(stack)
        try:
            yield
        finally:
            _memory = None
        memory.save()


def find(overrides: Sequence[str]) -> dict[str, Any] | None:
    """Values that the overrides gave before; None outside of :func:`planning`."""
    return None if _memory is None else _memory.find(overrides)


def keep(overrides: Sequence[str], values: dict[str, Any]) -> None:
    """Remember what the overrides gave, within :func:`planning`."""
    if _memory is not None:
        _memory.keep(overrides, values)


def check_once(experiment: str | None, check: Callable[[], None]) -> None:
    """Check the files of an experiment; within :func:`planning`, not again once they passed."""
    if _memory is None:
        check()
    elif experiment not in _memory.checked:
        check()
        _memory.checked.add(experiment)


def by_hydra(overrides: Sequence[str]) -> Composed:
    """Compose ``run.yaml`` with Hydra, which has to be ready outside of :func:`planning`."""
    from hydra import compose

    if _memory is None:
        return Whole(compose("run", overrides=list(overrides)))
    return _memory.compose(overrides)
