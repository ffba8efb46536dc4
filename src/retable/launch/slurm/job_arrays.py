"""Which runs go into which job of which array, and what those jobs ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from retable.config.schema import ClusterConfig
from retable.launch.slurm.client import Partition, Shape
from retable.runs.frozen import FrozenRun
from retable.util.errors import UserError, nearest
from retable.util.text import duration

Seconds = Callable[[FrozenRun], float | None]
"""Expected duration of a run in seconds; None where no record tells."""


@dataclass(frozen=True)
class Needs:
    """Resources that one run asks for.

    Attributes:
        devices: its processes.
        gpus: of the whole run: none, or one per process.
        cpus: of each process.
        memory_mb: of each process.
        minutes: time limit of its job.
        alone: it measures time: nothing runs beside it.
        node: nothing else may be on its node.
    """

    devices: int
    gpus: int
    cpus: int
    memory_mb: int
    minutes: int
    alone: bool = False
    node: bool = False

    @classmethod
    def of(cls, run: FrozenRun) -> Needs:
        """The run's own ``resources`` over its cluster's profile."""
        config = run.config
        wanted, cluster, devices = config.resources, profile(run), config.device.devices
        cpus = math.ceil((wanted.cpus or cluster.cpus) / devices)
        memory_mb = math.ceil((wanted.memory_gb or cluster.memory_gb) * 1000 / devices)
        return cls(
            devices,
            wanted.gpus,
            max(cpus, config.device.threads),
            memory_mb,
            wanted.minutes or cluster.minutes,
            config.launcher.alone,
            config.launcher.alone and cluster.alone == "node",
        )


@dataclass(frozen=True)
class ArrayPlan:
    """One job array.

    Attributes:
        needs: of each of its runs.
        at_once: runs that a job keeps going at once.
        tasks: the runs of each job, those that take longest first.
        expected_s: of all its runs, one after the other; None where no record tells.
        level: how many runs of the same launch have to be done before one of its own can start;
            its jobs wait for all arrays of lower levels.
    """

    needs: Needs
    at_once: int
    tasks: list[list[FrozenRun]]
    expected_s: float | None
    level: int = 0

    @property
    def runs(self) -> int:
        """Number of its runs."""
        return sum(map(len, self.tasks))

    @property
    def cpus(self) -> int:
        """Cores that a job asks for, per process of a run."""
        return self.needs.cpus * self.at_once

    @property
    def memory_mb(self) -> int:
        """Memory that a job asks for, per process of a run."""
        return self.needs.memory_mb * self.at_once

    @property
    def about(self) -> str:
        """Description of what a job asks for."""
        needs = self.needs
        parts = [f"{needs.gpus} GPU{'s' * (needs.gpus > 1)}"] if needs.gpus else []
        parts += [
            f"{self.cpus * needs.devices} core{'s' * (self.cpus * needs.devices > 1)}",
            f"{self.memory_mb * needs.devices / 1000:.4g} GB",
            duration(needs.minutes * 60),
        ]
        if needs.alone:
            parts.append("nodes of its own" if needs.node else "one run at a time")
        if needs.devices > 1:
            parts.append(f"{needs.devices} processes")
        most = max(map(len, self.tasks))
        if most > 1:
            at_once = f", {self.at_once} at once" if self.at_once > 1 else ""
            parts.append(f"{most} runs a job{at_once}")
        if self.level:
            parts.append("after the runs that they start from")
        return ", ".join(parts)


def profile(run: FrozenRun) -> ClusterConfig:
    """The cluster's profile, which validation has seen to."""
    assert run.config.cluster is not None
    return run.config.cluster


def arrange(
    runs: Sequence[FrozenRun],
    seconds: Seconds,
    max_array: int,
    before: Collection[FrozenRun] = (),
) -> list[ArrayPlan]:
    """Make job arrays of runs; what takes longest comes first, inside and between them.

    Runs that start from others come in arrays of their own, behind those.

    Args:
        runs: of one launch, in the order in which they go where their time is the same.
        seconds: see :data:`Seconds`.
        max_array: tasks that an array may have.
        before: runs that are in the queue already.
    """
    coming = {run.key for some in (runs, before) for run in some}
    groups: dict[tuple[int, Needs], list[tuple[float, FrozenRun]]] = {}
    unknown = False
    for run in runs:
        expected = seconds(run)
        unknown = unknown or expected is None
        level = sum(parent.key in coming for parent in run.chain)
        groups.setdefault((level, Needs.of(run)), []).append((expected or 0.0, run))
    found: list[tuple[tuple[int, float], ArrayPlan]] = []
    for (level, needs), group in groups.items():
        group.sort(key=lambda pair: -pair[0])  # stable
        at_once = _at_once(group[0][1], needs)
        size = max(group[0][1].config.launcher.runs_per_job, at_once)
        tasks = [group[start : start + size] for start in range(0, len(group), size)]
        for start in range(0, len(tasks), max_array):
            part = tasks[start : start + max_array]
            total = None if unknown else sum(s for task in part for s, _ in task)
            most = max(map(len, part))
            plan = ArrayPlan(
                needs, min(at_once, most), [[run for _, run in task] for task in part], total, level
            )
            found.append(((level, -part[0][0][0]), plan))
    return [plan for _, plan in sorted(found, key=lambda pair: pair[0])]


def _at_once(run: FrozenRun, needs: Needs) -> int:
    launcher = run.config.launcher
    if needs.devices > 1 or needs.alone:
        return 1
    return launcher.concurrent_per_gpu if needs.gpus else launcher.workers or 1


def check(arrays: Sequence[ArrayPlan], partitions: Sequence[Partition]) -> None:
    """Refuse what the cluster can never start, as far as it tells.

    Raises:
        UserError: naming the key and what there is.
    """
    if not arrays:
        return
    cluster = profile(arrays[0].tasks[0][0])
    named = _named(cluster, partitions)
    for array in arrays:
        config = array.tasks[0][0].config
        given, own = cluster.name, config.resources
        most = max((math.inf if p.minutes is None else p.minutes for p in named), default=math.inf)
        if array.needs.minutes > most:
            raise UserError(
                f"{'resources' if own.minutes else f'cluster {given}'}: minutes:"
                f" {array.needs.minutes} is above the time limit of partition"
                f" {'/'.join(p.name for p in named)}, {most}; a run that needs longer goes on in"
                f" its next job, so {most} will do"
            )
        if cluster.signal_s >= array.needs.minutes * 60:
            raise UserError(
                f"cluster {given}: signal_s: {cluster.signal_s} s before the time limit is before"
                f" the job begins, with {array.needs.minutes} min"
            )
        _check_size(array, cluster, named)


def _named(cluster: ClusterConfig, partitions: Sequence[Partition]) -> list[Partition]:
    """The partitions that jobs go to; none where only SLURM knows."""
    if cluster.partition is None:
        return [p for p in partitions if p.default]
    known = {p.name: p for p in partitions}
    for name in cluster.partition.split(","):
        if name not in known:
            raise UserError(
                f"cluster {cluster.name}: partition: there is no '{name}'{nearest(name, known)}"
            )
    return [known[name] for name in cluster.partition.split(",")]


def _check_size(array: ArrayPlan, cluster: ClusterConfig, named: Sequence[Partition]) -> None:
    shapes = [shape for partition in named for shape in partition.shapes]
    kind = cluster.gpu_type or ""
    # What one process needs has to be on one node.
    gpus = array.needs.gpus // array.needs.devices
    if not shapes or any(_fits(array, gpus, kind, shape) for shape in shapes):
        return
    where = f"of partition {'/'.join(p.name for p in named)}"
    at_once = f" ({array.at_once} runs at once)" if array.at_once > 1 else ""
    for what, wanted, there, unit in (
        (
            "gpus",
            gpus,
            max(s.gpus.get(kind, 0) for s in shapes),
            f" {kind} GPUs".replace("  ", " "),
        ),
        ("cpus", array.cpus, max(s.cpus for s in shapes), " cores"),
        ("memory_gb", array.memory_mb / 1000, max(s.memory_mb for s in shapes) / 1000, " GB"),
    ):
        if wanted > there:
            raise UserError(
                f"resources.{what} or cluster {cluster.name}: a job asks for"
                f" {wanted:.4g}{unit}{at_once}; no node {where} has more than {there:.4g}"
            )
    raise UserError(
        f"resources or cluster {cluster.name}: no node {where} has all of {array.about}{at_once}"
    )


def _fits(array: ArrayPlan, gpus: int, kind: str, shape: Shape) -> bool:
    # 1 MB is what a node has whose memory nobody has written into the cluster's configuration.
    memory = shape.memory_mb <= 1 or array.memory_mb <= shape.memory_mb
    return array.cpus <= shape.cpus and memory and gpus <= shape.gpus.get(kind, 0)


def as_text(arrays: Sequence[ArrayPlan], cluster: ClusterConfig) -> str:
    """The plan for people: an array a line, the biggest cost first."""
    where = f" (partition {cluster.partition})" if cluster.partition else ""
    jobs = sum(len(array.tasks) for array in arrays)
    known = [a.expected_s for a in arrays if a.expected_s is not None]
    lines = [
        f"{_count(sum(a.runs for a in arrays), 'run')} in {_count(jobs, 'job')} of"
        f" {_count(len(arrays), 'array')} on {cluster.name}{where}, expected:"
        f" {_hours(sum(known) if len(known) == len(arrays) else None)}"
    ]
    for number, array in sorted(enumerate(arrays), key=lambda pair: -(pair[1].expected_s or 0)):
        lines.append(
            f"    array {number}: {_count(array.runs, 'run')}, {_hours(array.expected_s)};"
            f" a job: {array.about}"
        )
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _hours(seconds: float | None) -> str:
    return "unknown (no record yet)" if seconds is None else f"{seconds / 3600:.3g} h of runs"
