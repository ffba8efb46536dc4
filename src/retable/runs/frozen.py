"""A run as it is written before it starts; the job executes exactly this."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from retable.config.compose import from_values
from retable.config.schema import Node, RunConfig, SettingConfig, is_keyed
from retable.config.yaml_checks import parsed
from retable.runs.identity import canonical_json, fingerprint, keyed, run_key, targets_of
from retable.runs.records import run_folder
from retable.util.atomic import write_atomic
from retable.util.errors import UserError, brief
from retable.util.text import run_name

FILE = "config.yaml"
VERSION = 1


@dataclass(frozen=True)
class FrozenRun:
    """Resolved config, its key, and the fingerprint of the code that is to execute it."""

    config: RunConfig
    key: str
    fingerprint: str
    # By seed, the same for all runs of one setting, which are asked for again and again.
    _siblings: dict[int, FrozenRun] = field(
        default_factory=dict[int, "FrozenRun"], init=False, compare=False, repr=False
    )
    _starts: list[FrozenRun] = field(
        default_factory=list["FrozenRun"], init=False, compare=False, repr=False
    )

    @cached_property
    def folder(self) -> Path:
        """The run's folder."""
        return run_folder(Path(self.config.paths.runs), self.config.paper, self.key)

    @property
    def targets(self) -> set[str]:
        """Everything that its config builds."""
        return _targets(self.config)

    @property
    def label(self) -> str:
        """Short name for people."""
        return run_name(self.config.experiment or self.config.paper, self.config.seed, self.key)

    @property
    def setting_key(self) -> str:
        """Key of its setting, which all of its seeds have in common."""
        return self.with_seed(0).key

    @property
    def parent(self) -> FrozenRun | None:
        """The run that it starts from: of the same seed, below the same folder of all runs."""
        start = self.config.start
        if start is None or start.run is None:
            return None
        if not self._starts:
            machine = {name: getattr(self.config, name) for name in _SHARED}
            own = {name: getattr(start.run, name) for name in SettingConfig.model_fields}
            self._starts.append(freeze(from_values(_plain({**own, **machine}))))
        return self._starts[0].with_seed(self.config.seed)

    @property
    def chain(self) -> list[FrozenRun]:
        """The runs that have to be done before, the first one first."""
        parent = self.parent
        return [] if parent is None else [*parent.chain, parent]

    def below(self, runs: Path, *, logged: bool = True) -> FrozenRun:
        """The same run in another folder of all runs; the key knows of no folder.

        Args:
            runs: that folder.
            logged: whether its logger stays.
        """
        update: dict[str, Any] = {"paths": self.config.paths.model_copy(update={"runs": str(runs)})}
        if not logged:
            update["logger"] = self.config.logger.model_copy(update={"name": "none"})
        return FrozenRun(self.config.model_copy(update=update), self.key, self.fingerprint)

    def with_seed(self, seed: int) -> FrozenRun:
        """The same setting with another seed; composing and validating are not repeated."""
        if seed == self.config.seed:
            return self
        if seed not in self._siblings:
            config = self.config.model_copy(update={"seed": seed})
            run = self._siblings[seed] = FrozenRun(config, self._key_of(seed), self.fingerprint)
            object.__setattr__(run, "_siblings", self._siblings)
            object.__setattr__(run, "_starts", self._starts)
        return self._siblings[seed]

    def keys(self, seeds: Iterable[int]) -> list[str]:
        """Keys of the same setting's runs with other seeds, without making the runs."""
        known = self._keys
        found: list[str] = []
        for seed in seeds:
            if seed not in known:
                known[seed] = self._key_of(seed)
            found.append(known[seed])
        return found

    @cached_property
    def _keys(self) -> dict[int, str]:
        return {self.config.seed: self.key}

    @cached_property
    def _key_of(self) -> Callable[[int], str]:
        return _keys_by_seed(keyed(self.config))


def _keys_by_seed(part: Node) -> Callable[[int], str]:
    """Return a function that gives the key of what a key is made from with another seed.

    The canonical text is the same before and after the seed, so that what comes before it is
    hashed once.
    """
    before = canonical_json({name: part[name] for name in part if name < "seed"})
    after = canonical_json({name: part[name] for name in part if name > "seed"})
    comma = "," if before != "{}" else ""
    digest = hashlib.sha256(f'{before[:-1]}{comma}"seed":'.encode())
    rest = f",{after[1:]}".encode() if after != "{}" else b"}"

    def key_of(seed: int) -> str:
        own = digest.copy()
        own.update(b"%d%b" % (seed, rest))
        return own.hexdigest()

    return key_of


_SHARED = sorted(RunConfig.model_fields.keys() - SettingConfig.model_fields.keys())
"""Fields of a run that it shares with the one that it starts from: seed, folders, launching."""


def _plain(values: Node) -> Node:
    return {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in values.items()
    }


def freeze(config: RunConfig) -> FrozenRun:
    """Give a validated config its identity."""
    return FrozenRun(config, run_key(config), fingerprint(_targets(config)))


def _targets(config: RunConfig) -> set[str]:
    return targets_of([config.data, config.model, config.callbacks])


def config_text(config: RunConfig) -> str:
    """A config as YAML, in the order of the schema."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_DUMPER, sort_keys=False).rstrip()


def write(run: FrozenRun) -> Path:
    """Write a frozen run into its folder, atomically; returns the folder."""
    folder = run.folder
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "version": VERSION,
        "key": run.key,
        "fingerprint": run.fingerprint,
        "config": run.config.model_dump(mode="json"),
    }
    text = yaml.dump(content, Dumper=_DUMPER, sort_keys=False)
    write_atomic(folder / FILE, f"# Frozen at launch; the job runs exactly this.\n{text}")
    return folder


def read(folder: Path) -> FrozenRun:
    """Read a frozen run and check that it is what it says.

    Raises:
        UserError: where the file is missing or broken, or its key does not follow from it.
    """
    path = folder / FILE
    try:
        parsed(path)  # refuses what would never end
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
        version, key = content["version"], content["key"]
        code, values = content["fingerprint"], content["config"]
    # What YAML can say and Python cannot build, such as 2024-02-30, is a ValueError and the like.
    except (
        OSError,
        yaml.YAMLError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:
        raise UserError(f"{path}: not a frozen run ({type(error).__name__}: {error})") from None
    if version != VERSION:
        raise UserError(f"{path}: frozen run of version {version}; this retable reads {VERSION}")
    try:
        config = from_values(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if run_key(config) != key:
        raise UserError(f"{path}: its key does not follow from its config; it was edited")
    if folder.absolute().name != key:
        raise UserError(f"{path}: belongs into the folder {key}")
    if not isinstance(code, str):
        raise UserError(f"{path}: fingerprint: {brief(repr(code))} is not valid")
    return FrozenRun(config, key, code)


def recorded(config: RunConfig) -> dict[str, Any]:
    """Part of a config that a record keeps: all keyed fields; no directories, no machine facts."""
    whole = config.model_dump(mode="json")
    kept = {name: whole[name] for name in RunConfig.model_fields if is_keyed(RunConfig, name)}
    above = kept
    while (start := above["start"]) is not None and (above := start["run"]) is not None:
        for name in ("device", "resources"):
            del above[name]
    return kept


# The C versions are about ten times faster and just as safe; not every build of PyYAML has them.
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
