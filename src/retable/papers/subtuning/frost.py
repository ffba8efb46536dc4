"""Textures in the place of the photographs that the corruption ``frost`` lays over images."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retable.training.seeds import derive_seed

_FROST = (
    # mean and deviation of red, green and blue of the benchmark's five photographs at a fifth of
    # their size, and which share of the variance is coarse
    ((78, 148, 165), (28, 16, 15), 0.68),
    ((198, 202, 212), (20, 20, 21), 0.5),
    ((198, 202, 212), (20, 20, 21), 0.5),
    ((142, 157, 170), (28, 28, 29), 0.35),
    ((104, 115, 127), (39, 38, 37), 0.53),
)
_SIDE = 128
_SLOPE = -2.4


@cache
def textures() -> NDArray[Any]:
    """What stands for the photographs of frost, ``(5, 128, 128, 3)`` in [0, 255], periodic.

    Sums of a coarse Gaussian field and of white noise, the same in all channels (the photographs'
    go together, too: their correlation is 0.94 to 0.99). Deviations within and between pieces of 32
    pixels and correlations of pixels 1 to 8 apart are about the photographs'; crystals are missing.
    The corruption comes out harder than the benchmark's: 47.2 % against 52.3 % for a ResNet-20 of
    91.7 % on clean images, at severity 5.
    """
    random = np.random.default_rng(derive_seed(0, "frost"))
    frequency = np.fft.fftfreq(_SIDE) * _SIDE
    k = np.hypot(frequency[:, None], frequency)
    k[0, 0] = np.inf  # no part of the mean
    out: list[NDArray[Any]] = []
    for mean, deviation, share in _FROST:
        white, fine = random.normal(size=(2, _SIDE, _SIDE))
        coarse = np.fft.ifft2(np.fft.fft2(white) * k ** (_SLOPE / 2)).real
        field = np.sqrt(share) * coarse / coarse.std() + np.sqrt(1 - share) * fine
        out.append(np.clip(np.array(mean) + field[..., None] * np.array(deviation), 0, 255))
    return np.stack(out)
