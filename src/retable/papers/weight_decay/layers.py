"""A language model whose weights have a rate each, which follows the norm of each in another run.

The paper does not say which norm it means; the
:class:`~retable.papers.weight_decay.language.LanguageModel` has that of all weights together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from retable.papers.base import Arrays, Start
from retable.papers.weight_decay.language import LanguageModel
from retable.papers.weight_decay.norms import Norms
from retable.papers.weight_decay.schedule import rate
from retable.util.errors import UserError


class LayerwiseModel(LanguageModel):
    """The same model, which also leaves the norm of each decayed weight, and can follow those.

    With ``match`` the rate of weight ``l`` is ``eta_t ||w'_{t,l}|| / ||w_{t,l}||``, with eta and w
    of the run that it starts from. ``train/rate``, which with ``match_rest`` is the rate of what
    is not decayed, goes by the norm of all together, as in the other model. Artefact ``layers``
    has ``norm``, ``(iterations, weights)`` in the order of the network, and ``rate``, ``eta_t``.
    """

    def build_model(self) -> None:
        """The network, and what is kept of each weight."""
        super().build_model()
        self.layers = Norms()
        self._followed_layers: Tensor | None = None

    def optimized(self) -> Iterable[Any]:
        """A group for each weight that is decayed, and one of the rest."""
        decayed, *rest = super().optimized()
        return [*({**decayed, "params": [weight]} for weight in decayed["params"]), *rest]

    def take_start(self, start: Start) -> None:
        """Take the norms of each weight too, where they are followed."""
        super().take_start(start)
        if not self.match:
            return
        if "layers" not in start.artifacts:
            raise UserError(
                "model.match: the run that this one starts from has left no artefact 'layers'"
                f" (left: {sorted(start.artifacts)}); start from one of a {type(self).__name__}"
            )
        followed, own = start.artifacts["layers"]["norm"], len(self.decayed())
        if followed.shape[1] != own:
            raise UserError(
                f"model.net: has {own} weights that are decayed, the run that this one starts from"
                f" {followed.shape[1]}; give the same network"
            )
        self._followed_layers = followed

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Set the rate of each weight for this iteration, and note norms and rate."""
        norms = torch.stack([weight.detach().norm() for weight in self.decayed()])
        t, whole = self.trainer.global_step, norms.norm()
        if self._followed is None or self._followed_layers is None:
            eta = rate(t, lr=self.lr, min_lr=self.min_lr, warmup=self.warmup, horizon=self.horizon)
            together, factors = 1.0, [1.0] * len(norms)
        else:
            eta = float(self._followed[1][t])
            together = float(whole) / float(self._followed[0][t])
            factors = (norms.cpu().double() / self._followed_layers[t].double()).tolist()
        factors.append(together if self.match_rest else 1.0)
        for group, factor in zip(optimizer.param_groups, factors, strict=False):
            group["lr"] = eta * factor
        self.norms.add(whole, eta * together)
        self.layers.add(norms, eta)

    def artifacts(self) -> dict[str, Arrays]:
        """Norms and rates by iteration, of all weights together and of each."""
        return {**super().artifacts(), "layers": self.layers.gather()}
