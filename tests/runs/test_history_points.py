"""Rows of a history that tables name, and what thinning keeps of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.runs.history_points import named, of_history, row_at, value_in
from retable.runs.published_records import thinned


def rows_of(epochs: int, every: int = 1) -> list[dict[str, float]]:
    """A history whose validation is made in every so many epochs."""
    return [
        {"epoch": k, "train/loss": k / 8, **({"val/loss": k / 4} if (k + 1) % every == 0 else {})}
        for k in range(epochs)
    ]


@pytest.mark.parametrize(
    ("epochs", "asked", "epoch"),
    [(8, 3, 3), (8, "50%", 3), (8, "100%", 7), (8, "1%", 0), (1, "50%", 0), (3, "50%", 0)],
)
def test_an_epoch_by_number_or_share(epochs, asked, epoch):
    row = row_at(rows_of(epochs), asked)
    assert row is not None
    assert row["epoch"] == epoch
    assert value_in(rows_of(epochs), ("train/loss", None, asked)) == epoch / 8


def test_what_is_not_there_is_no_number():
    rows = rows_of(8, every=4)
    assert value_in(rows, ("val/loss", None, 3)) == 0.75
    for place in [("val/loss", None, 2), ("val/loss", None, 8), ("other", None, 3)]:
        assert math.isnan(value_in(rows, place))
    assert math.isnan(value_in([], ("train/loss", None, "50%")))
    left_out = [rows[0], rows[2], rows[7]]  # of the others nothing can be said: no neighbour's
    assert math.isnan(value_in(left_out, ("train/loss", None, "50%")))
    assert not of_history(("val/loss", None, None))  # of the record: the epoch that was tested


EPOCHS = st.one_of(st.integers(0, 600), st.integers(1, 100).map(lambda share: f"{share}%"))


@pytest.mark.slow
@given(st.integers(1, 500), st.lists(EPOCHS, max_size=12))
def test_thinning_keeps_what_is_named_and_is_done_once(epochs, asked):
    rows = rows_of(epochs)
    places = [("train/loss", None, one) for one in asked]
    thin = thinned(rows, places)
    assert [str(value_in(thin, p)) for p in places] == [str(value_in(rows, p)) for p in places]
    assert thinned(thin, places) == thin
    assert len(thin) <= 100 + len(named(rows, places))
    assert [thin[0], thin[-1]] == [rows[0], rows[-1]]
    assert thinned(rows) == [row for row in thin if row in thinned(rows)]  # those of before too
