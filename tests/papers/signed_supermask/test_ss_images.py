"""Standardisation by image, and its augmentation."""

from __future__ import annotations

import torch

from retable.papers.signed_supermask.images import CropFlip, Standardise, standardise


def test_every_image_by_itself():
    images = torch.rand(3, 2, 5, 5) * torch.tensor([1.0, 5.0, 2.0])[:, None, None, None] + 7
    found = standardise(images)
    assert found.shape == images.shape
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    # by N, not N - 1
    torch.testing.assert_close(found.square().mean((1, 2, 3)), torch.ones(3))
    pool, test = Standardise()(images, torch.arange(2), images[:1])
    assert torch.equal(pool, found)
    torch.testing.assert_close(test, found[:1])


def test_a_constant_image_becomes_zeros_and_a_faint_one_is_not_blown_up():
    assert standardise(torch.full((1, 1, 28, 28), 0.3)).abs().max() < 1e-4
    assert standardise(torch.zeros(2, 1, 28, 28)).count_nonzero() == 0
    faint = torch.zeros(1, 1, 28, 28)
    faint[0, 0, 0, 0] = 0.01
    expected = (faint - faint.mean()) * 28  # the least deviation is 1 / √784
    torch.testing.assert_close(standardise(faint), expected)


def test_a_cropped_image_is_standardised_again():
    images = standardise(torch.rand(64, 3, 8, 8))
    found = CropFlip()(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.square().mean((1, 2, 3)), torch.ones(64))
    assert not torch.allclose(found, images)
