"""A search over sets of blocks as a run: every epoch trains and scores one set."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from scipy.stats import spearmanr
from torch import Tensor

from retable.papers.base import Arrays, Start
from retable.papers.subtuning import networks, search
from retable.papers.subtuning.candidates import Images, Recipe, SetTrainer, folds_of
from retable.papers.subtuning.module_base import OnAllImages
from retable.papers.subtuning.networks import Name
from retable.papers.subtuning.weights import load_start


class Search(OnAllImages):
    """Scores sets of blocks of a pretrained network, and chooses one greedily.

    An epoch trains one set, anew from the pretrained weights, and logs its ``search/accuracy`` and
    ``search/blocks``; it ends when nothing is left to be tried. Scores are kept in the state, so
    that a killed search goes on after the last set that it has scored. Test images are not used.

    Results of a profile: ``search/accuracy`` of each set in its row (``none``, ``all``, ``B1``,
    ``B1+B7``, ...), and of its singles, pairs or windows ``search/mean``, ``search/best``,
    ``search/depth`` of the best (its last block, as a share of L), ``search/apart`` (between first
    and last block of the best) and ``search/monotone``, the absolute rank correlation (Spearman) of
    accuracy with depth. Artefact ``search``: ``map`` ``(L, L)``, accuracy of blocks i and j.

    Results of a greedy search: ``search/accuracy`` of the chosen set, ``search/size``,
    ``search/share`` (of the parameters in blocks), ``search/trainings``, in rows ``B1`` to
    ``BL`` ``search/picked`` (0 or 1); forwards ``search/first``, how many blocks come after the
    first pick. Artefact ``search``: ``chosen`` ``(L,)``, ``steps``. Both have ``tried`` and
    ``scores`` in their order.

    Args:
        seed: the run's seed.
        network: see :data:`~retable.papers.subtuning.networks.Name`.
        n_classes: of the labels.
        size: side that images have for the network; others are resized to it.
        head: a new one for every training, or the pretrained one; it is trained in either case.
        sets: a greedy search, or the sets of a profile, with none and all of the blocks.
        score: mean over ``folds`` of the training images, or the validation images.
        folds: k.
        rule: of the greedy search, see :func:`~retable.papers.subtuning.search.greedy`.
        direction: as there.
        eps: as there, as a share (0.01 is one point of accuracy).
        epochs: of a training.
        batch_size: of a training.
        batch_norm: of tuned blocks, by batches or as pretrained.
        optimizer: ``_partial_``, for every training anew.
        scheduler: ``_partial_``, stepped after every epoch of a training.
        channels_last: memory format, for speed.
    """

    tried: Tensor
    scores: Tensor

    def __init__(
        self,
        *,
        seed: int,
        network: Name,
        n_classes: Annotated[int, Field(ge=2)],
        size: Annotated[int, Field(ge=8)] | None = None,
        head: Literal["new", "kept"] = "new",
        sets: Literal["greedy", "singles", "pairs", "windows2", "windows3"] = "greedy",
        score: Literal["folds", "validation"] = "folds",
        folds: Annotated[int, Field(ge=2)] = 5,
        rule: Literal["gain", "patience"] = "patience",
        direction: Literal["forward", "backward", "best"] = "forward",
        eps: Annotated[float, Field(ge=0)] = 0.01,
        epochs: Annotated[int, Field(ge=1)] = 10,
        batch_size: Annotated[int, Field(ge=1)] = 256,
        batch_norm: Literal["train", "eval"] = "train",
        optimizer: Any = None,
        scheduler: Any = None,
        channels_last: bool = False,
    ) -> None:
        self.network: Name = network
        self.n_classes, self.size = n_classes, size
        self.head: Literal["new", "kept"] = head
        self.sets: search.Fixed | Literal["greedy"] = sets
        self.score, self.folds = score, folds
        self.rule: search.Rule = rule
        self.direction: search.Direction = direction
        self.eps, self.epochs, self.batch_size = eps, epochs, batch_size
        self.batch_norm: Literal["train", "eval"] = batch_norm
        self.channels_last = channels_last
        self.scheduler = scheduler  # not the base's: that would be of the run
        super().__init__(seed=seed, optimizer=optimizer)

    def build_model(self) -> None:
        """The network, whose weights are never changed, and the scores so far."""
        self.net = networks.network(self.network, self.n_classes, self.size)
        n = len(self.net)
        self._fixed = [] if self.sets == "greedy" else search.fixed(self.sets, n)
        most = len(self._fixed) or search.most(n)
        # A set is a number whose bit i says whether block i is tuned; -1: not yet tried.
        self.register_buffer("tried", torch.full((most,), -1, dtype=torch.int64))
        self.register_buffer("scores", torch.full((most,), torch.nan, dtype=torch.float64))

    def take_start(self, start: Start) -> None:
        """Take pretrained weights of a file, or the network of another run."""
        load_start(self.net, start, self.network, self.head)

    def on_fit_start(self) -> None:
        """Refuse a run that could not end, and put images and folds in place."""
        n, n_epochs = len(self.tried), self.trainer.max_epochs or 0
        if n_epochs < n:
            raise ValueError(
                f"trainer.max_epochs: {n_epochs} is below the {n} sets that model.sets:"
                f" {self.sets} may have to try; it ends by itself when it is done"
            )
        images, labels = self.data.train[:2]
        if self.score == "validation" and not len(self.data.validation[0]):
            raise ValueError("model.score: validation, but there are no validation images; folds")
        if self.score == "folds" and self.folds > len(labels):
            raise ValueError(f"model.folds: {self.folds} of {len(labels)} training images")
        recipe = Recipe(
            self.epochs,
            self.batch_size,
            self._optimizer,
            self.scheduler,
            self.batch_norm,
            self.head,
            self.augmentation(),
            self.channels_last,
        )
        self._trainer_of_sets = SetTrainer(
            self.net, images, labels, recipe, self.n_classes, self.seed
        )
        self._folds = folds_of(len(labels), self.folds, self.seed)
        if self.score == "validation":
            held_out, self._labels = self.data.validation[:2]
            sets = self._trainer_of_sets
            self._validation = Images(sets.net, held_out, kept=sets.kept)

    def _known(self) -> dict[search.Set, float]:
        """Scores by set, in the order in which they were tried."""
        n = int((self.tried >= 0).sum())
        masks, scores = self.tried[:n].tolist(), self.scores[:n].tolist()
        return {self._blocks(m): s for m, s in zip(masks, scores, strict=True)}

    def _blocks(self, mask: int) -> search.Set:
        return tuple(i for i in range(len(self.net)) if mask >> i & 1)

    def _next(self) -> search.Set | search.Found | None:
        """What is to be tried; a choice, or None, where nothing is left."""
        known = self._known()
        if self._fixed:
            return next((blocks for blocks in self._fixed if blocks not in known), None)
        n = len(self.net)
        return search.pending(
            known, lambda score: search.greedy(n, score, self.rule, self.direction, self.eps)
        )

    def work(self) -> dict[str, float]:
        """Train and score the next set."""
        blocks = self._next()
        if not isinstance(blocks, tuple):
            return {}
        sets = self._trainer_of_sets
        if self.score == "folds":
            value = sets.cross_validated(blocks, self._folds)
        else:
            value = sets.validated(blocks, self._validation, self._labels)
        n = len(self._known())
        self.tried[n] = sum(1 << i for i in blocks)
        self.scores[n] = value
        self.trainer.should_stop = not isinstance(self._next(), tuple)
        return {"search/accuracy": value, "search/blocks": float(len(blocks))}

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Record scores, or the choice."""
        found = self._next()
        if isinstance(found, search.Found):
            self._record_choice(found)
        elif found is None and self.sets != "greedy":
            self._record_profile(self.sets)

    def _record_profile(self, kind: search.Fixed) -> None:
        n, known = len(self.net), self._known()
        for blocks, value in known.items():
            self.add_result("search/accuracy", value, search.named(blocks, n))
        sets = search.ordered(kind, n)
        values = [known[blocks] for blocks in sets]
        best = sets[values.index(max(values))]
        self.add_result("search/mean", sum(values) / len(values))
        self.add_result("search/best", max(values))
        self.add_result("search/depth", (best[-1] + 1) / n)
        self.add_result("search/apart", best[-1] - best[0])
        if kind != "pairs" and len(set(values)) > 1:
            rho = float(cast("Any", spearmanr(range(len(values)), values)).statistic)
            self.add_result("search/monotone", abs(rho))

    def _record_choice(self, found: search.Found) -> None:
        n, known = len(self.net), self._known()
        sizes = [sum(p.numel() for p in block.parameters()) for block in self.net.blocks]
        self.add_result("search/accuracy", found.score)
        self.add_result("search/size", len(found.chosen))
        share = sum(sizes[i] for i in found.chosen) / sum(sizes)
        self.add_result("search/share", share)
        trainings = len(known) * (self.folds if self.score == "folds" else 1)
        self.add_result("search/trainings", trainings)
        for i in range(n):
            self.add_result("search/picked", float(i in found.chosen), f"B{i + 1}")
        if self.direction == "forward":
            singles = [known[(i,)] for i in range(n)]
            self.add_result("search/first", n - 1 - singles.index(max(singles)))

    def artifacts(self) -> dict[str, Arrays]:
        """What was tried, with the choice, or with the map of a profile's pairs."""
        n, known = len(self.net), self._known()
        done = len(known)
        arrays: dict[str, Tensor] = {"tried": self.tried[:done], "scores": self.scores[:done]}
        found = self._next()
        if isinstance(found, search.Found):
            chosen = torch.zeros(n, dtype=torch.bool)
            chosen[list(found.chosen)] = True
            arrays |= {"chosen": chosen, "steps": torch.tensor(found.steps, dtype=torch.int64)}
        if self.sets == "pairs":
            grid = torch.full((n, n), torch.nan, dtype=torch.float64)
            for blocks, value in known.items():
                if len(blocks) in (1, 2):
                    grid[blocks[0], blocks[-1]] = grid[blocks[-1], blocks[0]] = value
            arrays["map"] = grid
        return {"search": arrays}
