"""Drops of water on a lens: the light of the corruption ``spatter`` at its lower severities.

The benchmark takes the outline of the liquid and its distance from it with OpenCV. These are the
same operations, on many small images at once: Canny's edges, the distance by a mask of 5 x 5
(Borgefors 1986), the equalised histogram, and filters of 3 x 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[Any]
Ints = NDArray[np.int64]

_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
# Steps of the distance's mask to pixels that were passed before, rows from the top.
_STEPS = [
    (-2, -1, 2.1969),
    (-2, 1, 2.1969),
    (-1, -2, 2.1969),
    (-1, -1, 1.4),
    (-1, 0, 1.0),
    (-1, 1, 1.4),
    (-1, 2, 2.1969),
    (0, -1, 1.0),
]


def drops(liquid: Floats) -> Floats:
    """How much light drops add, ``(N, H, W)`` in [0, 1]; at most 1 in each image with drops.

    Args:
        liquid: ``(N, H, W)``, 0 where there is none.
    """
    height = (np.clip(liquid, 0, 1) * 255).astype(np.int64)
    far = np.minimum(distance(edges(height, 50, 150)), 20)
    relief = equalised(_mean3(far).astype(np.int64))
    relief = np.clip(_filter3(relief, _EMBOSS), 0, 255)
    light = height * np.rint(_mean3(relief))
    most = light.max((1, 2), keepdims=True)
    return np.where(most > 0, light / np.where(most > 0, most, 1), 0)


def edges(image: Ints, low: int, high: int) -> NDArray[np.bool_]:
    """Canny's edges of ``(N, H, W)`` in 0..255, gradients by Sobel and measured by ``|x| + |y|``.

    Args:
        image: integers.
        low: an edge's pixels exceed it.
        high: one of an edge's pixels exceeds it.
    """
    gx, gy = _sobel(image, 2), _sobel(image, 1)
    size = np.abs(gx) + np.abs(gy)
    around = np.pad(size, ((0, 0), (1, 1), (1, 1)))

    def at(down: int, right: int) -> Ints:
        rows, columns = slice(1 + down, None), slice(1 + right, None)
        return around[:, rows, columns][:, : size.shape[1], : size.shape[2]]

    # tan(22.5 degrees) and tan(67.5 degrees) in units of 2^-15, as in OpenCV
    flat = np.abs(gx) * 13573
    steep = flat + (np.abs(gx) << 16)
    y = np.abs(gy) << 15
    across = (size > at(0, -1)) & (size >= at(0, 1))
    along = (size > at(-1, 0)) & (size >= at(1, 0))
    falling = (size > at(-1, -1)) & (size > at(1, 1))
    rising = (size > at(-1, 1)) & (size > at(1, -1))
    diagonal = np.where((gx ^ gy) < 0, rising, falling)
    thin = np.where(y < flat, across, np.where(y > steep, along, diagonal)) & (size > low)
    within = np.zeros((3, 3, 3), int)
    within[1] = 1  # pixels touch within an image, at corners too
    found: Any = ndimage.label(thin, within)
    regions: Ints = found[0]
    strong = np.zeros(regions.max() + 1, np.bool_)
    strong[regions[thin & (size > high)]] = True
    return strong[regions]


def _sobel(image: Ints, axis: int) -> Ints:
    # Not ndimage's own, which smooths along the axis of the images too.
    other = 3 - axis
    slope: Any = ndimage.correlate1d(image, [-1, 0, 1], axis, mode="nearest")
    smooth: Any = ndimage.correlate1d(slope, [1, 2, 1], other, mode="nearest")
    return smooth


def distance(edge: NDArray[np.bool_]) -> Floats:
    """Distance to the next edge of ``(N, H, W)``, in steps of 1, 1.4 and 2.1969 (two and one)."""
    n, height, width = edge.shape
    # pixels first, so that a pixel of all images lies together
    far = np.full((height + 4, width + 4, n), 1e4, np.float32)
    inner = far[2:-2, 2:-2]
    inner[edge.transpose(1, 2, 0)] = 0
    for sign in (1, -1):  # from the top left, then from the bottom right
        for i in range(height)[::sign]:
            for j in range(width)[::sign]:
                here = inner[i, j]
                for down, right, step in _STEPS:
                    there = far[i + 2 + sign * down, j + 2 + sign * right]
                    np.minimum(here, there + np.float32(step), out=here)
    return inner.transpose(2, 0, 1)


def equalised(image: Ints) -> Ints:
    """Each image of ``(N, H, W)`` in 0..255 with its histogram flattened."""
    flat = image.reshape(len(image), -1)
    n, pixels = flat.shape
    offset = 256 * np.arange(n)[:, None]
    counts = np.bincount((flat + offset).ravel(), minlength=256 * n).reshape(n, 256)
    least = flat.min(1)
    of_least = counts[np.arange(n), least]
    rest = pixels - of_least
    ranks = (counts.cumsum(1) - of_least[:, None]) * (255 / np.maximum(rest, 1))[:, None]
    table = np.rint(np.clip(ranks, 0, 255)).astype(np.int64)
    table = np.where((rest == 0)[:, None], least[:, None], table)
    return np.take_along_axis(table, flat, 1).reshape(image.shape)


def _filter3(x: Floats, kernel: Floats) -> Floats:
    return ndimage.correlate(x, kernel[None], mode="mirror")


def _mean3(x: Floats) -> Floats:
    # The sum first: a mean of ones has to be 1, because what follows cuts off the fraction.
    return (_filter3(x.astype(np.float64), np.ones((3, 3))) * (1 / 9)).astype(np.float32)
