"""Run one task of a job array: ``python -m retable.launch.slurm.task SUBMISSION ARRAY``.

Started by ``srun``; the number of the task is SLURM_ARRAY_TASK_ID. It may be started any number of
times and does what is left. Its exit code: 0, nothing is left to do; 1, a run has failed, diverged
or was refused; 143, it was signalled to end before all was done.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.launch.slurm.signals import Told, TooEarly
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.launch.slurm.submission import Entry, Submission
    from retable.runs.attempts import Launched
    from retable.runs.frozen import FrozenRun

TERMINATED = 128 + signal.SIGTERM
_KEPT = ("CONF", "JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT")
_PATIENCE_S = 60.0
"""Seconds for which a controller that does not answer is asked to requeue a job."""


class Task:
    """One task, in one start of its job."""

    def __init__(self, submission: Submission, array: int, number: int, told: Told) -> None:
        self.submission, self.array, self.number, self.told = submission, array, number, told
        self.tasks = submission.tasks(array)
        self.entries = self.tasks.tasks[number]
        array_job = os.environ.get("SLURM_ARRAY_JOB_ID")
        self.id = os.environ.get("SLURM_JOB_ID", "")
        self.job = f"{array_job}_{number}" if array_job else self.id
        told.signal_s = submission.header.signal_s

    def say(self, event: str, **about: Any) -> None:
        """An event, for whoever follows and for the log; a full disk loses it and nothing else."""
        words = [f"{name}={value}" for name, value in about.items() if value is not None]
        try:
            print(time.strftime("%Y-%m-%dT%H:%M:%S"), event, *words, flush=True)
        except OSError:
            pass
        try:
            self.submission.say(self.array, self.number, event, **about)
        except OSError as error:
            print(f"warning: {self.submission.folder}: {error.strerror}", file=sys.stderr)

    def go(self) -> int:
        """Do what is left; returns the exit code."""
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        own = os.environ.get("SLURM_JOB_ID")  # by which leases know it
        self.say("started", job=self.job, id=own, restart=restart, node=node)
        try:
            code, error = self._go(), None
        except UserError as refused:
            code, error = 1, str(refused)
        self.say("left", code=code, error=error)
        return code

    def _go(self) -> int:
        from retable.launch.slurm.task_history import Past, standing

        runs = self.submission.runs
        past = Past.of(self.submission.events(self.array, self.number))
        stand = [standing(runs, entry, past) for entry in self.entries]
        ok = not {"diverged", "failed"} & set(stand)
        open_ = [e for e, s in zip(self.entries, stand, strict=True) if s == "open"]
        for entry, stands in zip(self.entries, stand, strict=True):
            # Done at a side by an earlier start of the job, which may have ended just then.
            ok &= stands != "done" or self._place(entry)
        if not open_:
            return 0 if ok else 1
        works = self._works(open_)
        ok &= len(works) == len(open_)
        if not works:
            return 1
        from retable.launch.multiprocess import FOLLOWED
        from retable.launch.slurm.follower_ranks import nonce_of
        from retable.launch.slurm.supervisor import Supervisor

        launched = self._launched(alone=works[0][1].config.launcher.alone)
        supervisor = Supervisor(works, runs, launched, past, self.told, self.say)
        if self.tasks.devices > 1:
            os.environ[FOLLOWED] = nonce_of(os.environ)
        _forget_slurm()
        source = self.submission.header.source
        try:
            supervisor.go(Path(source) if source else None)
        except TooEarly:
            self.say("stopping", why=self.told.why)
        ok &= supervisor.ok
        if not supervisor.left:
            return 0 if ok else 1
        if not (self.told.may_requeue and self.job):
            return TERMINATED
        attempts = self._attempts()
        if past.idle(attempts) >= supervisor.launcher.max_attempts:
            for run in list(supervisor.left.values()):
                reason = f"the time limit came {past.idle(attempts)} times before it had begun"
                supervisor.give_up(run, reason)
            return 1
        return self._requeue(attempts)

    def _place(self, entry: Entry) -> bool:
        from retable.launch.slurm.task_history import put_in_place

        try:
            put_in_place(self.submission.runs, entry)
        except (UserError, OSError) as error:
            self.say("ended", run=entry.folder, status="failed", error=str(error))
            return False
        return True

    def _works(self, entries: list[Entry]) -> list[tuple[Entry, FrozenRun]]:
        """The runs as they were frozen; an edited one is refused."""
        from retable.runs import frozen

        works: list[tuple[Entry, FrozenRun]] = []
        for entry in entries:
            folder = self.submission.runs / entry.folder
            try:
                run = frozen.read(folder)
                if not run.folder.exists() or not run.folder.samefile(folder):
                    raise UserError(f"{folder}: paths.runs in its config is another folder")
            except UserError as error:
                self.say("refused", run=entry.folder, error=str(error))
            else:
                works.append((entry, run))
        return works

    def _launched(self, *, alone: bool) -> Launched:
        """Provenance: code of the submission; packages and hardware are those of this job."""
        import msgspec

        from retable.runs import provenance
        from retable.runs.attempts import Launched
        from retable.runs.records import Provenance

        path, at_once = self.submission.folder / "provenance.json", self.tasks.at_once
        if not path.exists():
            return Launched(provenance.collect(self.submission.runs), at_once, alone)
        known = msgspec.json.decode(path.read_bytes(), type=Provenance)
        here = msgspec.structs.asdict(provenance.surroundings(self.submission.runs))
        code = {name: getattr(known, name) for name in ("commit", "dirty", "roots")}
        return Launched(Provenance(**{**here, **code}), at_once, alone)

    def _attempts(self) -> int:
        from retable.runs import records

        folders = [self.submission.runs / entry.folder for entry in self.entries]
        return sum(len(records.attempts(folder)) for folder in folders)

    def _requeue(self, attempts: int) -> int:
        """Back into the queue for what is left; a controller that is away is asked again."""
        from retable.launch.slurm import client

        until = min(time.time() + _PATIENCE_S, self.told.end)
        while True:
            cancelled = (self.array, self.number) in self.submission.cancelled()
            if cancelled or not self.told.may_requeue:
                return TERMINATED
            # A requeue ends the job, and scontrol is one of its processes.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
            try:
                client.requeue(self.job)
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                if time.time() > until:
                    return 1
                time.sleep(2)
            else:
                self.say("requeued", attempts=attempts)
                return 0
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget_slurm() -> None:
    """Hide from the runs that this is SLURM: Lightning would take it for one run on all tasks."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        if name.removeprefix("SLURM_") not in _KEPT:
            del os.environ[name]


def main(arguments: list[str]) -> int:
    """Do a task of the submission and array that the command line names."""
    told = Told()
    told.listen()
    if len(arguments) != 2 or not arguments[1].isdecimal():
        print("usage: python -m retable.launch.slurm.task SUBMISSION_FOLDER ARRAY", file=sys.stderr)
        return 2
    from retable.launch.slurm.submission import Submission

    submission, array = Submission(Path(arguments[0]).absolute()), int(arguments[1])
    number = int(os.environ.get("SLURM_ARRAY_TASK_ID") or 0)
    try:
        task = Task(submission, array, number, told)
        if task.tasks.devices > 1 and int(os.environ.get("SLURM_PROCID") or 0) > 0:
            from retable.launch.slurm.follower_ranks import follow_task

            return follow_task(submission, array, number)
        return task.go()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
