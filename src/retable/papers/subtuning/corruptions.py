"""Corruptions of 32 x 32 images, with the constants of CIFAR-10-C.

The corruptions are those of Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261) as the published
script of CIFAR-10-C has them (``make_cifar_c.py`` of hendrycks/robustness): its constants, its
order of operations, and its rounding, which is to cut off what is below a whole byte. Its random
draws cannot be had again, because no seed was set: the sets made here have the benchmark's
distribution, not its pixels. What is random follows from the corruption, the severity and the
image's place in the array alone, never from a run's seed.

:data:`OWN` names the corruptions that are not the benchmark's in distribution either. ``frost``
lays photographs over the images that are not part of this project; :mod:`.frost` generates others.

``scripts/check_corruptions.py`` compares all of them with other implementations.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from retable.papers.subtuning.frost import textures
from retable.papers.subtuning.water import drops
from retable.training.seeds import derive_seed
from retable.util.errors import UserError, nearest

Name = Literal[
    "frost",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
    "zoom_blur",
    "contrast",
]
"""The fourteen of the paper's Table 2, and contrast."""

NAMES: tuple[str, ...] = get_args(Name)
OWN = frozenset({"frost"})
"""Corruptions that differ from the benchmark's in more than their random draws."""

SIZE = 32
_CHUNK = 500

Bytes = NDArray[np.uint8]
Floats = NDArray[Any]


def corrupt(images: Bytes, name: str, severity: int) -> Bytes:
    """Corrupted copies of images.

    Args:
        images: ``(N, 32, 32, 3)`` uint8.
        name: one of :data:`NAMES`.
        severity: 1 to 5.

    Returns:
        As many images; the same ones whenever they are asked for.

    Raises:
        UserError: for another name or severity.
        ValueError: for images of another shape or type.
    """
    if name not in NAMES:
        raise UserError(f"data.corruption: no corruption '{name}'{nearest(name, NAMES)}")
    if severity not in range(1, 6):
        raise UserError(f"data.severity: {severity} is none of 1 to 5")
    if images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(f"images of {images.dtype} {images.shape}, not uint8 (N, 32, 32, 3)")
    out = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        random = np.random.default_rng(derive_seed(0, "corruption", name, severity, start))
        out[chunk] = _FUNCTIONS[name](images[chunk], severity, random)
    return out


def to_bytes(x: Floats) -> Bytes:
    """Values of [0, 1], clipped to it, as whole bytes; what is left over is cut off."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def blurred(x: Floats, sigma: float) -> Floats:
    """Gaussian blur of ``(N, H, W)`` or ``(N, H, W, C)``, to 4 ``sigma``, edges repeated."""
    axes = (0, sigma, sigma, 0)[: x.ndim]
    return ndimage.gaussian_filter(x, axes, mode="nearest", truncate=4.0)


def contrast(images: Bytes, factor: float) -> Bytes:
    """Distances from the mean of the image's channel times ``factor``."""
    x = images / 255.0
    mean = x.mean((1, 2), keepdims=True)
    return to_bytes((x - mean) * factor + mean)


def gaussian_noise(images: Bytes, scale: float, random: np.random.Generator) -> Bytes:
    """Noise of deviation ``scale`` on every value."""
    return to_bytes(images / 255.0 + random.normal(0.0, scale, images.shape))


def shot_noise(images: Bytes, photons: float, random: np.random.Generator) -> Bytes:
    """A Poisson count of ``photons`` times the value, over ``photons``."""
    return to_bytes(random.poisson(images / 255.0 * photons) / photons)


def impulse_noise(images: Bytes, amount: float, random: np.random.Generator) -> Bytes:
    """A share ``amount`` of the values is 0 or 255, either as likely."""
    draw = random.random(images.shape)
    out = to_bytes(images / 255.0)
    out[draw < amount] = 0
    out[draw < amount / 2] = 255
    return out


def speckle_noise(images: Bytes, scale: float, random: np.random.Generator) -> Bytes:
    """Noise whose deviation is ``scale`` times the value."""
    x = images / 255.0
    return to_bytes(x + x * random.normal(0.0, scale, images.shape))


def gaussian_blur(images: Bytes, sigma: float) -> Bytes:
    """Gaussian blur."""
    return to_bytes(blurred(images / 255.0, sigma))


def glass_blur(images: Bytes, sigma: float, times: int, random: np.random.Generator) -> Bytes:
    """Blur, let every pixel be one of its neighbours, ``times`` over, and blur again.

    The benchmark means to swap a pixel with a neighbour, but its assignment goes through views of
    one array and only copies. The neighbour is the one above, left, above left, or the pixel
    itself: ``randint(-1, 1)`` is -1 or 0. As pixels are taken from the lower right to the upper
    left, none is read after it was written, so that all are copied at once here.
    """
    x = to_bytes(blurred(images / 255.0, sigma))
    inner = np.arange(2, SIZE)
    of_image = np.arange(len(x))[:, None, None]
    for _ in range(times):
        shift = random.integers(-1, 1, (2, len(x), len(inner), len(inner)))
        rows, columns = inner[:, None] + shift[0], inner + shift[1]
        x[:, 2:, 2:] = x[of_image, rows, columns]
    return to_bytes(blurred(x / 255.0, sigma))


def motion_blur(x: Floats, radius: int, sigma: float, angles: Floats) -> Floats:
    """Blur along a line, as ImageMagick's: half a Gaussian, pixels beyond the edge repeat it.

    ``sum_w k_w x[i + round(w sin a), j + round(w cos a)]`` for ``w = 0..2 radius``, where ``k`` is
    proportional to ``exp(-w^2 / (2 sigma^2))`` and halves are rounded down.

    Args:
        x: ``(N, H, W, C)``.
        radius: half of the kernel's length.
        sigma: of the Gaussian, in pixels.
        angles: ``(N,)`` in degrees.
    """
    steps = np.arange(2 * radius + 1)
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    radians = np.deg2rad(angles)[:, None]
    down = np.ceil(steps * np.sin(radians) - 0.5).astype(int)
    right = np.ceil(steps * np.cos(radians) - 0.5).astype(int)
    of_image = np.arange(len(x))[:, None, None]
    height, width = np.arange(x.shape[1]), np.arange(x.shape[2])
    out = np.zeros(x.shape)
    for w, weight in enumerate(kernel):
        rows = (height + down[:, w, None]).clip(0, len(height) - 1)
        columns = (width + right[:, w, None]).clip(0, len(width) - 1)
        out += weight * x[of_image, rows[:, :, None], columns[:, None, :]]
    return out


def zoom_matrix(factor: float, n: int = SIZE) -> Floats:
    """``(n, n)`` matrix ``A`` for which ``A x A^T`` magnifies the middle of ``x``, linearly."""
    cut = int(np.ceil(n / factor))
    n_out = round(cut * factor)
    at = np.arange(n_out) * ((cut - 1) / (n_out - 1))
    at = at[(n_out - n) // 2 :][:n]
    below = np.minimum(at.astype(int), cut - 2)
    out = np.zeros((n, n))
    lines, top = np.arange(n), (n - cut) // 2
    out[lines, top + below] = 1 - (at - below)
    out[lines, top + below + 1] = at - below
    return out


@cache
def zoom_operator(stop: float) -> Floats:
    """``(1024, 1024)`` matrix: mean of an image and its magnifications from 1 below ``stop``."""
    factors = np.arange(1, stop, 0.01)
    both = [np.kron(a, a) for a in (zoom_matrix(float(f)) for f in factors)]
    return (np.eye(SIZE * SIZE) + sum(both)) / (len(both) + 1)


def zoom_blur(images: Bytes, stop: float) -> Bytes:
    """Mean of the image and its magnifications from 1 below ``stop``, 0.01 apart."""
    # One product for all images and channels: many of three columns each take five times as long.
    flat = (images / 255.0).transpose(1, 2, 0, 3).reshape(SIZE * SIZE, -1)
    made = (zoom_operator(stop) @ flat).reshape(SIZE, SIZE, len(images), 3)
    return to_bytes(made.transpose(2, 0, 1, 3))


def saturate(images: Bytes, factor: float, offset: float) -> Bytes:
    """Saturation ``s`` of HSV becomes ``factor s + offset``; hue and value stay.

    At a fixed hue a channel is ``v (1 - s f)`` with an ``f`` of its own, so that ``v - c`` goes
    with ``s``. Grey has hue 0, which is red: an offset makes it reddish, as in the benchmark.
    """
    x = images / 255.0
    value = x.max(-1, keepdims=True)
    spread = value - x.min(-1, keepdims=True)
    grey = spread == 0
    saturation = np.where(value > 0, spread / np.where(value > 0, value, 1), 0)
    hue_part = np.where(grey, np.array([0.0, 1.0, 1.0]), (value - x) / np.where(grey, 1, spread))
    new = np.clip(saturation * factor + offset, 0, 1)
    return to_bytes(value * (1 - new * hue_part))


def jpeg_compression(images: Bytes, quality: int) -> Bytes:
    """Images as JPEG gives them back."""
    out = np.empty_like(images)
    for i, image in enumerate(images):  # a codec takes one image at a time
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        out[i] = np.asarray(Image.open(file))
    return out


def pixelate(images: Bytes, share: float) -> Bytes:
    """Box-resampled to ``share`` of the side and back."""
    out, small = np.empty_like(images), int(SIZE * share)
    box = Image.Resampling.BOX
    for i, image in enumerate(images):
        fewer = Image.fromarray(image).resize((small, small), box)
        out[i] = np.asarray(fewer.resize((SIZE, SIZE), box))
    return out


def snow(images: Bytes, layer: Floats, keep: float) -> Bytes:
    """Whiten images to ``1 - keep``, and add flakes and the same turned by half a circle.

    Args:
        images: ``(N, 32, 32, 3)``.
        layer: flakes, ``(N, 32, 32)`` in [0, 1].
        keep: weight of the image as it is.
    """
    x = images / 255.0
    grey = x @ np.array([0.299, 0.587, 0.114])
    x = keep * x + (1 - keep) * np.maximum(x, grey[..., None] * 1.5 + 0.5)
    return to_bytes(x + layer[..., None] + layer[:, ::-1, ::-1, None])


def flakes(
    noise: Floats, zoom: float, least: float, radius: int, sigma: float, angles: Floats
) -> Floats:
    """Layer of :func:`snow` of noise ``(N, 32, 32)``: magnified, thresholded, blurred by motion."""
    a = zoom_matrix(zoom)
    layer = a @ noise @ a.T
    layer = np.where(layer < least, 0, layer)
    layer = motion_blur(to_bytes(layer)[..., None], radius, sigma, angles)[..., 0]
    return np.rint(layer) / 255.0


def spatter(images: Bytes, liquid: Floats, least: float, amount: float, mud: bool) -> Bytes:
    """Water or mud on the lens, where the liquid ``(N, 32, 32)`` is at least ``least``."""
    x = images / 255.0
    if not mud:
        water = np.array([175, 238, 238]) / 255.0
        return to_bytes(x + amount * drops(np.where(liquid < least, 0, liquid))[..., None] * water)
    m = blurred((liquid > least).astype(np.float64), amount)
    m = np.where(m < 0.8, 0, m)[..., None]
    return to_bytes(x * (1 - m) + m * np.array([63, 42, 20]) / 255.0)


def frost(images: Bytes, keep: float, weight: float, random: np.random.Generator) -> Bytes:
    """``keep`` times the image and ``weight`` times a piece of one of :func:`.frost.textures`."""
    bank = textures()
    which = random.integers(0, len(bank), len(images))[:, None, None]
    corner = random.integers(0, bank.shape[1], (2, len(images)))[..., None] + np.arange(SIZE)
    rows, columns = corner % bank.shape[1]
    pieces = bank[which, rows[:, :, None], columns[:, None, :]]
    return np.clip(keep * images + weight * pieces, 0, 255).astype(np.uint8)


def _motion_blur(images: Bytes, severity: int, random: np.random.Generator) -> Bytes:
    radius, sigma = [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)][severity - 1]
    angles = random.uniform(-45, 45, len(images))
    # ImageMagick rounds to the nearest byte, other than the rest.
    return np.rint(motion_blur(images, int(radius), sigma, angles)).astype(np.uint8)


def _snow(images: Bytes, severity: int, random: np.random.Generator) -> Bytes:
    mean, deviation, zoom, least, radius, sigma, keep = [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ][severity - 1]
    noise = random.normal(mean, deviation, images.shape[:3])
    angles = random.uniform(-135, -45, len(images))
    return snow(images, flakes(noise, zoom, least, int(radius), sigma, angles), keep)


def _spatter(images: Bytes, severity: int, random: np.random.Generator) -> Bytes:
    mean, deviation, sigma, least, amount = [
        (0.62, 0.1, 0.7, 0.7, 0.5),
        (0.65, 0.1, 0.8, 0.7, 0.5),
        (0.65, 0.3, 1, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6),
        (0.65, 0.1, 0.5, 0.68, 0.6),
    ][severity - 1]
    liquid = blurred(random.normal(mean, deviation, images.shape[:3]), sigma)
    return spatter(images, liquid, least, amount, mud=severity > 3)


_GLASS = [(0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)]
_FROSTED = [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)]
_SATURATE = [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)]

_FUNCTIONS: dict[str, Callable[[Bytes, int, np.random.Generator], Bytes]] = {
    "frost": lambda x, s, r: frost(x, *_FROSTED[s - 1], r),
    "gaussian_blur": lambda x, s, _: gaussian_blur(x, (0.4, 0.6, 0.7, 0.8, 1)[s - 1]),
    "gaussian_noise": lambda x, s, r: gaussian_noise(x, (0.04, 0.06, 0.08, 0.09, 0.1)[s - 1], r),
    "glass_blur": lambda x, s, r: glass_blur(x, *_GLASS[s - 1], r),
    "impulse_noise": lambda x, s, r: impulse_noise(x, (0.01, 0.02, 0.03, 0.05, 0.07)[s - 1], r),
    "jpeg_compression": lambda x, s, _: jpeg_compression(x, (80, 65, 58, 50, 40)[s - 1]),
    "motion_blur": _motion_blur,
    "pixelate": lambda x, s, _: pixelate(x, (0.95, 0.9, 0.85, 0.75, 0.65)[s - 1]),
    "saturate": lambda x, s, _: saturate(x, *_SATURATE[s - 1]),
    "shot_noise": lambda x, s, r: shot_noise(x, (500, 250, 100, 75, 50)[s - 1], r),
    "snow": _snow,
    "spatter": _spatter,
    "speckle_noise": lambda x, s, r: speckle_noise(x, (0.06, 0.1, 0.12, 0.16, 0.2)[s - 1], r),
    "zoom_blur": lambda x, s, _: zoom_blur(x, (1.06, 1.11, 1.16, 1.21, 1.26)[s - 1]),
    "contrast": lambda x, s, _: contrast(x, (0.75, 0.5, 0.4, 0.3, 0.15)[s - 1]),
}
