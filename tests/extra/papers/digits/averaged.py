"""The perceptron with a running average of its weights, tested beside those that were trained."""

from __future__ import annotations

from typing import Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from retable.data.base import PaperDataModule
from retable.papers.base import Arrays, Start

# isort: split
from retable.papers.digits.module import Perceptron


class Averaged(Perceptron):
    """``ema`` is part of the state, so that checkpoints and the best epoch have it."""

    kept_weights = ("ema",)

    def __init__(self, *, seed: int, decay: float = 0.9, **options: Any) -> None:
        self.decay = decay
        super().__init__(seed=seed, **options)

    def build_model(self) -> None:
        super().build_model()
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(self.decay))

    def optimized(self) -> Any:
        return self.net.parameters()

    def on_train_batch_end(self, *_: Any) -> None:
        self.ema.update_parameters(self.net)

    def take_start(self, start: Start) -> None:
        super().take_start(start)
        self.taken = sorted(start.artifacts)

    def finish_weights(self, name: str | None, data: PaperDataModule) -> None:
        if name == "ema":
            self.net.load_state_dict(self.ema.module.state_dict())
            # In the order of an epoch, which has to be the same whoever has done the fit.
            update_bn((images for images, _ in data.train_dataloader()), self.net)

    def artifacts(self) -> dict[str, Arrays]:
        return {"average": {"first": self.ema.module[0].weight, "count": self.ema.n_averaged}}
