"""Transforms of whole batches of images as tensors ``(N, C, H, W)``; no per-sample Python."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_CHUNK = 10_000


def to_float(images: Tensor) -> Tensor:
    """``(N, H, W, C)`` uint8 to ``(N, C, H, W)`` float32 in [0, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255


def global_contrast_normalize(
    images: Tensor, *, scale: float = 55.0, smallest: float = 1e-6
) -> Tensor:
    """Give every image mean 0 and Euclidean norm ``scale``.

    ``scale * (x - mean(x)) / ||x - mean(x)||``, as in pylearn2 (without its optional bias). An
    image whose norm is below ``smallest`` is centred only.

    Args:
        images: ``(N, C, H, W)``.
        scale: norm of the result; 55 is about ``sqrt(3 * 32 * 32)``: unit variance per pixel.
        smallest: norm below which nothing is divided.
    """
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True) / scale
    return (flat / torch.where(norm < smallest, 1.0, norm)).view_as(images)


@dataclass(frozen=True)
class Whitening:
    """ZCA whitening ``(x - mean) P`` with ``P = V diag(1 / sqrt(eigenvalues)) V^T``.

    Attributes:
        mean: ``(D,)`` of the images it was fitted on.
        matrix: ``(D, D)``, symmetric.
    """

    mean: Tensor
    matrix: Tensor

    @staticmethod
    def fit(images: Tensor, *, bias: float = 0.1) -> Whitening:
        """Fit on images ``(N, C, H, W)``.

        Args:
            images: training images, of which the covariance is taken.
            bias: added to every eigenvalue of the covariance; keeps noise from being blown up.
        """
        flat = images.flatten(1)
        # Sums in double: a covariance of 50,000 images loses digits in single precision.
        mean = flat.mean(0, dtype=torch.float64)
        covariance = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
        for chunk in flat.split(_CHUNK):
            centred = chunk.double() - mean
            covariance += centred.T @ centred
        covariance /= len(flat)
        covariance.diagonal().add_(bias)
        values, vectors = torch.linalg.eigh(covariance)
        return Whitening(mean.float(), ((vectors / values.sqrt()) @ vectors.T).float())

    def __call__(self, images: Tensor) -> Tensor:
        """Whiten images ``(N, C, H, W)``."""
        flat = images.flatten(1)
        return torch.cat([(c - self.mean) @ self.matrix for c in flat.split(_CHUNK)]).view_as(
            images
        )


def pad_crop_flip(images: Tensor, generator: torch.Generator, *, pad: int = 4) -> Tensor:
    """Pad with zeros, crop a window of the original size at random, flip half of the images.

    Args:
        images: ``(N, C, H, W)`` on any device.
        generator: on the CPU, so that the draws are the same for every device.
        pad: pixels added on every side.
    """
    n, _, height, width = images.shape
    draws = torch.randint(2 * pad + 1, (2, n), generator=generator)
    flips = torch.randint(2, (n,), generator=generator, dtype=torch.bool)
    top, left = draws.to(images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(flips.to(images.device)[:, None], width - 1 - columns, columns)
    columns = left[:, None] + columns
    padded = F.pad(images, (pad, pad, pad, pad))
    images_at = torch.arange(n, device=images.device)[:, None, None]
    # (N, H, W, C): the advanced indices come first, the slice over channels last
    return padded[images_at, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
