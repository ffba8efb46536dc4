"""SLURM's own commands, called with a time limit; what they refuse becomes one clear line.

What they print is asked for field by field, so that no version's layout is parsed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retable.util.errors import UserError, brief

TIMEOUT_S = 60.0
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REVOKED",
        "TIMEOUT",
    }
)
"""States of jobs that are over; whatever else squeue may say, the job is still to be counted on."""
_HELD = re.compile(r"held|hold", re.IGNORECASE)  # JobHeldUser, launch failed requeued held, ...
_SEPARATOR = "|"
_FIELDS = ("%F", "%K", "%T", "%N", "%L", "%r", "%k")  # the comment last: it may hold anything
# Of a user's defaults for sbatch, these say who pays and where, which is left to them unless the
# script says it. The others (SBATCH_EXPORT, SBATCH_OUTPUT ...) would override the script.
_LEFT_TO_USER = ("account", "clusters", "constraint", "partition", "qos", "reservation")
_GONE = re.compile(r"Invalid job id|already (completing|completed|finished)|not found", re.I)
_DEAD = re.compile(r"Unable to contact|Connection (refused|timed out)|Socket timed out", re.I)
_INFINITE = ("infinite", "unlimited", "n/a", "")


@dataclass(frozen=True)
class Queued:
    """A job, or a task of a job array, as squeue shows it.

    Attributes:
        job: id of the job, for a task that of its array.
        task: number of the task; None for a job that is no array.
        state: in full, as ``PENDING``.
        node: where it runs, empty while it waits.
        left: time until its limit, as ``1-02:03:04``.
        reason: why it waits, or ``None`` as SLURM writes it.
        comment: what it was given at submission.
    """

    job: str
    task: int | None
    state: str
    node: str
    left: str
    reason: str
    comment: str = ""

    @property
    def living(self) -> bool:
        """Whether it has not ended for good."""
        return self.state not in ENDED

    @property
    def held(self) -> bool:
        """Whether it waits until somebody releases it, as after a start that failed on its node."""
        return self.state in ("PENDING", "REQUEUE_HOLD") and _HELD.search(self.reason) is not None

    @property
    def id(self) -> str:
        """Job id as scancel and scontrol take it."""
        return self.job if self.task is None else f"{self.job}_{self.task}"


@dataclass(frozen=True)
class Shape:
    """Resources of a kind of node: cores, memory in MB, GPUs by type (the empty one: any)."""

    cpus: int
    memory_mb: int
    gpus: dict[str, int]


@dataclass(frozen=True)
class Partition:
    """A partition; its time limit is in minutes, None where there is none."""

    name: str
    default: bool
    minutes: int | None
    shapes: list[Shape]


def sbatch(script: Path, *options: str) -> str:
    """Submit a script; returns the job's id.

    Raises:
        UserError: with SLURM's own reason where it refuses.
    """
    text = script.read_text(encoding="utf-8")
    said = _call(["sbatch", "--parsable", *options, str(script)], _environment(text)).strip()
    number = said.splitlines()[-1].partition(";")[0] if said else ""
    if not number.isdecimal():
        raise UserError(f"sbatch: printed no job id but '{brief(said)}'")
    return number


def squeue(jobs: Sequence[str], users: Sequence[str] = ()) -> list[Queued]:
    """Jobs, with each task of an array by itself, in one call.

    What the controller has forgotten is absent; what has ended a short while ago is not.

    Args:
        jobs: ids; none where ``users`` are given.
        users: all jobs of theirs instead.
    """
    if users:
        which = f"--user={','.join(sorted(set(users)))}"
    elif jobs:
        which = f"--jobs={','.join(jobs)}"
    else:
        return []
    options = ["--noheader", "--array", "--states=all", f"--format={_SEPARATOR.join(_FIELDS)}"]
    try:
        text = _call(["squeue", *options, which])
    except _Refused as error:
        if _GONE.search(error.said):  # asked for one only, squeue fails where that is gone
            return []
        raise
    found: list[Queued] = []
    for line in text.splitlines():
        parts = line.split(_SEPARATOR, len(_FIELDS) - 1)
        if len(parts) == len(_FIELDS):
            job, task, state, node, left, reason, comment = (part.strip() for part in parts)
            number = int(task) if task.isdecimal() else None
            found.append(Queued(job, number, state, node, left, reason, comment))
    return found


def scancel(ids: Sequence[str]) -> None:
    """Cancel jobs, arrays or tasks (``12_3``); those that have ended are no mistake."""
    for start in range(0, len(ids), 500):  # the kernel bounds how long a command line may be
        try:
            _call(["scancel", *ids[start : start + 500]])
        except _Refused as error:
            if not _GONE.search(error.said):
                raise


def requeue(id: str) -> None:
    """Put a job back into the queue.

    Raises:
        UserError: where SLURM refuses, such as for a job that is not running.
    """
    _call(["scontrol", "requeue", id])


def partitions() -> list[Partition]:
    """Every partition with the kinds of nodes that it has."""
    options = ["--noheader", "--all", "--exact", "--format=%P|%l|%c|%m|%G"]
    found: dict[str, Partition] = {}
    for line in _call(["sinfo", *options]).splitlines():
        parts = [part.strip() for part in line.split(_SEPARATOR)]
        if len(parts) != 5:
            continue
        name, limit, cpus, memory, gres = parts
        plain = name.removesuffix("*")
        one = found.setdefault(plain, Partition(plain, name != plain, minutes_of(limit), []))
        cores, mb = (_number(text) for text in (cpus, memory))
        if cores and mb:  # a partition without nodes has none
            one.shapes.append(Shape(cores, mb, gpus_of(gres)))
    return list(found.values())


def max_array_size() -> int:
    """Tasks that one job array may have."""
    text = _call(["scontrol", "show", "config"])
    size = re.search(r"^\s*MaxArraySize\s*=\s*(\d+)", text, re.MULTILINE)
    if size is None:
        raise UserError("scontrol show config: names no MaxArraySize; set cluster.max_array")
    fewer = re.search(r"\bmax_array_tasks=(\d+)", text)
    return min(int(size[1]), int(fewer[1])) if fewer else int(size[1])


def minutes_of(text: str) -> int | None:
    """A time limit as SLURM writes it (``[days-]hours:minutes:seconds``); None: no limit."""
    if text.lower() in _INFINITE:
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:  # minutes, minutes:seconds or hours:minutes:seconds
        hours, minutes, seconds = ((0, *parts, 0) if len(parts) < 3 else (*parts, 0))[:3]
    return int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0)


def gpus_of(gres: str) -> dict[str, int]:
    """GPUs by type from sinfo's ``gpu:a100:4(S:0-1),gpu:2``; the empty type counts them all."""
    found: dict[str, int] = {}
    for kind, count in re.findall(r"\bgpu:(?:([\w.-]+):)?(\d+)(?![\w.:-])", gres):
        for name in {"", kind}:
            found[name] = found.get(name, 0) + int(count)
    return found


class Unreachable(UserError):
    """Nobody answers; it may be different in a while."""


class _Refused(UserError):
    """A command of SLURM's that failed, with all that it said."""

    def __init__(self, text: str, said: str) -> None:
        super().__init__(text)
        self.said = said


def _number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


def _environment(script: str = "") -> dict[str, str]:
    """Without what a surrounding job has set, which would be taken for wishes about the new one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
    if "SLURM_CONF" in os.environ:
        kept["SLURM_CONF"] = os.environ["SLURM_CONF"]
    for option in _LEFT_TO_USER:
        name = f"SBATCH_{option.upper()}"
        if name in os.environ and f"#SBATCH --{option}=" not in script:
            kept[name] = os.environ[name]
    return kept


def _call(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    name = command[0]
    conf = os.environ.get("SLURM_CONF")
    if conf and not Path(conf).is_file():  # they would try for a minute
        raise UserError(f"SLURM_CONF={brief(conf)}: is not a file; correct it or unset it")
    try:
        done = subprocess.run(  # noqa: S603
            command,
            env=environment or _environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,  # Ctrl-C is for us: a submission half made could not be undone
        )
    except FileNotFoundError:
        raise UserError(
            f"{name}: no such command here; launcher=slurm works where SLURM's commands are, as on"
            " a login node"
        ) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(
            f"slurmctld does not answer ({name} took over {TIMEOUT_S:.0f} s); try again when"
            " `scontrol ping` says that it is up"
        ) from None
    except OSError as error:
        raise UserError(f"{name}: cannot be started ({error.strerror})") from None
    if done.returncode:
        said = done.stderr or done.stdout
        lines = [_plain(line) for line in said.splitlines() if line.strip()]
        if dead := next((line for line in lines if _DEAD.search(line)), None):
            raise Unreachable(
                f"slurmctld does not answer ({brief(dead)}); try again when `scontrol ping` says"
                " that it is up"
            )
        if any("configuration source" in line for line in lines):
            raise UserError(f"{name}: no SLURM is configured here; is SLURM_CONF set?")
        first = brief(lines[0], 300) if lines else f"ended with exit code {done.returncode}"
        raise _Refused(f"{name}: {first}", said)
    return done.stdout


def _plain(line: str) -> str:
    # Such as "sbatch: error: Batch job submission failed: Invalid account ...".
    return re.sub(r"^(\w+: )?((error|fatal): )?(Batch job submission failed: )?", "", line.strip())
