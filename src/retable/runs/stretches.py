"""Under what the epochs of a run were computed that was killed and went on somewhere else.

A preempted run goes on on another node, or after packages were updated: its record then names the
last, and beside it what was different before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from retable.runs.record_parts import Stretch
from retable.runs.records import Record
from retable.util.text import counted

FILE = "surroundings.json"
_SHOWN = ("torch", "python", "cpu", "accelerator", "driver", "cores")
_OTHERS = ("packages", "cpu_id", "kernels")

_DECODER = msgspec.json.Decoder(list[Stretch])


def begin(attempt: Path, now: Stretch, resumed: Path | None) -> list[Stretch]:
    """Leave with an attempt what its epochs are computed under, and those that it goes on from.

    Args:
        attempt: its folder.
        now: what it is made under.
        resumed: folder of the attempt that it goes on from; None where it starts anew.

    Returns:
        What was different in earlier epochs, each once, as far as these attempts have left it.
    """
    before = [] if resumed is None else _read(resumed)
    earlier = [one for one in before if _facts(one) != _facts(now)]
    # Not made durable: it is lost with the power at worst, and a kill leaves it there.
    (attempt / FILE).write_bytes(msgspec.json.encode([*earlier, now]))
    return earlier


def _read(attempt: Path) -> list[Stretch]:
    try:
        return _DECODER.decode((attempt / FILE).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return []


def _facts(stretch: Stretch) -> tuple[object, ...]:
    """What may change bits or times. Code may not: a run goes on only under equal code."""
    where = [getattr(stretch.provenance, name) for name in (*_SHOWN, *_OTHERS)]
    return (*where, stretch.threads, stretch.workers, stretch.alone)


def told(record: Record, *, times: bool = True) -> list[str]:
    """What each earlier stretch of a run had that its record, which names the last, has not.

    Args:
        record: of the run.
        times: with what makes a run longer and changes no bit.
    """
    said = (", ".join(_told(one, record, times)) for one in record.earlier)
    return [one for one in said if one]


def _told(one: Stretch, record: Record, times: bool) -> Iterator[str]:
    was, now = one.provenance, record.provenance
    for name in _SHOWN:
        if (value := getattr(was, name)) != getattr(now, name):
            yield f"{name} {value or 'none'}"
    if was.cpu_id != now.cpu_id and was.cpu == now.cpu:
        yield "another processor of that name"
    if was.packages != now.packages and was.torch == now.torch:
        yield "other packages"
    if was.kernels != now.kernels:
        yield f"kernels {was.kernels_shown}"
    if one.threads != record.threads:
        yield counted(one.threads, "thread")
    if times and one.workers != record.workers:
        yield f"{one.workers} at once"
    if times and one.alone != record.alone:
        yield "alone" if one.alone else "not alone"
