"""Base of the modules of both phases: an encoder with its patch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import Field
from torch import Tensor, nn

from retable.papers.base import PaperModule
from retable.papers.peft_debias.bert import Bert, Classifier, MaskedLM
from retable.papers.peft_debias.encoder import Network
from retable.papers.peft_debias.patches import Kind, attach
from retable.util.errors import UserError

_KINDS: tuple[str, ...] = get_args(Kind)


class TextModule(PaperModule):
    """Base: the options of an encoder and of its patch.

    Args:
        network: size of the encoder.
        vocabulary: number of tokens, which the data has to have too.
        patch_size: see :func:`~retable.papers.peft_debias.patches.attach`.
        alpha: likewise.
        adapter_reads: likewise.
        dropout: of hidden states and of attention, and before a head of classes.
        **options: of :class:`~retable.papers.base.PaperModule`; ``sft`` needs an optimiser without
            weight decay.
    """

    def __init__(
        self,
        *,
        network: Network = "tiny",
        vocabulary: Annotated[int, Field(ge=6)],
        patch_size: Annotated[int, Field(ge=1)] | None = None,
        alpha: Annotated[float, Field(gt=0)] | None = None,
        adapter_reads: Literal["normed", "dense"] = "normed",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        **options: Any,
    ) -> None:
        self.network: Network = network
        self.adapter_reads: Literal["normed", "dense"] = adapter_reads
        self.vocabulary, self.patch_size, self.alpha = vocabulary, patch_size, alpha
        self.dropout = dropout
        super().__init__(**options)

    def attach(self, bert: Bert, patch: str) -> bool:
        """Attach a patch, where it is one that is attached; say so."""
        if patch not in _KINDS:
            return False
        attach(
            bert,
            cast("Kind", patch),
            seed=self.seed,
            size=self.patch_size,
            alpha=self.alpha,
            adapter_reads=self.adapter_reads,
        )
        return True

    def setup(self, stage: str) -> None:
        """Refuse another number of tokens than the data has.

        Raises:
            UserError: naming the number.
        """
        there = cast("Any", self.trainer).datamodule.vocabulary
        if self.vocabulary != there:
            raise UserError(
                f"model.vocabulary: {self.vocabulary}, but the data has {there} tokens;"
                f" give {there}"
            )

    def optimized(self) -> Iterable[nn.Parameter]:
        """What is trained."""
        return [p for p in self.parameters() if p.requires_grad]


def fit(net: MaskedLM | Classifier, weights: Mapping[str, Tensor], own: Collection[str]) -> None:
    """Load weights of another run.

    Args:
        net: of this one.
        weights: by the names of the other module.
        own: names of what the network may keep, as the other has none.

    Raises:
        ValueError: where any other tensor is in one of the two alone.
    """
    given = {n.removeprefix("net."): w for n, w in weights.items() if n.startswith("net.")}
    fitted = net.load_state_dict(given, strict=False)
    missing = [name for name in fitted.missing_keys if name not in own]
    if odd := [*missing, *fitted.unexpected_keys]:
        raise ValueError(f"start: {odd[0]} is in one of the two networks alone")
