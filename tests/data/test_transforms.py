"""Transforms of whole batches against closed forms and loops over images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from retable.data import transforms
from retable.data.transforms import Whitening, global_contrast_normalize, pad_crop_flip, to_float


def images_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_bytes_become_floats_with_the_channels_first():
    images = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).view(2, 3, 4, 3) * 3
    images[0, 0, 0] = torch.tensor([0, 128, 255])
    floats = to_float(images)
    assert floats.shape == (2, 3, 3, 4)
    assert floats.dtype == torch.float32
    assert floats.is_contiguous()
    assert floats[0, :, 0, 0].tolist() == [0.0, np.float32(128) / np.float32(255), 1.0]
    assert torch.equal((floats * 255).round().to(torch.uint8).permute(0, 2, 3, 1), images)


def test_every_byte_is_exactly_its_share_of_255():
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    assert torch.equal(to_float(images).flatten(), torch.from_numpy(expected))


def test_contrast_is_normalised_as_the_formula_says():
    images = images_of(5, 3, 4, 4)
    result = global_contrast_normalize(images)
    flat = images.double().flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    expected = 55 * centred / centred.norm(dim=1, keepdim=True)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert torch.allclose(result.double().flatten(1), expected, atol=1e-4)
    assert torch.allclose(result.flatten(1).mean(1), torch.zeros(5), atol=1e-5)
    assert torch.allclose(result.flatten(1).norm(dim=1), torch.full((5,), 55.0))
    halved = global_contrast_normalize(images, scale=27.5)
    assert torch.allclose(2 * halved, result, atol=1e-4)


def test_contrast_of_an_image_does_not_depend_on_the_others_nor_on_light():
    images = images_of(4, 1, 5, 5)
    result = global_contrast_normalize(images)
    alone = torch.cat([global_contrast_normalize(image[None]) for image in images])
    assert torch.allclose(result, alone, atol=1e-5)
    assert torch.allclose(global_contrast_normalize(0.5 * images + 0.2), result, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_image_of_one_colour_has_no_contrast(value):
    result = global_contrast_normalize(torch.full((2, 1, 4, 4), value))
    assert torch.equal(result, torch.zeros(2, 1, 4, 4))


def whitening_in_numpy(flat: np.ndarray, bias: float) -> np.ndarray:
    """The matrix by numpy, in double precision."""
    centred = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(flat))
    return vectors @ np.diag(1 / np.sqrt(values + bias)) @ vectors.T


@pytest.mark.parametrize("bias", [0.1, 1e-3])
def test_whitening_is_that_of_numpy_in_double(bias):
    images = images_of(60, 2, 2, 3)
    fitted = Whitening.fit(images, bias=bias)
    flat = images.double().flatten(1).numpy()
    expected = whitening_in_numpy(flat, bias)
    assert fitted.mean.dtype == fitted.matrix.dtype == torch.float32
    assert np.allclose(fitted.mean, flat.mean(0), atol=1e-7)
    assert np.allclose(fitted.matrix, expected, rtol=1e-5, atol=1e-5)
    other = images_of(7, 2, 2, 3, seed=1)
    whitened = (other.double().flatten(1).numpy() - flat.mean(0)) @ expected
    assert fitted(other).shape == other.shape
    assert np.allclose(fitted(other).flatten(1), whitened, atol=1e-4)


def test_a_whitening_is_symmetric_and_cannot_be_changed():
    fitted = Whitening.fit(images_of(40, 1, 3, 3))
    assert torch.allclose(fitted.matrix, fitted.matrix.T, atol=1e-6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.mean = torch.zeros(9)  # type: ignore[misc]


def test_without_bias_whitened_images_have_the_identity_as_covariance():
    images = images_of(300, 1, 3, 3) * torch.linspace(0.5, 2, 9).view(1, 1, 3, 3)
    whitened = Whitening.fit(images, bias=1e-9)(images).flatten(1).double()
    assert torch.allclose(whitened.mean(0), torch.zeros(9, dtype=torch.float64), atol=1e-4)
    covariance = whitened.T @ whitened / len(whitened)
    assert torch.allclose(covariance, torch.eye(9, dtype=torch.float64), atol=1e-4)


def test_with_bias_every_direction_keeps_its_share():
    images = images_of(300, 1, 3, 3)
    images[:, 0, 0, 0] = 0.25  # a direction without variance stays without, and finite
    flat = images.double().flatten(1)
    before = torch.linalg.eigvalsh((flat - flat.mean(0)).T @ (flat - flat.mean(0)) / len(flat))
    whitened = Whitening.fit(images, bias=0.1)(images).flatten(1).double()
    after = torch.linalg.eigvalsh(whitened.T @ whitened / len(whitened))
    assert torch.allclose(after, before / (before + 0.1), atol=1e-5)
    assert after[0] < 1e-6


def test_whitening_in_chunks_is_whitening_at_once(monkeypatch):
    images = images_of(50, 1, 2, 3)
    whole = Whitening.fit(images)
    monkeypatch.setattr(transforms, "_CHUNK", 7)
    parts = Whitening.fit(images)
    assert torch.allclose(parts.matrix, whole.matrix, atol=1e-6)
    assert torch.allclose(parts(images), whole(images), atol=1e-5)


def cropped_in_a_loop(images: torch.Tensor, draws: torch.Generator, pad: int) -> torch.Tensor:
    """The same draws, used on one image after the other."""
    n, _, height, width = images.shape
    top, left = torch.randint(2 * pad + 1, (2, n), generator=draws).tolist()
    flips = torch.randint(2, (n,), generator=draws, dtype=torch.bool).tolist()
    out = []
    for image, y, x, flip in zip(images, top, left, flips, strict=True):
        padded = F.pad(image, (pad, pad, pad, pad))
        crop = padded[:, y : y + height, x : x + width]
        out.append(crop.flip(-1) if flip else crop)
    return torch.stack(out)


@given(
    n=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    pad=st.integers(0, 4),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_crops_are_those_of_a_loop_over_the_images(n, channels, height, width, pad, seed):
    images = images_of(n, channels, height, width, seed=seed) + 1  # no pixel is 0 but padding
    result = pad_crop_flip(images, generator(seed), pad=pad)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert torch.equal(result, cropped_in_a_loop(images, generator(seed), pad))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8])
def test_crops_keep_the_type_and_leave_their_input_alone(dtype):
    images = (255 * images_of(6, 3, 8, 8)).to(dtype)
    before = images.clone()
    assert pad_crop_flip(images, generator()).dtype == dtype
    assert torch.equal(images, before)


def test_crops_are_a_function_of_the_generator():
    images = images_of(20, 3, 8, 8)
    state = torch.get_rng_state()
    first = pad_crop_flip(images, generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, pad_crop_flip(images, generator(1)))
    assert not torch.equal(first, pad_crop_flip(images, generator(2)))
    going_on = generator(1)
    assert torch.equal(first, pad_crop_flip(images, going_on))
    assert not torch.equal(first, pad_crop_flip(images, going_on))


def test_without_padding_images_are_only_flipped_half_of_them():
    images = images_of(400, 1, 2, 3)
    result = pad_crop_flip(images, generator(), pad=0)
    kept = (result == images).all((1, 2, 3))
    flipped = (result == images.flip(-1)).all((1, 2, 3))
    assert bool((kept ^ flipped).all())
    assert 150 < int(flipped.sum()) < 250


def test_every_window_is_drawn_equally_often():
    images = torch.ones(9000, 1, 3, 3)
    result = pad_crop_flip(images, generator(), pad=1)
    rows = (result.amax(3) > 0).double().mean(0).squeeze()  # the outer rows are padding in a third
    assert torch.allclose(rows, torch.tensor([2 / 3, 1.0, 2 / 3], dtype=torch.float64), atol=0.02)
