"""Augmentation of normalised images."""

from __future__ import annotations

import torch

from retable.data.transforms import pad_crop_flip
from retable.papers.weight_balancing.augment import PadCropFlip
from retable.papers.weight_balancing.images import Normalise

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def test_it_is_as_if_images_were_padded_before_they_are_normalised():
    images = 0.5 + 0.5 * torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def draws():
        return torch.Generator().manual_seed(1)

    normalise = Normalise(MEAN, STD)
    normalised, _ = normalise(images, torch.arange(20), images)
    first, _ = normalise(pad_crop_flip(images, draws()), torch.arange(20), images)
    found = PadCropFlip(MEAN, STD)(normalised, draws())
    assert torch.allclose(found, first, atol=1e-6)
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    assert found.amin((0, 2, 3)).allclose(black, atol=1e-6)  # there is a margin, and it is black
    assert not torch.allclose(pad_crop_flip(normalised, draws()), first, atol=0.1)
