r"""Tokens per second of training a masked language model: in the harness, and by `transformers`.

    RETABLE_MIRROR=... PYTHONPATH=src uv run --with 'transformers>=5,<6' --with accelerate \
        python scripts/bench_text.py

- ours: `retable.papers.peft_debias` as a run has it, from the end of the first epoch on, with
  metrics, history and a checkpoint after every epoch; batches of similar lengths;
- theirs: `transformers.Trainer` with its own BERT of the same size and start, the same tokenised
  posts (Gab), its collator, which fills a batch to its longest text, and AdamW with the same rate.

Tokens are those of texts, not what fills a batch. Both in turn, in one process of one thread, by
processor time, the median of several rounds; no evaluation in either. Before anything is timed
their losses on one batch are compared.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.papers.peft_debias.encoder import NETWORKS
from retable.training.execute import Context, build, execute

EPOCHS = 4
"""Of these all but the first are timed."""


def config(given: argparse.Namespace, folder: Path, vocabulary: int) -> dict[str, Any]:
    """Of a run: epochs that are timed after one that is not."""
    here = "retable.papers.peft_debias"
    return {
        "seed": 0,
        "stages": ["fit"],
        "paths": {"cache": str(folder / "cache"), "mirror": os.environ["RETABLE_MIRROR"]},
        "device": {"accelerator": "cpu"},
        "data": {
            "_target_": f"{here}.data_text.Gab",
            "task": "mlm",
            "max_length": given.length,
            "batch_size": given.batch,
            "iterations": given.iterations,
        },
        "model": {
            "_target_": f"{here}.upstream.MaskedWords",
            "network": given.network,
            "vocabulary": vocabulary,
            "dropout": 0.1,
            "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-4},
        },
        "trainer": {"max_epochs": EPOCHS, "limit_val_batches": 0, "deterministic": True},
    }


def our_tokens(data: Any) -> int:
    """Tokens of the texts of the epochs that are timed."""
    loader = data.train_dataloader()
    found = 0
    for epoch in range(1, EPOCHS):
        loader.epoch = lambda epoch=epoch: epoch
        found += sum(int(batch["attention_mask"].sum()) for batch in loader)
    return found


def ours(made: dict[str, Any], folder: Path) -> float:
    """Seconds of all epochs but the first in the harness."""
    ends: list[float] = []
    execute(made, Context(folder, on_epoch=lambda *_: ends.append(time.process_time())))
    return ends[-1] - ends[0]


class Collator:
    """Fills a batch to its longest text and masks it, as the library's own does.

    Args:
        special: tokens that are not masked.
        mask: the token that masks.
        vocabulary: number of tokens.
    """

    def __init__(self, special: list[int], mask: int, vocabulary: int) -> None:
        self.special, self.mask, self.vocabulary = torch.tensor(special), mask, vocabulary
        self.tokens = 0

    def __call__(self, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """A batch."""
        texts = [row["input_ids"] for row in rows]
        self.tokens += sum(len(text) for text in texts)
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        within = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in texts], True)
        chance = torch.full(ids.shape, 0.15).masked_fill(torch.isin(ids, self.special), 0.0)
        chosen = torch.bernoulli(chance).bool()
        labels = ids.where(chosen, -100)
        hidden = torch.bernoulli(torch.full(ids.shape, 0.8)).bool() & chosen
        other = torch.bernoulli(torch.full(ids.shape, 0.5)).bool() & chosen & ~hidden
        ids = ids.where(~hidden, self.mask)
        ids = ids.where(~other, torch.randint(self.vocabulary, ids.shape))
        return {"input_ids": ids, "attention_mask": within, "labels": labels}


def theirs(data: Any, network: Any, given: argparse.Namespace, folder: Path) -> tuple[float, int]:
    """Seconds and tokens of as many steps by `transformers.Trainer`, after those not timed."""
    import transformers as library

    library: Any
    words = data.tokenizer
    collator = Collator(words.special, words.mask, words.vocab_size)
    marks: list[tuple[float, int]] = []

    class Clock(library.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (given.iterations, EPOCHS * given.iterations):
                marks.append((time.process_time(), collator.tokens))

    arguments = library.TrainingArguments(
        output_dir=str(folder),
        max_steps=EPOCHS * given.iterations,
        per_device_train_batch_size=given.batch,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        weight_decay=0.01,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    texts = data.tokenizer.encode_all(data.rows("train").texts)
    rows = [{"input_ids": torch.tensor(text)} for text in texts]
    library.Trainer(network, arguments, collator, train_dataset=rows, callbacks=[Clock()]).train()
    (begin, before), (end, after) = marks
    return end - begin, after - before


def other_network(given: argparse.Namespace, weights: dict[str, Tensor], vocabulary: int) -> Any:
    """The library's, with our start."""
    import transformers as library

    library: Any
    sizes = NETWORKS[given.network]
    network = library.BertForMaskedLM(
        library.BertConfig(
            vocab_size=vocabulary,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.inner,
            max_position_embeddings=sizes.positions,
        )
    )
    network.load_state_dict(weights, strict=False)
    return network


def main() -> None:
    """Compare and time them.

    Raises:
        SystemExit: where their losses differ.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="small", choices=sorted(NETWORKS))
    for option, default in (("length", 128), ("batch", 32), ("iterations", 50), ("rounds", 3)):
        parser.add_argument(f"--{option}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="retable-bench-") as name:
        folder = Path(name)
        made = config(given, folder, 8005)
        data, module = build(made)
        data.prepare_data()
        data.setup("fit")
        weights = {n.removeprefix("net."): w for n, w in module.net.state_dict().items()}
        network = other_network(given, weights, data.vocabulary)
        batch = next(iter(data.train_dataloader()))
        inputs = batch["input_ids"], batch["attention_mask"]
        module.net.eval(), network.eval()
        with torch.no_grad():
            both = module.net(*inputs), network(*inputs).logits
        losses = [float(F.cross_entropy(x.flatten(0, 1), batch["labels"].flatten())) for x in both]
        print(f"loss on one batch: ours {losses[0]:.6f}, theirs {losses[1]:.6f}")
        if abs(losses[0] - losses[1]) > 1e-4:
            raise SystemExit("they compute something else")
        tokens, rates = our_tokens(data), {"ours": [], "theirs": []}
        for number in range(given.rounds):
            again = other_network(given, weights, data.vocabulary)
            seconds, seen = theirs(data, again, given, folder / f"theirs-{number}")
            rates["theirs"].append(seen / seconds)
            rates["ours"].append(tokens / ours(made, folder / f"ours-{number}"))
    for name, found in rates.items():
        each = [round(rate) for rate in found]
        print(f"{name:8} {statistics.median(found):10.0f} tokens per second {each}")
    pairs = [a / b for a, b in zip(rates["ours"], rates["theirs"], strict=True)]
    print(f"ratio    {statistics.median(pairs):10.2f} {[round(r, 2) for r in pairs]}")


if __name__ == "__main__":
    main()
