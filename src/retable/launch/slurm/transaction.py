"""The files of one submission and its jobs: made together, or taken back together."""

from __future__ import annotations

import getpass
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from retable.launch.slurm import client, job_arrays, sbatch
from retable.launch.slurm.job_arrays import ArrayPlan
from retable.launch.slurm.open_jobs import comment
from retable.launch.slurm.submission import (
    FOLDER,
    Array,
    Entry,
    Header,
    Submission,
    Tasks,
)
from retable.runs import frozen, records
from retable.runs.frozen import FrozenRun
from retable.runs.records import Provenance
from retable.util.errors import UserError


class Filing:
    """One submission on its way into the queue.

    Args:
        arrays: what is submitted.
        folder: of all runs.
        interrupted: raises where the user has asked to stop.
    """

    def __init__(
        self, arrays: Sequence[ArrayPlan], folder: Path, interrupted: Callable[[], None]
    ) -> None:
        now = datetime.now(UTC)
        self.created = now.isoformat(timespec="seconds")
        # Two may be made within a second; the newer one has to come behind.
        name = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}-{secrets.token_hex(3)}"
        self.submission = Submission(folder / FOLDER / name)
        self.arrays = arrays
        self.folder = folder
        self.interrupted = interrupted
        self.made: list[FrozenRun] = []
        self.chores: set[str] = set()

    def write(
        self,
        label: str,
        about: Provenance,
        source: Path | None,
        chores: Mapping[str, Sequence[str]],
    ) -> None:
        """Write everything that the jobs will read.

        Args:
            label: what is submitted.
            about: provenance of the submission.
            source: a snapshot; None: the jobs run from the checkout.
            chores: arguments of the commands to be run before and behind.
        """
        submission, some = self.submission, self.arrays[0].tasks[0][0]
        cluster = job_arrays.profile(some)
        for name in ("", "log", "events"):
            (submission.folder / name).mkdir()
        collected = msgspec.json.encode(about)
        (submission.folder / "provenance.json").write_bytes(collected + b"\n")
        arrays = [
            Array(number=number, tasks=len(array.tasks), about=array.about)
            for number, array in enumerate(self.arrays)
        ]
        submission.write(
            Header(
                label=label,
                created=self.created,
                user=getpass.getuser(),
                host=socket.gethostname(),
                cluster=cluster.name,
                source=str(source) if source else None,
                signal_s=cluster.signal_s,
                arrays=arrays,
            )
        )
        for number, array in enumerate(self.arrays):
            tasks = [[self._entry(run) for run in task] for task in array.tasks]
            listed = Tasks(tasks=tasks, at_once=array.at_once, devices=array.needs.devices)
            submission.write_tasks(number, listed)
            text = sbatch.array_script(
                submission, number, array, cluster, sbatch.CodeSource.of(source)
            )
            submission.script(number).write_text(text, encoding="utf-8")
        for name, arguments in chores.items():
            text = sbatch.chore_script(submission, name, cluster, some.config.paths, arguments)
            self._chore(name).write_text(text, encoding="utf-8")
            self.chores.add(name)

    def _entry(self, run: FrozenRun) -> Entry:
        self.interrupted()
        if not run.folder.exists():
            self.made.append(run)
        frozen.write(run)
        name, own = name_of(run, self.folder), f"{run.config.paper}/{run.key}"
        before = max((int(path.name) for path in records.attempts(run.folder)), default=0)
        return Entry(folder=name, home=None if name == own else own, before=before)

    def _chore(self, name: str) -> Path:
        return self.submission.folder / f"{name}.sbatch"

    def queue_up(self, others: Collection[str]) -> None:
        """Submit all of it.

        What starts from another run waits until that has ended, however it has: whether it can
        start, it finds out itself. Waiting for a good end would hold up those whose own has ended
        well, as a job that has failed one of its runs has failed.

        Args:
            others: further jobs of the same launch: publishing waits for them, and so does what
                starts from another run.

        Raises:
            UserError: where SLURM refuses one; what came before is in the queue then.
        """
        submission, prepared = self.submission, ""
        if "prepare" in self.chores:
            prepared = client.sbatch(self._chore("prepare"))
            self._note(chore=("prepare", prepared))
        levels: dict[str, int] = {}
        for array in submission.header.arrays:
            self.interrupted()
            level = self.arrays[array.number].level
            above = {job for job, its in levels.items() if its < level}
            options = _dependencies(prepared, above.union(others) if level else set())
            job = client.sbatch(submission.script(array.number), *options)
            levels[job] = level
            self._note(array, job)
        if "publish" in self.chores:
            self.interrupted()
            jobs = {array.job for array in submission.header.arrays if array.job}
            after = f"--dependency=afterany:{':'.join(sorted(jobs.union(others)))}"
            self._note(chore=("publish", client.sbatch(self._chore("publish"), after)))
        self.interrupted()

    def _note(
        self, array: Array | None = None, job: str = "", chore: tuple[str, str] | None = None
    ) -> None:
        """Write down the id that SLURM gave."""
        header = self.submission.header
        arrays = [a if a != array else a.model_copy(update={"job": job}) for a in header.arrays]
        chores = header.chores if chore is None else {**header.chores, chore[0]: chore[1]}
        self.submission.write(header.model_copy(update={"arrays": arrays, "chores": chores}))

    def undo(self, say: Callable[[str], None]) -> None:
        """Take back what was submitted and written; what cannot be is said."""
        submission = self.submission
        if (submission.folder / "submission.json").exists():
            header = submission.header
            jobs = {array.job for array in header.arrays if array.job} | {*header.chores.values()}
            try:
                # An sbatch that was cut off may have come to its end all the same.
                jobs |= {
                    queued.job
                    for queued in client.squeue([], users=[header.user])
                    if queued.living
                    and queued.comment.startswith(comment(submission.folder.name, ""))
                }
                client.scancel(sorted(jobs))
            except UserError as error:
                if jobs:
                    say(
                        f"warning: jobs could not be cancelled ({error}); do it later: scancel"
                        f" {' '.join(sorted(jobs))}"
                    )
                    return  # as long as they may run, their files have to stay
        shutil.rmtree(submission.folder, ignore_errors=True)
        for run in self.made:
            with suppress(OSError):  # whoever has put something there meanwhile keeps it
                (run.folder / frozen.FILE).unlink(missing_ok=True)
                run.folder.rmdir()


def _dependencies(prepared: str, ended: Collection[str]) -> list[str]:
    """Options of sbatch for a job that waits for one to go well, and for others to end."""
    parts = [f"afterok:{prepared}"] if prepared else []
    parts += [f"afterany:{':'.join(sorted(ended))}"] if ended else []
    if not parts:
        return []
    # Where preparing fails, they would wait for ever.
    killed = ["--kill-on-invalid-dep=yes"] if prepared else []
    return [f"--dependency={','.join(parts)}", *killed]


@contextmanager
def uninterrupted() -> Generator[Callable[[], None]]:
    """Ctrl-C is heeded where what was begun can be taken back; yields what looks for it."""
    seen: list[int] = []

    def look_for_it() -> None:
        if seen:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield look_for_it
        return
    previous = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield look_for_it
    finally:
        signal.signal(signal.SIGINT, previous)


def name_of(run: FrozenRun, folder: Path) -> str:
    """A run's folder as submissions name it: relative to that of all runs."""
    return run.folder.absolute().relative_to(folder.absolute()).as_posix()
