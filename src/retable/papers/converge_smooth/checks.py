"""What attacks refuse, lest nonsense look like robustness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import Tensor

from retable.util.errors import UserError, nearest


def refuse_other(name: str, given: str, choices: Iterable[str]) -> None:
    """Refuse a word that is none of the choices.

    Raises:
        ValueError: for such a word.
    """
    choices = [*choices]
    if given not in choices:
        raise ValueError(f"{name}: '{given}'{nearest(given, choices)}")


def refuse_sizes(**sizes: float) -> None:
    """Refuse what is no distance between images in [0, 1], such as one in 255ths.

    Two budgets, as N-FGSM's noise has them, are a distance too.

    Raises:
        ValueError: for the first size below 0 or above 2.
    """
    for name, size in sizes.items():
        if not 0 <= size <= 2:
            raise ValueError(f"{name}: {size:g}; pixels are in [0, 1], so that 8/255 is 0.0314")


def refuse_pixels(images: Tensor, *, read: bool = False) -> None:
    """Refuse images of integers, and those that leave [0, 1], to which attacks clip.

    Args:
        images: any shape.
        read: whether their range is looked at, for which a GPU has to be waited for.

    Raises:
        ValueError: for such images.
    """
    if not images.is_floating_point():
        raise ValueError(f"images: {images.dtype}; attacks need floating-point pixels in [0, 1]")
    if read and images.numel():
        low, high = (float(end) for end in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"images: from {low:.4g} to {high:.4g}; attacks clip to [0, 1], so that pixels have"
                " to be there: neither 0 to 255 nor centred nor whitened (data.preprocess)"
            )


def refuse_batch(images: Tensor) -> None:
    """Refuse a batch of data as :func:`refuse_pixels` does, as a mistake of the config.

    Raises:
        UserError: for images that are not in [0, 1].
    """
    try:
        refuse_pixels(images, read=True)
    except ValueError as error:
        raise UserError(f"data: {error}") from None


def refuse_counts(name: str, counts: Sequence[int]) -> None:
    """Refuse numbers of steps that do not rise from 0 or more.

    Raises:
        ValueError: for such numbers.
    """
    counts = [*counts]
    if not counts or counts[0] < 0 or any(a >= b for a, b in pairwise(counts)):
        raise ValueError(f"{name}: {counts}; numbers of steps, from 0 or more on and rising")


def refuse_budget(name: str, budget: float) -> None:
    """Refuse a budget that is hardly meant in 255ths.

    Raises:
        ValueError: for one below 1 or above 255.
    """
    if not 1 <= budget <= 255:
        meant = f" ({budget:g} of it is {255 * budget:g})" if budget < 1 else ""
        raise ValueError(
            f"{name}: {budget:g}; is in 255ths of the range of pixels, from 1 to 255{meant}"
        )


def refuse_items(items: Sequence[Tensor] | None, n_images: int, n_classes: int) -> None:
    """Refuse training items ``images, labels, ids`` that a module is not made for.

    Raises:
        UserError: for items without ids, more images than perturbations are kept of, and classes
            that the network does not have.
    """
    if items is None:
        return
    if len(items) < 3:
        raise UserError("data.with_ids: has to be true, as images keep their perturbations")
    last, highest = int(items[2].max()), int(items[1].max())
    if last >= n_images:
        raise UserError(f"model.n_images: is {n_images}, and the set has an image {last}")
    if highest >= n_classes:
        raise UserError(f"model.n_classes: is {n_classes}, and the set has a class {highest}")


def refuse_early_end(phases: Sequence[int], epochs: int | None) -> None:
    """Refuse phases that end before the training does: the term would be off from there on.

    Raises:
        UserError: for such phases.
    """
    if epochs is not None and phases[-1] < epochs:
        raise UserError(
            f"model.smoothing.phases: {[*phases]} ends before the {epochs} epochs of"
            " trainer.max_epochs, and the term with it"
        )
