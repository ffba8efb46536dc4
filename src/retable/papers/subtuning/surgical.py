"""Auto-RGN: rates of tensors by their relative gradient norms.

Lee, Chen, Tajwar, Kumar, Yao, Liang, Finn: Surgical Fine-Tuning Improves Adaptation to Distribution
Shifts (ICLR 2023), and its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def is_rated(name: str) -> bool:
    """Whether Auto-RGN trains a tensor: its name in the authors' networks has no ``bn``.

    The stem's norm is called ``bn1`` there. The norm of a projection is ``downsample.1`` in
    torchvision, and so it is trained, as by their rule.
    """
    return "bn" not in name and not name.startswith("stem.1.")


def relative_norms(
    gradients: Iterable[Mapping[str, Tensor]], parameters: Mapping[str, Tensor]
) -> dict[str, float]:
    """Weights of the tensors' rates: ``||gradient|| / ||tensor||``, the largest of them 1.

    The ratio is the mean over batches, as the code has it each epoch over the first five, with an
    optimiser that begins anew. What `is_rated` leaves out is not trained.

    Args:
        gradients: of each batch, by name.
        parameters: by name.

    Returns:
        By name, in [0, 1]; a tensor of zeros has none, and 0 here, as all have where every gradient
        is 0.

    Raises:
        ValueError: without a batch.
    """
    rated = [k for k in parameters if is_rated(k)]
    rows = [torch.stack([g[k].detach().norm() for k in rated]) for g in gradients]
    if not rows:
        raise ValueError("no batch to take gradients of")
    sizes = torch.stack([parameters[k].detach().norm() for k in rated])
    ratios = torch.where(sizes > 0, torch.stack(rows).mean(0) / sizes, 0.0)
    largest = ratios.max()
    weights = torch.where(largest > 0, ratios / largest, 0.0)
    return dict(zip(rated, weights.tolist(), strict=True))
