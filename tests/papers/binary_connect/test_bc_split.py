"""BinaryConnect over two processes: its norms and its draws of weights are of the whole batch."""

from __future__ import annotations

import pytest

from support.kill import MOMENTUM
from support.ranks import engine, in_one_and_in_several, largest_difference

EXPERIMENT = "binary_connect/mnist_smoke"

WEIGHTS, NUMBERS = 1e-3, 1e-3
"""As in `support/ranks.py`, wider: an activation near zero falls on the other side of it in another
order of the sum (1e-4 seen), and norms of each process's own part differ by 20."""


@pytest.fixture(scope="module")
def server():
    with engine(EXPERIMENT) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", ["none", "det", "stoch"])
@pytest.mark.parametrize("normalization", ["variance", "deviation"])
def test_the_numbers_are_those_of_one_process(
    server, tmp_path, monkeypatch, regularizer, normalization
):
    (weights, expected), (others, found) = in_one_and_in_several(
        server,
        monkeypatch,
        tmp_path,
        MOMENTUM,
        "data.batch_size=45",
        f"model.regularizer={regularizer}",
        f"model.normalization={normalization}",
        experiment=EXPERIMENT,
    )
    assert 0 < largest_difference(weights, others) <= WEIGHTS, "0: it was not split at all"
    # A weight on the edge of two bins may fall into either.
    shares = {a for a in expected if str(a[0]).startswith("weights/")}
    assert {a: found.pop(a) for a in shares} == pytest.approx(
        {a: expected.pop(a) for a in shares}, abs=1e-3
    )
    assert found == pytest.approx(expected, rel=NUMBERS, abs=1e-6)
