"""The first blocks that a greedy search has picked, tuned on all labelled images (Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from retable.papers.base import Start
from retable.papers.subtuning.module import FineTune
from retable.papers.subtuning.networks import Name
from retable.papers.subtuning.search import Set
from retable.util.errors import UserError


class FirstPicks(FineTune):
    """Tunes the first blocks of the path that the search has gone, whatever it chose in the end.

    A search that keeps one block has scored pairs too before it stopped. Results are those of
    :class:`~retable.papers.subtuning.module.FineTune`, and ``tuned/blocks``, how many there are,
    fewer than asked for where the search ended before; ``picked/last`` is the number of the last
    of them, from 1.

    Args:
        seed: the run's seed.
        picks: how many blocks.
        network: see :data:`~retable.papers.subtuning.networks.Name`.
        n_classes: of the labels.
        size: side that images have for the network; others are resized to it.
        blocks: those of the search that the run starts from, which went forwards.
        head: as for FineTune.
        batch_norm: as for FineTune.
        optimizer: ``_partial_``.
        scheduler: ``_partial_`` of a scheduler.
        scheduler_interval: when it is stepped.
        channels_last: see the base.
    """

    def __init__(
        self,
        *,
        seed: int,
        picks: Annotated[int, Field(ge=1)],
        network: Name,
        n_classes: Annotated[int, Field(ge=2)],
        size: Annotated[int, Field(ge=8)] | None = None,
        blocks: Literal["found"] = "found",
        head: Literal["new", "kept", "frozen"] = "new",
        batch_norm: Literal["train", "eval"] = "train",
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
        channels_last: bool = False,
    ) -> None:
        self.picks = picks
        super().__init__(
            seed=seed,
            network=network,
            n_classes=n_classes,
            size=size,
            blocks=blocks,
            head=head,
            batch_norm=batch_norm,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            channels_last=channels_last,
        )

    def take_start(self, start: Start) -> None:
        """Take the weights, and the first picks in place of the choice."""
        arrays = start.artifacts.get("search", {})
        if "chosen" in arrays:  # else the base says what is missing
            n = len(arrays["chosen"])
            masks, scores = arrays["tried"].tolist(), arrays["scores"].tolist()
            known = {
                tuple(i for i in range(n) if int(mask) >> i & 1): float(score)
                for mask, score in zip(masks, scores, strict=True)
            }
            path = first_picks(known, n, self.picks)
            first = torch.zeros(n, dtype=torch.bool)
            first[list(path)] = True
            self._last = path[-1] + 1
            search = {**arrays, "chosen": first}
            start = replace(start, artifacts={**start.artifacts, "search": search})
        super().take_start(start)

    def on_test_epoch_end(self) -> None:
        """Record how many blocks there are, and which was picked last."""
        super().on_test_epoch_end()
        self.add_result("picked/last", self._last)
        self.add_result("tuned/blocks", len(self.tuned))


def first_picks(known: Mapping[Set, float], n_blocks: int, most: int) -> Set:
    """The first picks of a forward search.

    Args:
        known: scores of the sets that it has tried.
        n_blocks: L.
        most: picks; fewer where it has tried no larger sets.

    Returns:
        Numbers of blocks from 0, in the order of the picks.

    Raises:
        UserError: where not every single block was tried, so that it did not go forwards.
    """
    if not all((i,) in known for i in range(n_blocks)):
        raise UserError(
            "model.picks: of a search with model.direction: forward, from single blocks"
        )
    path: Set = ()
    for _ in range(most):
        larger = {i: tuple(sorted({*path, i})) for i in range(n_blocks) if i not in path}
        scores = {i: known[blocks] for i, blocks in larger.items() if blocks in known}
        if not scores:
            break
        path = (*path, max(scores, key=scores.__getitem__))  # of equal ones the first, as there
    return path
