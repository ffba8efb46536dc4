"""A causal Transformer: all states of a trajectory in one pass, or one by one with kept keys.

Post-norm layers with ReLU, as of ``torch.nn.TransformerEncoder``, sinusoidal positions, and one
output layer that gives the forward logits and log F of the state that a position stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retable.papers.subtb.sequences import MASKED, SequenceSpace


def sinusoids(length: int, width: int) -> Tensor:
    """Positions as sines and cosines of ``width / 2`` frequencies, ``(length, width)``."""
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


class Layer(nn.Module):
    """Self-attention and two dense layers, each with a residual and a norm behind it."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same; position t sees 0 .. t."""
        batch, length, width = x.shape
        parts = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=drop)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        x = self.norm1(x + F.dropout(mixed, self.dropout, self.training))
        hidden = F.dropout(self.up(x).relu(), self.dropout, self.training)
        return self.norm2(x + F.dropout(self.down(hidden), self.dropout, self.training))


class SequenceModel(nn.Module):
    """Forward logits and log F of all states of a trajectory.

    Args:
        space: the space; its start token and actions are embedded.
        layers: number of Transformer layers.
        heads: attention heads; they share the width.
        width: of the embedding.
        hidden: of the dense layers.
        dropout: probability, of training's pass alone.
        head: widths of hidden layers between the Transformer and the outputs.
        flow_init: log F of all states at the start, by the bias of its output.
    """

    positions: Tensor

    def __init__(
        self,
        space: SequenceSpace,
        *,
        layers: int = 3,
        heads: int = 8,
        width: int = 64,
        hidden: int = 64,
        dropout: float = 0.0,
        head: Sequence[int] = (),
        flow_init: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"model.width: {width} is no multiple of model.heads, {heads}")
        self.space = space
        self.embedding = nn.Embedding(space.actions + 1, width)
        self.register_buffer("positions", sinusoids(space.steps, width), persistent=False)
        self.layers = nn.ModuleList(Layer(width, heads, hidden, dropout) for _ in range(layers))
        widths = [width, *head]
        hiddens = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
        self.head = nn.Sequential(*hiddens, nn.Linear(widths[-1], space.actions + 1))
        with torch.no_grad():
            self.output.bias[-1] += flow_init

    @property
    def output(self) -> nn.Linear:
        """The last layer: ``actions`` logits, then log F."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        return last

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, T, actions)`` and log F ``(B, T)`` of the states that end at each token.

        Args:
            tokens: ``(B, T)`` of :meth:`SequenceSpace.inputs`, T at most the space's steps.
        """
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        out = self.head(x)
        return out[..., :-1], out[..., -1]


class Decoder:
    """One step after the other, with keys and values kept; no gradients.

    Weights are taken transposed and with the attention's scale once, so that a step is a few
    small matrix products into memory that is already there.

    Args:
        model: the network; its weights are those at this moment.
        batch: trajectories.
    """

    def __init__(self, model: SequenceModel, batch: int) -> None:
        self.model, self.batch = model, batch
        width = model.embedding.embedding_dim
        self.layers = [_Weights(layer) for layer in model.layers if isinstance(layer, Layer)]
        heads = self.layers[0].heads if self.layers else 1
        # Positions lie innermost, so that both products of attention run along them.
        shape = (len(self.layers), 2, batch, heads, width // heads, model.space.steps)
        self.kept = torch.empty(shape, device=model.positions.device, dtype=model.positions.dtype)
        self.table = model.embedding.weight.detach()
        self.head = [
            (layer.weight.detach().t(), layer.bias.detach())
            for layer in model.head
            if isinstance(layer, nn.Linear)
        ]
        # log F is not needed to sample.
        weight, bias = self.head[-1]
        self.head[-1] = (weight[:, :-1], bias[:-1])

    def step(self, tokens: Tensor, t: int) -> Tensor:
        """Logits ``(B, actions)`` after the tokens ``(B,)`` at position t; t goes up from 0."""
        x = self.table[tokens] + self.model.positions[t]
        rows, depth = self.kept.shape[2] * self.kept.shape[3], self.kept.shape[4]
        for w, kept in zip(self.layers, self.kept, strict=True):
            parts = torch.addmm(w.qkv_bias, x, w.qkv).view(self.batch, 3, w.heads, depth)
            kept[..., t] = parts[:, 1:].transpose(0, 1)
            keys, values = kept.view(2, rows, depth, -1)[..., : t + 1]
            scores = torch.bmm(parts[:, 0].reshape(rows, 1, depth), keys)
            mixed = torch.bmm(values, scores.softmax(2).view(rows, t + 1, 1))
            mixed = torch.addmm(w.out_bias, mixed.view(self.batch, -1), w.out)
            x = F.layer_norm(x.add_(mixed), w.shape, w.scale1, w.shift1)
            hidden = torch.addmm(w.up_bias, x, w.up).relu_()
            x = F.layer_norm(
                torch.addmm(w.down_bias, hidden, w.down).add_(x), w.shape, w.scale2, w.shift2
            )
        *hiddens, (weight, bias) = self.head
        for w_hidden, b_hidden in hiddens:
            x = torch.addmm(b_hidden, x, w_hidden).relu_()
        return torch.addmm(bias, x, weight)


class _Weights:
    """A layer's weights as a step uses them."""

    def __init__(self, layer: Layer) -> None:
        self.heads = layer.heads
        width = layer.out.in_features
        scaled = torch.ones(3 * width, device=layer.qkv.weight.device, dtype=layer.qkv.weight.dtype)
        scaled[:width] = (width // layer.heads) ** -0.5
        self.qkv = (layer.qkv.weight.detach() * scaled[:, None]).t().contiguous()
        self.qkv_bias = layer.qkv.bias.detach() * scaled
        self.out, self.out_bias = layer.out.weight.detach().t(), layer.out.bias.detach()
        self.up, self.up_bias = layer.up.weight.detach().t(), layer.up.bias.detach()
        self.down, self.down_bias = layer.down.weight.detach().t(), layer.down.bias.detach()
        self.shape = (width,)
        self.scale1, self.shift1 = layer.norm1.weight.detach(), layer.norm1.bias.detach()
        self.scale2, self.shift2 = layer.norm2.weight.detach(), layer.norm2.bias.detach()


@torch.no_grad()
def sample(
    model: SequenceModel,
    batch: int,
    *,
    random_action: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw trajectories from (1 - eps) P_F + eps uniform over the actions that there are.

    Args:
        model: the network.
        batch: B, how many.
        random_action: eps.
        generator: of the draws; torch's global one where left out.

    Returns:
        Actions ``(B, steps)``, 0 behind the end, and transitions ``(B,)``.
    """
    space, device = model.space, model.positions.device
    steps = space.steps
    # argmax(logits + Gumbel noise) is a draw from their softmax; all noise is drawn at once.
    noise = torch.empty(steps, batch, space.actions, device=device, dtype=model.positions.dtype)
    noise.exponential_(generator=generator).log_().neg_()
    explore = torch.rand(steps, batch, 1, device=device, generator=generator) < random_action
    explores = explore.flatten(1).any(1).tolist() if random_action > 0 else [False] * steps
    missing = torch.where(space.valid, 0.0, MASKED).to(noise)
    if space.stop:
        noise += missing[:, None]
    decoder = Decoder(model, batch)
    actions = torch.zeros(steps, batch, dtype=torch.long, device=device)
    lengths = torch.full((batch,), steps, device=device)
    tokens = torch.full((batch,), space.start, device=device)
    running = torch.ones(batch, dtype=torch.bool, device=device)
    for t in range(steps):
        logits = decoder.step(tokens, t)
        if explores[t]:
            logits = torch.where(explore[t], 0.0, logits)
        tokens = torch.argmax(logits.add_(noise[t]), 1, out=actions[t])
        if space.stop:
            tokens.mul_(running)
            ends = running & (tokens == space.words)
            lengths[ends] = t + 1
            running &= ~ends
            if not running.any():
                break
    return actions.t().contiguous(), lengths
