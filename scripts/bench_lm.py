"""Tokens per second of training a language model: in the harness, and as a plain loop.

- ours: `retable.papers.weight_decay` as a run has it, from the end of the first epoch on, with
  metrics, history, norms and a checkpoint after every epoch;
- literal: nanoGPT's model and step written out (batches stacked sequence by sequence, autocast,
  clipping, AdamW), nothing else.

Both in turn, in one process, the median of several rounds; no evaluation in either. On a processor
it is processor time, of one thread, which what else the machine does makes no longer. They begin
with the same weights, and their losses on one batch are compared before anything is timed.

    python scripts/bench_lm.py
    python scripts/bench_lm.py --device cuda --precision bf16-mixed --layers 12 --heads 12 \
        --width 768 --vocabulary 50304 --context 256 --batch 64 --iterations 50
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import argparse
import contextlib
import hashlib
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.training.execute import Context, build, execute


class LiteralAttention(nn.Module):
    """As nanoGPT has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)
        self.heads, self.width = heads, width

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same."""
        b, t, c = x.size()
        q, k, v = self.c_attn(x).split(self.width, dim=2)
        k = k.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        q = q.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        v = v.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))


class LiteralMLP(nn.Module):
    """As nanoGPT has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, bias=False)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same."""
        return self.c_proj(self.gelu(self.c_fc(x)))


class LiteralBlock(nn.Module):
    """As nanoGPT has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = LiteralAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = LiteralMLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class LiteralGPT(nn.Module):
    """As nanoGPT has it, without dropout."""

    def __init__(self, vocabulary: int, context: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.h = nn.ModuleList([LiteralBlock(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width, bias=False)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = self.wte(idx) + self.wpe(pos)
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


def config(given: argparse.Namespace, folder: Path, text: bytes) -> dict[str, Any]:
    """Of a run: three epochs and one more, of which nothing is timed."""
    net = {k: getattr(given, k) for k in ("vocabulary", "context", "layers", "heads", "width")}
    here = "retable.papers.weight_decay"
    return {
        "seed": 0,
        "stages": ["fit"],
        "paths": {"cache": str(folder / "cache"), "mirror": str(folder)},
        "device": {"accelerator": "gpu" if given.device == "cuda" else "cpu"},
        "data": {
            "_target_": f"{here}.text_characters.CharacterText",
            "file": "text.txt",
            "sha256": hashlib.sha256(text).hexdigest(),
            "context": given.context,
            "batch_size": given.batch,
            "iterations": given.iterations,
        },
        "model": {
            "_target_": f"{here}.language.LanguageModel",
            "net": {"_target_": "retable.nets.gpt.GPT", **net},
            "lr": 1e-3,
            "min_lr": 1e-4,
            "warmup": 10,
            "horizon": 10_000,
            "decay": 0.1,
            "optimizer": {
                "_target_": "torch.optim.AdamW",
                "_partial_": True,
                "betas": [0.9, 0.95],
                # As in the reduced protocol; where gradients are clipped in mixed precision it
                # cannot be.
                "fused": given.device == "cpu",
            },
        },
        "trainer": {
            "max_epochs": 4,
            "precision": given.precision,
            "deterministic": True,
            "gradient_clip_val": 1.0,
            "limit_val_batches": 0,
        },
    }


def now(device: str) -> float:
    """Seconds, when the device has done what it was given."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def ours(made: dict[str, Any], folder: Path, device: str) -> float:
    """Seconds of three epochs in the harness."""
    ends: list[float] = []
    context = Context(folder, on_epoch=lambda *_: ends.append(now(device)))
    execute(made, context)
    return ends[-1] - ends[0]


class Literal:
    """Nanogpt's loop.

    Args:
        given: the options.
        text: to be trained on.
        weights: to begin with.
    """

    def __init__(self, given: argparse.Namespace, text: bytes, weights: dict[str, Tensor]) -> None:
        self.given = given
        self.data = np.frombuffer(text, dtype=np.uint8).astype(np.uint16) - 33
        sizes = (given.vocabulary, given.context, given.layers, given.heads, given.width)
        self.model = LiteralGPT(*sizes)
        self.model.load_state_dict(weights)
        self.model.to(given.device)
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
        half = given.precision == "bf16-mixed"
        self.autocast = (
            torch.autocast(given.device, dtype=torch.bfloat16) if half else contextlib.nullcontext()
        )

    def batch(self) -> tuple[Tensor, Tensor]:
        """Sequences one by one."""
        n, data = self.given.context, self.data
        ix = torch.randint(len(data) - n, (self.given.batch,))
        x = torch.stack([torch.from_numpy(data[i : i + n].astype(np.int64)) for i in ix])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + n].astype(np.int64)) for i in ix])
        if self.given.device == "cuda":
            x, y = x.pin_memory(), y.pin_memory()
        return (
            x.to(self.given.device, non_blocking=True),
            y.to(self.given.device, non_blocking=True),
        )

    def step(self, t: int, x: Tensor, y: Tensor) -> None:
        """One iteration."""
        rate = 1e-3 * t / 10 if t < 10 else 1e-4 + 4.5e-4 * (1 + math.cos(math.pi * t / 10_000))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.autocast:
            loss = self.model(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def seconds(self, n: int) -> float:
        """Of n iterations."""
        torch.use_deterministic_algorithms(False)
        self.step(0, *self.batch())
        begin = now(self.given.device)
        batch = self.batch()
        for t in range(n):
            self.step(t, *batch)
            batch = self.batch()
        return now(self.given.device) - begin


def main() -> None:
    """Compare and time them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    for option, default in (
        ("layers", 2), ("heads", 4), ("width", 64), ("vocabulary", 94), ("context", 32),
        ("batch", 32), ("iterations", 100), ("rounds", 3),
    ):  # fmt: skip
        parser.add_argument(f"--{option}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = bytes(np.random.default_rng(0).integers(33, 127, 1_000_000, dtype=np.uint8))
    with tempfile.TemporaryDirectory(prefix="retable-bench-") as name:
        folder = Path(name)
        (folder / "text.txt").write_bytes(text)
        made = config(given, folder, text)
        data, module = build(made)
        data.prepare_data()
        data.setup("fit")
        weights = {n.removeprefix("net."): w for n, w in module.net.state_dict().items()}
        literal = Literal(given, text, weights)
        x, y = (tensor.to(given.device) for tensor in next(iter(data.train_dataloader())))
        with torch.no_grad():
            logits = module.net.to(given.device)(x)
            other = float(literal.model(x, y))
        losses = float(F.cross_entropy(logits.flatten(0, 1), y.flatten())), other
        print(f"loss on one batch: ours {losses[0]:.6f}, literal {losses[1]:.6f}")
        if abs(losses[0] - losses[1]) > 1e-4:
            raise SystemExit("they compute something else")
        n, rates = 3 * given.iterations, {"ours": [], "literal": []}
        tokens = n * given.batch * given.context
        for number in range(given.rounds):
            rates["literal"].append(tokens / literal.seconds(n))
            rates["ours"].append(tokens / ours(made, folder / str(number), given.device))
    for name, found in rates.items():
        each = [round(rate) for rate in found]
        print(f"{name:8} {statistics.median(found):10.0f} tokens per second {each}")
    pairs = [a / b for a, b in zip(rates["ours"], rates["literal"], strict=True)]
    print(f"ratio    {statistics.median(pairs):10.2f} {[round(r, 2) for r in pairs]}")


if __name__ == "__main__":
    main()
