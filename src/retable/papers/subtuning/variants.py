"""Variants of the paper's first version: a block drawn anew, a head on two networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retable.papers.subtuning.networks import Blocks


def reinitialise(block: nn.Module) -> None:
    """Draw a block's weights anew as torch draws those of its layers; statistics start again."""
    for module in block.modules():
        if isinstance(module, nn.MultiheadAttention):
            # What torch's own reset of it does; the output's projection is a layer by itself.
            nn.init.xavier_uniform_(module.in_proj_weight)
            nn.init.zeros_(module.in_proj_bias)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()


class Siamese(nn.Module):
    """One head on two representations: that of the tuned network and that of the frozen one.

    Args:
        frozen: has no gradients, and stays in evaluation mode.
        tuned: another copy of the same network; its head is not used.
        n_classes: outputs of the head.
    """

    def __init__(self, frozen: Blocks, tuned: Blocks, n_classes: int) -> None:
        super().__init__()
        self.frozen, self.tuned = frozen.requires_grad_(False).eval(), tuned
        self.fc = nn.Linear(frozen.fc.in_features + tuned.fc.in_features, n_classes)
        tuned.fc.requires_grad_(False)

    def train(self, mode: bool = True) -> Siamese:
        """Set the mode, of all but the frozen network."""
        super().train(mode)
        self.frozen.eval()
        return self

    def features(self, x: Tensor) -> Tensor:
        """Both representations ``(B, 2 d)``, the tuned one first, of images ``(B, C, H, W)``."""
        return self._both(x, 0, images=True)

    def after(self, h: Tensor, first: int) -> Tensor:
        """Logits of what block ``first`` is given, where none before it differs."""
        return self.fc(self._both(h, first, images=False))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images ``(B, C, H, W)``."""
        return self.fc(self.features(x))

    def _both(self, x: Tensor, first: int, *, images: bool) -> Tensor:
        nets = (self.tuned, self.frozen)
        return torch.cat([self._one(net, x, first, images) for net in nets], 1)

    @staticmethod
    def _one(net: Blocks, x: Tensor, first: int, images: bool) -> Tensor:
        return net.features(x) if images else net.tail(net.between(x, first, len(net)))
