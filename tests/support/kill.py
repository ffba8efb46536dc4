"""Runs of many kinds in the engine's own processes, killed at chosen moments and checked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.forkserver_client import Forkserver
from retable.launch.worker import Exit
from retable.runs import frozen, records, stretches
from retable.runs.identity import targets_of
from retable.runs.lease import is_held
from retable.runs.records import Status
from retable.training.checkpointing import find_resume
from support.runs import LAUNCHED
from support.warm import COLD

FAULTS = "RETABLE_TEST_FAULTS"
EPOCHS = 6


def optimizer(name, **options):
    return f"model.optimizer={_partial(f'torch.optim.{name}', options)}"


def scheduler(name, module="lr_scheduler", **options):
    return f"model.scheduler={_partial(f'torch.optim.{module}.{name}', options)}"


def _partial(target, options):
    rest = "".join(f",{key}: {value}" for key, value in options.items())
    return f"{{_target_: {target},_partial_: true{rest}}}"


DECAY = "{_target_: retable.papers.digits.faults.Decay,rate: 0.5}"
ADAM = optimizer("Adam", lr=0.01)
MOMENTUM = optimizer("SGD", lr=0.05, momentum=0.9)
PLATEAU = [
    optimizer("SGD", lr=0.9),
    scheduler("ReduceLROnPlateau", patience=0, factor=0.3, threshold=0.7),
]
LOWEST = "best_epoch={monitor: val/loss,mode: min}"
HIGHEST = "best_epoch={monitor: val/accuracy,mode: max}"
EARLY = (
    "callbacks={stop: {_target_: pytorch_lightning.callbacks.EarlyStopping,"
    "monitor: val/loss,patience: 1,min_delta: 0.2}}"
)
MANUAL = "model.manual=true"
SETTINGS = {
    "none": [MOMENTUM],
    "StepLR": [ADAM, scheduler("StepLR", step_size=2, gamma=0.3), LOWEST],
    "MultiStepLR": [MOMENTUM, scheduler("MultiStepLR", milestones="[2,4]"), MANUAL],
    "ConstantLR": [ADAM, scheduler("ConstantLR", factor=0.5, total_iters=3), HIGHEST],
    "LinearLR": [MOMENTUM, scheduler("LinearLR", start_factor=0.1, total_iters=4), MANUAL],
    "ExponentialLR": [ADAM, scheduler("ExponentialLR", gamma=0.5), EARLY],
    "PolynomialLR": [optimizer("AdamW", lr=0.01), scheduler("PolynomialLR", total_iters=EPOCHS)],
    "CosineAnnealingLR": [
        MOMENTUM,
        scheduler("CosineAnnealingLR", T_max=4),
        "trainer.accumulate_grad_batches=2",
        "trainer.check_val_every_n_epoch=2",
        HIGHEST,
    ],
    "CosineAnnealingWarmRestarts": [ADAM, scheduler("CosineAnnealingWarmRestarts", T_0=2), MANUAL],
    # The next two change the momentum too.
    "OneCycleLR": [MOMENTUM, scheduler("OneCycleLR", max_lr=0.3, total_steps=8), LOWEST],
    "CyclicLR": [MOMENTUM, scheduler("CyclicLR", base_lr=0.01, max_lr=0.2, step_size_up=2)],
    "LambdaLR": [optimizer("RMSprop", lr=0.01), scheduler("LambdaLR", lr_lambda=DECAY), EARLY],
    "MultiplicativeLR": [ADAM, scheduler("MultiplicativeLR", lr_lambda=DECAY), MANUAL, LOWEST],
    "SWALR": [MOMENTUM, scheduler("SWALR", "swa_utils", swa_lr=0.2, anneal_epochs=4)],
    "ReduceLROnPlateau": [*PLATEAU, LOWEST],
    "ReduceLROnPlateau, training loss": [*PLATEAU, "model.scheduler_monitor=train/loss", EARLY],
}
LOADING = {
    "0 workers": ["data.num_workers=0"],
    "2 workers": ["data.num_workers=2"],
    "2 persistent ones": ["data.num_workers=2", "data.persistent_workers=true"],
}


@dataclass
class Reference:
    """A run that nothing happened to; times in seconds from its start."""

    substance: dict
    epochs: int
    history: str
    best_epoch: int | None
    begins: list[float]
    wall: float

    def rest(self, done):
        """Seconds that a run should take that goes on after so many epochs."""
        return self.begins[0] + self.wall - self.begins[done]


@dataclass
class Ended:
    """How an attempt ended: exit code, and (seconds, phase) of what it went through."""

    code: int
    phases: list[tuple[float, str]]
    wall: float

    @property
    def killed(self):
        return self.code == -signal.SIGKILL

    @property
    def phase(self):
        return self.phases[-1][1] if self.phases else "before the lease"


class Lab:
    """Starts runs with the engine's forkserver, one at a time, and kills them."""

    def __init__(self, base, server):
        self.base, self.server = base, server
        self.order, self.trace = base / "order", base / "trace"
        self.references: dict[str, Reference] = {}
        self.made = 0

    @classmethod
    def open(cls, base) -> Iterator[Lab]:
        run = _freeze("none", base)
        targets = targets_of([run.config.data, run.config.model])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(FAULTS, str(base))  # for the server alone
            patch.setenv(COLD, "1")  # its processes are found by their environment
            server = Forkserver(sorted(targets)).__enter__()
        try:
            yield cls(base, server)
        finally:
            server.__exit__(None, None, None)

    def fresh(self, name):
        """A run that has not begun, in folders of its own."""
        self.made += 1
        return _freeze(name, self.base / f"{self.made}")

    def attempt(self, run, moment=None, order=None):
        """Start a run and kill it after so many seconds, or let it come to an end."""
        self.trace.unlink(missing_ok=True)
        self.order.unlink(missing_ok=True)
        if order is not None:
            self.order.write_text(order)
        frozen.write(run)
        begin = time.monotonic()
        self.server.start(run, LAUNCHED)
        ended = self.server.wait(120 if moment is None else moment)
        if not ended:
            assert moment is not None, f"waited too long for {run.folder}"
            while not (self.server.running or ended):
                ended = self.server.wait(0.01)
            for pid in self.server.running:
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)
            ended = ended or self.server.wait(10)
        wall = time.monotonic() - begin
        lines = self.trace.read_text().splitlines() if self.trace.exists() else []
        parts = (line.partition(" ") for line in lines)
        phases = [(float(when) - begin, phase) for when, _, phase in parts]
        return Ended(ended[0].code, phases, wall)

    def reference(self, name):
        """The run that is not disturbed; done once."""
        if name not in self.references:
            run = self.fresh(name)
            ended = self.attempt(run)
            assert ended.code == Exit.DONE, (name, log_of(run))
            record = records.read(run.folder / "record.json")
            history = history_of(run, record)
            begins = [t for t, phase in ended.phases if phase == "test" or phase[:6] == "epoch "]
            self.references[name] = Reference(
                record.substance(),
                len(history.splitlines()),
                history,
                record.best_epoch,
                begins,
                ended.wall,
            )
        return self.references[name]

    def processes(self):
        """Processes that came from the server, other than itself; zombies do not count."""
        mark, found = f"{FAULTS}={self.base}".encode(), []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return sorted(set(found) - {self.server._process.pid})


def loading_of(name):
    """How the runs of a setting load their data: in turn."""
    return list(LOADING)[list(SETTINGS).index(name) % len(LOADING)]


def _freeze(name, folder):
    loading = LOADING[loading_of(name)]
    common = [
        "experiment=digits/base",
        "seed=0",
        f"trainer.max_epochs={EPOCHS}",
        "data.train_size=600",
        "model.sleep=0.05",  # so that moments fall into epochs more than into the start
    ]
    with hydra_ready():
        return frozen.freeze(compose([*common, f"paths.runs={folder}", *loading, *SETTINGS[name]]))


def log_of(run):
    logs = [p / "log.txt" for p in records.attempts(run.folder)]
    return [log.read_text() for log in logs if log.exists()]


def history_of(run, record):
    return (run.folder / "attempts" / str(record.attempt) / "history.jsonl").read_text()


def saved(run):
    """Epochs of the newest checkpoint, 0 where there is none; every one of them can be read."""
    paths = run.folder.glob("attempts/*/checkpoints/epoch=*.ckpt")
    newest = max((int(p.stem.partition("=")[2]) for p in paths), default=0)
    identity = {"key": run.key, "fingerprint": run.fingerprint, "device": "cpu"}
    resume = find_resume(records.attempts(run.folder), identity, pytest.fail)
    assert (resume.epoch if resume else 0) == newest, (run.folder, newest)
    return newest


def leftovers(run):
    """Temporary files that killed writes have left in a run's folder."""
    known = {"config.yaml", "record.json", "lease.json", "log.txt", "history.jsonl", stretches.FILE}
    return [
        p
        for p in run.folder.rglob("*")
        if p.is_file() and p.name not in known and p.suffix != ".ckpt"
    ]


def check_killed(run, ended, done, reference):
    """What a kill leaves is whole, nothing that was saved is lost, and nobody has to wait."""
    written = [phase for _, phase in ended.phases].count("checkpoint written")
    assert saved(run) >= done + written, (run.folder, done, ended.phases)
    assert frozen.read(run.folder) == run, run.folder
    told = []
    record = records.read_run(run.folder, told.append)
    assert told == [], told
    # Done but not published counts: the next attempt has only to publish it.
    assert record is None or record.substance() == reference.substance, (run.folder, record)
    assert not is_held(run.folder, run.config.launcher.lease_s), run.folder


def check_went_on(run, ended, done):
    """An attempt trained nothing again that had been saved."""
    epochs = [phase for _, phase in ended.phases if phase[:6] == "epoch "]
    assert epochs[:1] in ([], [f"epoch {done}"]), (ended.phases, done)
    # Above all not LEASED: a killed runner's lease is broken at once.
    assert ended.killed or ended.code == Exit.DONE, (ended, log_of(run))


def check_done(run, reference):
    """The published record, weights and history included, is the undisturbed run's."""
    record = records.read(run.folder / "record.json")
    assert record.status is Status.DONE, record
    assert record.substance() == reference.substance, (run.folder, log_of(run))
    assert history_of(run, record) == reference.history, run.folder
    assert record.best_epoch == reference.best_epoch, (run.folder, record.best_epoch)
    assert not (run.folder / "lease.json").exists(), run.folder
    return record
