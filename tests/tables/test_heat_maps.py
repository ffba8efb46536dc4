"""Means of arrays over the runs of a cell: of those that have them, and why there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array

from retable.runs.artifacts import file_of
from retable.tables.aggregate import Table, build
from retable.tables.heat_maps import HeatMap, heat_maps, refuse_mistakes
from retable.util.errors import UserError
from support.heat import with_arrays
from support.mini import extra_root, planned

SQUARE = torch.arange(6.0).reshape(2, 3)


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("heat"))))
        return build(*planned())


def keys_of(table: Table, row: str = "same") -> list[str]:
    return table.cells[row, "accuracy"].run_keys


def panel(array: str = "a", row: str = "same", column: str = "accuracy") -> dict[str, str]:
    return {"row": row, "column": column, "array": array}


def one(table, folder, *lefts, array="a", row="same", **figure) -> tuple[Table, HeatMap]:
    """The only map of a table of whose first runs some have left arrays."""
    left = dict(zip(keys_of(table), lefts, strict=False))
    drawn = with_arrays(table, folder, left, panels=[panel(array, row)], **figure)
    (found,) = heat_maps(drawn, drawn.spec.figure)
    return drawn, found


def test_the_mean_is_elementwise_over_all_runs(mini, tmp_path):
    lefts = [{"a": k * SQUARE, "other": torch.zeros(3)} for k in (1, 2, 6)]
    _, found = one(mini, tmp_path, *lefts)
    assert found.mean.tolist() == (3 * SQUARE).tolist()
    assert (found.n, found.n_planned, found.why) == (3, 3, "")


def test_runs_that_have_not_left_it_are_not_counted(mini, tmp_path):
    drawn, found = one(mini, tmp_path, {"a": SQUARE}, {"a": 3 * SQUARE})
    assert found.mean.tolist() == (2 * SQUARE).tolist()
    assert (found.n, found.n_planned) == (2, 3)
    file_of(tmp_path / keys_of(mini)[0], "maps").unlink()  # recorded, but gone
    (found,) = heat_maps(drawn, drawn.spec.figure)
    assert (found.mean.tolist(), found.n) == ((3 * SQUARE).tolist(), 1)
    file_of(tmp_path / keys_of(mini)[1], "maps").unlink()
    (found,) = heat_maps(drawn, drawn.spec.figure)
    assert (found.mean, found.why) == (
        None,
        "artefact 'maps' is recorded, but its file is not here",
    )
    refuse_mistakes(drawn)  # nothing in the table file is wrong


def test_a_vector_is_one_line_and_every_real_type_is_taken(mini, tmp_path):
    for number, array in enumerate(
        (torch.tensor([1, 2]), torch.tensor([True, False]), torch.ones(2, dtype=torch.bfloat16))
    ):
        _, found = one(mini, tmp_path / str(number), {"a": array})
        assert found.mean.tolist() == [array.double().tolist()]


@pytest.mark.parametrize(
    ("lefts", "array", "said"),
    [
        ([{"train": SQUARE}], "trian", "no array 'trian' in artefact 'maps'; did you mean 'tra"),
        ([{"a": torch.zeros(2, 2, 2)}], "a", "shape (2, 2, 2): a heat map is of one or two dim"),
        ([{"a": torch.tensor(1.0)}], "a", "has shape (): a heat map is of one or two dimensions"),
        ([{"a": torch.zeros(0, 4)}], "a", "has shape (0, 4): there is nothing in it"),
        ([{"a": torch.zeros(1, 257)}], "a", "has shape (1, 257): at most 256 rows and columns"),
        ([{"a": SQUARE}, {"a": SQUARE.T.contiguous()}], "a", "has shapes (2, 3) and (3, 2) in"),
        ([{"a": SQUARE + 1j}], "a", "holds complex numbers"),
    ],
)
def test_what_is_no_heat_map_is_said_and_not_published(mini, tmp_path, lefts, array, said):
    drawn, found = one(mini, tmp_path, *lefts, array=array)
    assert found.mean is None
    assert said in found.why
    with pytest.raises(UserError) as caught:
        refuse_mistakes(drawn)
    assert str(caught.value) == f"digits/verdicts: figure.panels.0.array: {found.why}"


def test_another_artefacts_name_is_a_mistake_and_none_at_all_is_not(mini, tmp_path):
    drawn, found = one(mini, tmp_path / "1", {"a": SQUARE}, artifact="map")
    assert found.why == "its runs have left no artefact 'map'; did you mean 'maps'?"
    with pytest.raises(UserError, match=r"verdicts: figure\.artifact: its runs have left no"):
        refuse_mistakes(drawn)
    drawn, found = one(mini, tmp_path / "2", {"a": SQUARE}, row="close")
    assert found.why == "its runs have left no artefact 'maps'"
    refuse_mistakes(drawn)
    drawn, found = one(mini, tmp_path / "3", {"a": SQUARE}, row="quoted")
    assert found.why == "not run under protocol paper"
    drawn, found = one(mini, tmp_path / "4", row="waiting")
    assert found.why == "no run of it is finished"
    refuse_mistakes(drawn)


def test_what_is_not_as_it_was_recorded_is_refused(mini, tmp_path):
    drawn, _ = one(mini, tmp_path, {"a": SQUARE}, {"a": SQUARE + 1})
    first, second = (file_of(tmp_path / key, "maps") for key in keys_of(mini)[:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=r"maps\.safetensors: holds other arrays than the record"):
        heat_maps(drawn, drawn.spec.figure)
    first.write_bytes(b"no")
    with pytest.raises(UserError, match=r"maps\.safetensors: cannot be read"):
        heat_maps(drawn, drawn.spec.figure)


numbers = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=15)
@given(any_array(np.float32, (3, 2, 4), elements=numbers))
def test_any_numbers_have_their_mean(mini, tmp_path_factory, values):
    lefts = [{"a": torch.from_numpy(value)} for value in values]
    _, found = one(mini, tmp_path_factory.mktemp("any"), *lefts)
    for row, column in np.ndindex(2, 4):
        three = [float(value[row, column]) for value in values]
        assert found.mean[row, column] == pytest.approx(sum(three) / 3, abs=1e-9, rel=1e-12)
