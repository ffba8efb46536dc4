"""Mean, standard deviation and n per setting of an experiment's runs: for grids that are no tables.

What is shown is what the runs' records say. A run belongs to the experiment under whose name it
was launched first; the same run reached by another name is not repeated, hence not here.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from retable.runs import columns, records
from retable.runs.config_keys import flatten, text_of, varying
from retable.runs.identity import fingerprint, targets_of
from retable.runs.records import Record, RecordError, Status, device_of
from retable.tables.aggregate import mean_std
from retable.util import paths
from retable.util.errors import UserError, nearest

_CONFIG = "config.yaml"
_MAX_NUMBERS = 12
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Address(NamedTuple):
    """Where a number stands in a record."""

    metric: str
    result_row: str = ""
    step: int = -1

    @property
    def label(self) -> str:
        """As a single run shows it: ``row metric [step]``."""
        row = f"{self.result_row} " if self.result_row else ""
        return f"{row}{self.metric}{'' if self.step < 0 else f' [{self.step}]'}"


@dataclass(frozen=True)
class Statistic:
    """One number over the finished runs of a group; ``n`` of them have it."""

    mean: float | None
    std: float | None
    n: int


@dataclass(frozen=True)
class Group:
    """The runs that agree in the keys grouped by.

    Attributes:
        setting: value by key; a key that the config leaves out is not in it.
        n: finished runs, which is what the statistics are over.
        settings: settings among them: more than one where they differ in other keys.
        differs: those other keys, the seed left aside.
        seeds: of the finished runs, ascending; their keys are in the same order.
        statuses: runs by how they ended.
        stale: finished runs whose record is of other code than the present.
        devices: finished runs by device type.
        mixed_times: whether times among the numbers were measured in different circumstances.
        statistics: by address.
    """

    setting: dict[str, Any]
    n: int
    settings: int
    differs: list[str]
    seeds: list[int]
    keys: list[str]
    statuses: Counter[Status]
    stale: int
    devices: Counter[str]
    mixed_times: bool
    statistics: dict[Address, Statistic]

    def marks(self) -> list[str]:
        """Marks beside the numbers: runs not done, stale runs, several devices, mixed times."""
        out = [f"{s.value} {self.statuses[s]}" for s in Status if s is not Status.DONE]
        out = [mark for mark in out if not mark.endswith(" 0")]
        if self.stale:
            out.append("stale" if self.stale == self.n else f"stale {self.stale}")
        if len(self.devices) > 1:
            out.append(" + ".join(f"{n} {name}" for name, n in sorted(self.devices.items())))
        if self.mixed_times:
            out.append("mixed times")
        return out


@dataclass(frozen=True)
class Summary:
    """All groups of an experiment, sorted by setting.

    Attributes:
        by: keys grouped by.
        chosen: whether the user named them; else they are what varies.
        waiting: runs that have no record yet.
    """

    experiment: str
    runs: Path
    by: list[str]
    chosen: bool
    addresses: list[Address]
    groups: list[Group]
    waiting: int = 0
    notes: list[str] = field(default_factory=list[str])


def summarize(
    experiment: str,
    runs: Path,
    warn: Callable[[str], None],
    *,
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Summary:
    """Group an experiment's runs and take mean, standard deviation and n of every number.

    Args:
        experiment: name as in ``experiment=...``.
        runs: folder of all runs.
        warn: told of each broken record.
        by: dotted keys of the config; everything that varies besides the seed where empty.
        metrics: names or labels of metrics; all where empty.

    Raises:
        UserError: where there is no such experiment, run, key or metric.
    """
    found, waiting = collect(experiment, runs, warn)
    members = [_Member.of(r) for r in sorted(found, key=lambda r: (r.seed, r.key))]
    varies = varying([m.texts for m in members])
    keys = list(by) or _telling(varies)
    known = {key for m in members for key in m.texts}
    for key in keys:
        if key not in known:
            endings = [name for name in known if name.endswith(f".{key}")]
            hint = nearest(endings[0] if endings else key, known)
            raise UserError(f"--by {key}: no run of {experiment} has this key{hint}")
    recorded = {a for m in members for a in m.numbers}
    addresses = _chosen(recorded, metrics)
    codes: dict[tuple[str | None, ...], str] = {}
    places: dict[tuple[str | None, ...], list[_Member]] = {}
    for member in members:
        member.setting = tuple(member.texts.get(key) for key in varies)
        if member.setting not in codes:
            codes[member.setting] = code_of(member.record)
        member.stale = codes[member.setting] != member.record.fingerprint
        places.setdefault(tuple(member.texts.get(key) for key in keys), []).append(member)
    groups = [_group(keys, varies, addresses, group) for group in places.values()]
    groups.sort(key=lambda g: [_natural(g.setting.get(key, _ABSENT)) for key in keys])
    notes = _notes(groups, keys, chosen=bool(by), waiting=waiting)
    left = sorted({a.metric for a in recorded} - {a.metric for a in addresses})
    if left and not metrics:
        notes.append(f"not shown, many numbers each: {', '.join(left)}; --metric shows one")
    return Summary(experiment, runs, keys, bool(by), addresses, groups, waiting, notes)


@dataclass
class _Member:
    """A run's record, taken apart once: values by key, the same as text to compare, numbers."""

    record: Record
    values: dict[str, Any]
    texts: dict[str, str]
    numbers: dict[Address, float]
    setting: tuple[str | None, ...] = ()
    stale: bool = False

    @classmethod
    def of(cls, record: Record) -> _Member:
        values = flatten(record.config)
        texts = {key: text_of(value) for key, value in values.items()}
        return cls(record, values, texts, numbers_of(record))


def collect(experiment: str, runs: Path, warn: Callable[[str], None]) -> tuple[list[Record], int]:
    """The records that speak for an experiment's runs, and the number of runs without one.

    Raises:
        UserError: where there is none, saying what was meant or what to run.
    """
    found: list[Record] = []
    others: set[str] = set()
    waiting = 0
    for folder in paths.run_folders(runs):
        record = _record_of(folder, warn)
        if record is None:
            waiting += _is_frozen_for(folder, experiment)
        elif record.experiment == experiment:
            found.append(record)
        elif record.experiment is not None:
            others.add(record.experiment)
    if found:
        return found, waiting
    names = paths.config_names("experiment")
    if experiment not in names and not waiting:
        hint = nearest(experiment, {*names, *others})
        raise UserError(f"no experiment '{experiment}'{hint}")
    if waiting:
        raise UserError(f"{experiment}: {waiting} runs in {runs}, none of which has a record yet")
    raise UserError(
        f"{experiment}: no runs in {runs}; start some with `retable train -m"
        f" experiment={experiment} seed='range(0,5)'`"
    )


def _record_of(folder: Path, warn: Callable[[str], None]) -> Record | None:
    # Most runs have a published record: spare them the look at their attempts.
    try:
        published = records.read(folder / records.RUN_RECORD)
    except RecordError:
        published = None
    return published or records.read_run(folder, warn)


def _is_frozen_for(folder: Path, experiment: str) -> bool:
    try:
        text = (folder / _CONFIG).read_text(encoding="utf-8")
        # Reading YAML costs a thousand times the search.
        content = yaml.load(text, Loader=_LOADER) if experiment in text else {}  # noqa: S506
        return content["config"]["experiment"] == experiment
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return False


def _telling(varies: Sequence[str]) -> list[str]:
    """Without those that others say better: `callbacks: {}` beside `callbacks.stop.patience`."""
    return [k for k in varies if not any(other.startswith(f"{k}.") for other in varies)]


_ABSENT: Any = object()


def numbers_of(record: Record) -> dict[Address, float]:
    """Every finite number of a record: its results, and what was validated."""
    out = {Address(name): value for name, value in record.validation.items()}
    for r in record.results:
        out[Address(r.metric, r.result_row, -1 if r.step is None else r.step)] = r.value
    return {address: value for address, value in out.items() if math.isfinite(value)}


def _chosen(known: Iterable[Address], metrics: Sequence[str]) -> list[Address]:
    known = sorted(known)
    names = {a.metric for a in known} | {a.label for a in known}
    for name in metrics:
        if name not in names:
            hint = nearest(name, {a.metric for a in known})
            raise UserError(f"--metric {name}: no run has recorded it{hint}")
    if metrics:
        return [a for a in known if a.metric in metrics or a.label in metrics]
    many = Counter(a.metric for a in known)
    return [a for a in known if many[a.metric] <= _MAX_NUMBERS] or known


def _group(
    keys: Sequence[str],
    varies: Sequence[str],
    addresses: Sequence[Address],
    members: Sequence[_Member],
) -> Group:
    done = [m for m in members if m.record.status is Status.DONE]
    values = members[0].values
    settings = {m.setting for m in done}
    differs = [key for i, key in enumerate(varies) if len({s[i] for s in settings}) > 1]
    statistics: dict[Address, Statistic] = {}
    for address in addresses:
        numbers = [m.numbers[address] for m in done if address in m.numbers]
        statistics[address] = Statistic(*mean_std(numbers), len(numbers))
    names = {address.metric for address in addresses}
    timed = [m.record for m in done if names.intersection(m.record.timing_metrics)]
    return Group(
        setting={key: values[key] for key in keys if key in values},
        n=len(done),
        settings=len(settings),
        differs=differs,
        seeds=[m.record.seed for m in done],
        keys=[m.record.key for m in done],
        statuses=Counter(m.record.status for m in members),
        stale=sum(m.stale for m in done),
        devices=Counter(device_of(m.record) for m in done),
        mixed_times=len({_circumstances(record) for record in timed}) > 1,
        statistics=statistics,
    )


def code_of(record: Record) -> str:
    """Fingerprint of the present code for what a record computed."""
    config = record.config
    return fingerprint(
        targets_of([config.get("data"), config.get("model"), config.get("callbacks")])
    )


def _circumstances(record: Record) -> tuple[object, ...]:
    """Device, processor, threads and workers, on which a time depends besides the setting."""
    about = columns.About.of(record)
    processor = about.accelerator if record.device == "cuda" else about.cpu
    return about.device, processor, about.threads, about.workers, about.alone, about.begun


def _natural(value: Any) -> tuple[Any, ...]:
    """Order of a setting's values: absent, null, truth values, numbers by size, then texts."""
    if value is _ABSENT:
        return (0,)
    if value is None:
        return (1,)
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, int | float):
        return (3, value)
    text = value if isinstance(value, str) else json.dumps(value)
    # Split so that text and number alternate, and `net10` comes after `net9`.
    parts = re.split(r"([0-9]+)", text)
    return (4, [int(part) if index % 2 else part for index, part in enumerate(parts)], text)


def _notes(
    groups: Sequence[Group], keys: Sequence[str], *, chosen: bool, waiting: int
) -> list[str]:
    notes: list[str] = []
    if not chosen:
        notes.append(
            "grouped by all that varies besides the seed; --by chooses"
            if keys
            else "one setting: the runs differ in the seed at most"
        )
    mixed = [group for group in groups if group.settings > 1]
    if mixed:
        differs = sorted({key for group in mixed for key in group.differs})
        notes.append(
            f"settings: {len(mixed)} of {len(groups)} groups mix runs that also differ in"
            f" {', '.join(differs)}; each run counts by itself"
        )
    if any(group.stale for group in groups):
        notes.append("stale: computed by other code than the present")
    if any(group.mixed_times for group in groups):
        notes.append("mixed times: measured on different processors, threads or runs at once")
    if waiting:
        runs = "1 run has" if waiting == 1 else f"{waiting} runs have"
        notes.append(f"{runs} no record yet (running, waiting or killed): not counted")
    return notes
