r"""The BERT of ``peft_debias`` and its patches against ``transformers``: the same numbers.

    PYTHONPATH=src uv run --with 'transformers>=5,<6' python scripts/check_bert.py

Both networks have the same weights, one batch, padded; compared are the logits of tokens that are
no padding. The project does not depend on the library: torchmetrics imports it wherever it is
installed, which would slow every start.
"""

from __future__ import annotations

from typing import Any

import torch

from retable.papers.peft_debias.bert import Classifier, MaskedLM, Sizes

WORDS, CLASSES = 101, 7


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Five texts of at most 17 tokens, and which of them are no padding."""
    ids = torch.randint(1, WORDS, (5, 17), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:], mask[3, 4:] = 0, 0
    return ids * mask, mask


def main() -> None:
    """Compare the two kinds of network.

    Raises:
        SystemExit: where they differ.
    """
    import transformers as library

    library: Any
    sizes = Sizes(2, 64, 2, 256, 64)
    config = library.BertConfig(
        vocab_size=WORDS,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=64,
        num_labels=CLASSES,
    )
    ids, mask = batch()
    for own, theirs in (
        (MaskedLM(sizes, WORDS, dropout=0.1, pad=0), library.BertForMaskedLM(config)),
        (Classifier(sizes, WORDS, CLASSES, dropout=0.1, pad=0),
         library.BertForSequenceClassification(config)),
    ):  # fmt: skip
        missing = own.load_state_dict(theirs.state_dict(), strict=False)
        own.eval(), theirs.eval()
        with torch.no_grad():
            ours, wanted = own(ids, mask), theirs(input_ids=ids, attention_mask=mask).logits
        if ours.ndim == 3:
            ours, wanted = ours[mask.bool()], wanted[mask.bool()]
        off = float((ours - wanted).abs().max())
        print(f"{type(theirs).__name__}: off by {off:.1e} at most; {missing}")
        if off > 1e-5:
            raise SystemExit("they compute something else")


if __name__ == "__main__":
    main()
