"""The record of an attempt: what was asked, what came out, from which code, on what."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import asdict

from retable.runs.record_parts import Blessing, Count, Provenance, ResultRow, StartedFrom, Stretch
from retable.util.atomic import beside, write_atomic
from retable.util.errors import brief, one_line

VERSION = 1
MAX_RESULTS = 200
MAX_BYTES = 20_000
RUN_RECORD = "record.json"
_AT_ONCE = 1 << 16  # bytes; nearly every record has fewer than 20,000
_DEEP = 100  # levels of a config; JSON parsers give up at some depth of their own


class Status(StrEnum):
    """Final status of an attempt; the list is closed."""

    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"

    @property
    def resumable(self) -> bool:
        """Whether the attempt was told to stop: the run has not ended, and goes on from there."""
        return self in {Status.INTERRUPTED, Status.TIMEOUT}

    @property
    def has_result(self) -> bool:
        """Whether the run has come to a result: done, or diverged."""
        return self in {Status.DONE, Status.DIVERGED}


class RecordError(Exception):
    """A record that cannot be used; the message names the file."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class NewerRecord(RecordError):
    """A record of another format version: not broken, and not ours to set aside."""


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """Record of an attempt; results, hashes of weights and history, and artefacts define equality.

    Attributes:
        wall_s: of the attempt and of those that it went on from, in seconds.
        devices: that a batch was split over; memory and CPU time are the first's.
        workers: runs that the launcher kept going at once; ``alone``: nothing else ran there.
        artifacts: arrays that the run left: name, SHA-256 of what the file holds.
        validation: ``val/...`` of the epoch that was tested; what a choice may go by.
        blessings: a history of the code, which grows outside of the 20 kB.
        earlier: under what else epochs of it were computed that it went on from.
        started_from: what it began with, where it starts from another run or a file.
        pulled: entity/project/id in W&B, where it was not run here.
    """

    version: Literal[1] = VERSION
    key: str
    paper: str
    experiment: str | None
    protocol: str
    seed: Count
    config: dict[str, Any]
    status: Status
    error: str | None = None
    results: list[ResultRow] = []
    timing_metrics: list[str] = []
    attempt: Count
    resumed_from_epoch: int | None = None
    best_epoch: int | None = None
    started: str
    wall_s: Annotated[float, Meta(ge=0, lt=1e10)]
    cpu_s: float
    peak_memory_mb: float
    device: str
    threads: int
    devices: Annotated[int, Meta(ge=1)] = 1
    workers: int
    alone: bool = False
    weights_sha256: str | None = None
    history_sha256: str | None = None
    artifacts: dict[str, str] = {}
    fingerprint: str
    provenance: Provenance
    earlier: list[Stretch] = []
    validation: dict[str, float] = {}
    blessings: list[Blessing] = []
    started_from: StartedFrom | None = None
    pulled: str | None = None

    def value(self, metric: str, row: str = "", step: int | None = None) -> float | None:
        """The number at an address, None where the run did not give it."""
        for result in self.results:
            if (result.metric, result.result_row, result.step) == (metric, row, step):
                return result.value
        return self.validation.get(metric) if row == "" and step is None else None

    @property
    def computed_by(self) -> str:
        """Fingerprint of the code that computed it, whatever it was confirmed for since."""
        return self.blessings[0].was if self.blessings else self.fingerprint

    def substance_sha256(self) -> str:
        """Hash of :meth:`substance`: equal for equal results, bit for bit."""
        from retable.runs.identity import canonical_json

        return text_sha256(canonical_json(self.substance()))

    def substance(self) -> dict[str, Any]:
        """Content that must agree for two records to be equal: no times, no addresses."""
        return {
            "results": [asdict(r) for r in self.results if r.metric not in self.timing_metrics],
            "weights": self.weights_sha256,
            "history": self.history_sha256,
            **({"artifacts": self.artifacts} if self.artifacts else {}),
        }


def device_of(record: Any) -> str:
    """Type of the device a record is of, and how many where a batch was split over several."""
    return several(record.device, record.devices)


def several(device: str, count: int) -> str:
    """In words: ``cuda x 2``."""
    return device if count == 1 else f"{device} x {count}"


def dump(record: Record) -> str:
    """Text of a record.

    Raises:
        RecordError: above 200 results or, without blessings and earlier stretches, 20 kB; for
            what could not be read again, such as a number that is not finite.
    """
    if len(record.results) > MAX_RESULTS:
        raise RecordError(
            f"a run may record {MAX_RESULTS} results, this one has {len(record.results)};"
            " longer curves belong to the history"
        )
    try:
        text = msgspec.json.encode(record).decode()
    except (TypeError, UnicodeError) as error:
        raise RecordError(f"record of {record.key[:12]}: {brief(str(error))}") from None
    text = f'{{"version":{VERSION},{text[1:]}\n'
    parse(text, f"record of {record.key[:12]}")
    if (size := len(text) - _size_apart(record)) > MAX_BYTES:
        raise RecordError(f"record of {size} bytes; at most {MAX_BYTES} are allowed")
    return text


def _size_apart(record: Record) -> int:
    apart = [*record.blessings, *record.earlier]
    return sum(len(msgspec.json.encode(part).decode()) + 1 for part in apart)


_DECODER = msgspec.json.Decoder(Record)


class _Versioned(msgspec.Struct):
    """All that a file of another version is sure to have."""

    version: Any = VERSION


def parse(text: str | bytes, name: str) -> Record:
    """Read a record's text.

    Raises:
        RecordError: for broken text, naming the file.
        NewerRecord: for another version of the format.
    """
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    try:
        record = _DECODER.decode(data)
        # Neither NaN nor infinity is a number to msgspec.
        if not _is_deeper(record.config, _DEEP):
            return record
        what = f"config: nested deeper than {_DEEP} levels"
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        if (version := _version_of(data)) != str(VERSION):
            raise NewerRecord(
                f"{name}: record of version {brief(version)}; this retable reads version {VERSION}:"
                " update it"
            ) from None
        what = _in_words(str(error))
    raise RecordError(f"{name}: broken record ({brief(what)})")


def _version_of(data: bytes) -> str:
    try:
        return repr(msgspec.json.decode(data, type=_Versioned).version)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return str(VERSION)  # not even that can be read


def _in_words(said: str) -> str:
    """What msgspec says of a file, the place first."""
    text, _, place = said.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    if match := re.fullmatch("Object contains unknown field `(.*)`", text):
        text, name = "is unknown here; of a newer retable?", match[1]
        place = f"{place}.{name}" if place else name
    return f"{place or 'file'}: {text}"


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether JSON is nested deeper than that."""
    level = [value]
    for _ in range(levels):
        items = [item.values() if isinstance(item, dict) else item for item in level]
        level = [v for some in items for v in some if isinstance(v, dict | list)]
        if not level:
            return False
    return True


def write_attempt(folder: Path, record: Record) -> Path:
    """Write an attempt's own record, atomically and last."""
    write_atomic(path := folder / RUN_RECORD, dump(record))
    return path


def publish(attempt_record: Path, run_folder: Path) -> bool:
    """Make an attempt's record the run's; False where the run already has one."""
    try:
        (run_folder / RUN_RECORD).hardlink_to(attempt_record)
    except FileExistsError:
        return False
    return True


def replace_published(attempt_record: Path, run_folder: Path) -> None:
    """Put an attempt's record in the place of the run's, whatever is there; under the lease."""
    # Renaming one link of a file onto another does nothing and leaves it there, to be removed.
    with beside(run_folder / RUN_RECORD) as temporary:
        temporary.hardlink_to(attempt_record)
        temporary.replace(run_folder / RUN_RECORD)


def attempts(run_folder: Path) -> list[Path]:
    """Folders of a run's attempts, newest first."""
    try:
        found = [p for p in (run_folder / "attempts").iterdir() if _is_number(p.name)]
    except (FileNotFoundError, NotADirectoryError):  # asking first would miss one removed meanwhile
        return []
    return sorted(found, key=lambda p: int(p.name), reverse=True)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()  # a folder named ² would pass isdigit


def read_run(run_folder: Path, warn: Callable[[str], None]) -> Record | None:
    """The record that speaks for a run: its published one, else the newest attempt's.

    A broken file is skipped with a warning that names it.
    """
    for folder in _in_order(run_folder):
        try:
            # A done attempt that is not the run's record was published and lost, or was killed
            # just before.
            record = read(folder / RUN_RECORD)
        except RecordError as error:
            warn(f"{error}; skipped")
            continue
        if record is not None:
            return record
    return None


def _in_order(run_folder: Path) -> Iterator[Path]:
    yield run_folder
    yield from attempts(run_folder)  # looked at only where the run itself has none


def read(path: Path) -> Record | None:
    """Read one record of a run or of an attempt, None where there is no file.

    Raises:
        RecordError: where the file cannot be read, is broken, or belongs to another run.
    """
    found = read_with_stat(str(path))
    return found and found[0]


def read_with_stat(file: str) -> tuple[Record, os.stat_result | None] | None:
    """As :func:`read`, with the file's stat after reading; None for one that was growing."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while more := os.read(handle, _AT_ONCE):
                data += more
            stat = os.fstat(handle)  # after reading: what is changed later gets another time
        finally:
            os.close(handle)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RecordError(f"{file}: cannot be read ({error.strerror})") from None
    record = parse(data, file)
    if record.key != _key_of(file):
        raise RecordError(f"{file}: belongs to another run ({record.key[:12]})")
    return record, stat if len(data) == stat.st_size else None


def _key_of(file: str) -> str:
    """Name of the run's folder; a file's folder is that, or one of its attempts."""
    *_, above, attempts, folder, _ = ["", "", *file.split("/")]
    return above if attempts == "attempts" else folder


def run_folder(runs: Path, paper: str, key: str) -> Path:
    """Folder of one run."""
    return runs / paper / key


def text_sha256(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
