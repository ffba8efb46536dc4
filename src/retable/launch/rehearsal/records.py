"""What rehearsals have found, kept in the cache folder by setting and code; read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from retable.runs.frozen import FrozenRun
from retable.util.atomic import write_atomic

FOLDER = "rehearsals"
PROCESSOR = "this processor"
"""Beginning of a device's title where it is the machine's own."""


@dataclass(frozen=True)
class Rehearsed:
    """Findings of a setting's rehearsal.

    Attributes:
        status: ``done``; ``left``, which is no fault of the setting; or ``failed``.
        network: number of its network among those rehearsed with it.
        parameters: weights of its network.
        flops: of a training step at the full batch, as ``retable.launch.rehearsal.count`` has them.
        peak_bytes: of such a step.
        operations: of such a step.
        step_s: median seconds of such a step on the machine of the rehearsal, where it cannot be
            counted.
        steps: training steps of a run, the most there may be.
        reason: why it is not done, or not counted.
    """

    status: Literal["done", "left", "failed"]
    network: int
    parameters: int | None = None
    flops: int | None = None
    peak_bytes: int | None = None
    operations: int | None = None
    step_s: float | None = None
    steps: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Estimate:
    """Estimated time of a run of a setting, or that it cannot be built or stepped.

    Attributes:
        fingerprint: of the code that was rehearsed.
        rehearsed: what was found.
        seconds: of a run's training steps on the device; None where the setting failed.
        device: name of the device.
        share: of its peak that was assumed; None where the steps were timed.
    """

    fingerprint: str
    rehearsed: Rehearsed
    seconds: float | None
    device: str
    share: float | None

    @property
    def is_of_processor(self) -> bool:
        """Whether it is for the processor of the machine that rehearsed, not for a GPU."""
        return self.device.startswith(PROCESSOR)

    def on(self) -> str:
        """The device in words, and what of it was assumed."""
        return self.device + (f" at {self.share:.0%} of its peak" if self.share else "")


def _file(setting: FrozenRun) -> Path:
    return Path(setting.config.paths.cache) / FOLDER / f"{setting.setting_key}.json"


def keep(setting: FrozenRun, estimate: Estimate) -> None:
    """Write a setting's estimate in the place of an earlier one."""
    file = _file(setting)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, msgspec.json.encode(estimate))


def forget_failure(setting: FrozenRun) -> None:
    """Remove what is kept of a setting that failed in an earlier rehearsal, and does no more."""
    found = kept(setting)
    if found is not None and found.seconds is None:
        _file(setting).unlink(missing_ok=True)


def kept(setting: FrozenRun) -> Estimate | None:
    """A setting's estimate; None where there is none of the present code."""
    try:
        found = msgspec.json.decode(_file(setting).read_bytes(), type=Estimate)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # it is made anew by a rehearsal
        return None
    return found if found.fingerprint == setting.fingerprint else None
