"""A perceptron with dropout, in automatic and manual optimisation."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import PaperModule, StepOutput
from retable.training import data_parallel

# isort: split
from retable.papers.digits import faults

faults.arm()  # on import: the lease is taken before a module is built


class Perceptron(PaperModule):
    """One hidden layer.

    ``fail`` and ``sleep`` are what the tests of the engine need: a fault and a duration. A sleep
    and the end of a process are nothing that could change a number of a run that survives them.
    """

    splits = True

    def __init__(
        self,
        *,
        seed: int,
        hidden: int = 32,
        dropout: float = 0.1,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_monitor: str = "val/loss",
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
        channels_last: bool = False,
        manual: bool = False,
        norm: bool = True,
        sleep: float = 0.0,
        test_sleep: float = 0.0,
        results: int = 0,
        fail: Literal["no", "raise", "diverge", "late", "exit", "kill", "oom", "elsewhere"] = "no",
        exit_code: int = 9,
    ) -> None:
        self.hidden, self.dropout, self.sleep, self.fail = hidden, dropout, sleep, fail
        self.norm = norm
        self.test_sleep, self.more_results, self.exit_code = test_sleep, results, exit_code
        super().__init__(
            seed=seed,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_monitor=scheduler_monitor,
            scheduler_interval=scheduler_interval,
            channels_last=channels_last,
        )
        self.automatic_optimization = not manual

    def build_model(self) -> None:
        self.net = nn.Sequential(
            nn.Linear(64, self.hidden),
            nn.BatchNorm1d(self.hidden) if self.norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden, 10),
        )

    def build_losses(self) -> None:
        self.criterion = nn.CrossEntropyLoss()

    def build_metrics(self) -> None:
        self.use_metrics(MetricCollection({"accuracy": MulticlassAccuracy(10, average="micro")}))

    def shared_step(self, batch: Any) -> StepOutput:
        x, y = batch
        logits = self.net(x)
        return StepOutput(self.criterion(logits, y), logits, y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 0 and self.sleep:
            time.sleep(self.sleep)
        if self.fail == "raise":
            raise RuntimeError("asked to <b>fail</b>")
        if self.fail == "elsewhere" and data_parallel.axes():
            raise RuntimeError("asked to fail, but not in the first process")
        if self.fail == "exit":
            os._exit(self.exit_code)
        if self.fail == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail == "oom":
            _use_up_memory()
        loss = super().training_step(batch, batch_idx)
        if self.fail == "diverge":
            loss = loss * float("nan")
            self.log("train/nan", loss, on_step=False, on_epoch=True)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        time.sleep(self.test_sleep)
        for step in range(self.more_results if batch_idx == 0 else 0):
            self.add_result("extra/steps", float(step), step=step)
        return super().test_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.fail == "late":
            self.log("train/late", float("nan"))
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/lr", torch.tensor(lr, dtype=torch.float64))
        # What a paper's own schedule would go by; it has to be the same after a resumption.
        self.log("train/current_epoch", float(self.current_epoch))


def _use_up_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
    hoard: list[torch.Tensor] = []
    while True:
        hoard.append(torch.ones(2**22))
