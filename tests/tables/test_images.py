"""Images of one run each: which run, which arrays are images, and what black and white are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retable.tables.aggregate import Table, build
from retable.tables.heat_maps import MOST_OF_IMAGE, HeatMap, heat_maps, refuse_mistakes
from retable.util.errors import UserError
from support.heat import with_arrays
from support.mini import extra_root, planned

GREY = torch.arange(6.0).reshape(2, 3) / 5


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("images"))))
        return build(*planned())


def one(table, folder, *lefts, seed=None, **figure) -> tuple[Table, HeatMap]:
    """The only image of a table of whose first runs some have left arrays."""
    left = dict(zip(table.cells["same", "accuracy"].run_keys, lefts, strict=False))
    panel = {"row": "same", "column": "accuracy", "array": "a", "seed": seed}
    drawn = with_arrays(table, folder, left, kind="image", panels=[panel], **figure)
    (found,) = heat_maps(drawn, drawn.spec.figure)
    return drawn, found


@pytest.mark.parametrize("array", [GREY, GREY[None]], ids=["(R, C)", "(1, R, C)"])
def test_grey_has_three_equal_colours(mini, tmp_path, array):
    _, found = one(mini, tmp_path, {"a": array})
    assert found.mean.shape == (2, 3, 3)
    for colour in range(3):
        np.testing.assert_array_equal(found.mean[..., colour], GREY.double().numpy())


def test_colours_come_first_in_the_array_and_last_in_the_picture(mini, tmp_path):
    array = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    _, found = one(mini, tmp_path, {"a": array})
    for colour in range(3):
        np.testing.assert_array_equal(found.mean[..., colour], array[colour].double().numpy())


def test_limits_are_black_and_white_and_what_is_beyond_them_is_too(mini, tmp_path):
    array = torch.tensor([[-3.0, -1.0, 0.0, 2.0, 3.0, 9.0]])
    _, found = one(mini, tmp_path, {"a": array}, limits=[-1, 3])
    assert found.mean[0, :, 0].tolist() == [0, 0, 0.25, 0.75, 1, 1]


def test_it_is_the_first_run_that_left_it_or_that_of_the_seed(mini, tmp_path):
    keys = mini.cells["same", "accuracy"].run_keys
    seeds = [mini.records[key].seed for key in keys]
    assert len(set(seeds)) >= 2
    lefts = [{"other": GREY}, {"a": GREY}, *({"a": GREY + 1} for _ in keys[2:])]
    _, found = one(mini, tmp_path / "1", *lefts)
    assert (found.seed, found.n) == (seeds[1], 1)  # never a mean, of which no pixel was seen
    _, found = one(mini, tmp_path / "2", *lefts, seed=seeds[0])
    assert found.mean is None
    assert found.why.startswith("no array 'a' in artefact 'maps'")
    _, found = one(mini, tmp_path / "3", *lefts, seed=77)
    assert (found.mean, found.why) == (None, "no run of seed 77 is finished")


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (torch.zeros(3), "has shape (3,): an image is (R, C), (1, R, C) or, in colours, (3, R, C)"),
        (torch.zeros(2, 4, 4), "has shape (2, 4, 4): an image is"),
        (torch.zeros(4, 4, 3), "has shape (4, 4, 3): an image is"),
        (torch.zeros(3, 0, 4), "there is nothing in it"),
        (torch.zeros(MOST_OF_IMAGE + 1, 2), "at most 128 rows and columns are drawn"),
        (torch.tensor([[0.0, float("nan")]]), "holds numbers that are not finite"),
        (torch.zeros(2, 2, dtype=torch.complex64), "holds complex numbers"),
    ],
)
def test_what_is_no_image_is_a_mistake_of_the_table_file(mini, tmp_path, array, why):
    drawn, found = one(mini, tmp_path, {"a": array})
    assert found.mean is None
    assert why in found.why
    with pytest.raises(UserError, match=r"figure\.panels\.0\.array: array 'a' "):
        refuse_mistakes(drawn)
