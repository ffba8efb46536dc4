"""Equal, nearly equal, different: and where."""

from __future__ import annotations

import math

import pytest
from msgspec import structs

from retable.runs.equality import compare, config_differences, only_in_one, relative_difference
from retable.runs.record_parts import Stretch
from retable.runs.records import Provenance, Record, ResultRow
from support.records import plain_record

PROVENANCE = Provenance(
    commit="c", packages="p", python="3.11.7", torch="2.15.0", cpu="cpu", cores=2, dirty=None
)


def record(value: float = 1.0, **changes) -> Record:
    base = {
        "key": "k" * 64,
        "experiment": None,
        "results": [
            ResultRow(metric="test/loss", value=value),
            ResultRow(metric="test/time_ms", value=5.0, result_row="a"),
        ],
        "timing_metrics": ["test/time_ms"],
        "weights_sha256": "w",
        "history_sha256": "h",
        "provenance": PROVENANCE,
    }
    return plain_record(**{**base, **changes})


def test_times_do_not_count():
    slow = record(
        results=[*record().results[:1], ResultRow(metric="test/time_ms", value=9, result_row="a")]
    )
    found = compare(record(), slow)
    assert found.kind == "bitwise equal"
    assert found.detail == "1 results, weights, history"
    assert found.context == []


def test_the_last_bit_counts_but_lies_within_tolerance():
    found = compare(record(1e6), record(math.nextafter(1e6, 2e6), weights_sha256="x"))
    assert found.kind == "equal within tolerance"
    assert "test/loss" in found.detail


def test_weights_alone_may_differ():
    found = compare(record(), record(weights_sha256="x"))
    assert found.kind == "equal within tolerance"
    assert "all numbers agree but for rounding" in found.detail


def test_the_first_difference_is_named_in_the_history_before_the_results():
    histories = (
        [{"epoch": 0, "train/loss": 2.0}, {"epoch": 1, "train/loss": 1.0}],
        [{"epoch": 0, "train/loss": 2.0}, {"epoch": 1, "train/loss": 1.1}],
    )
    found = compare(record(1.0), record(1.5, history_sha256="x"), histories)
    assert found.kind == "different"
    assert found.detail == "first in epoch 1, train/loss: 1.0 / 1.1"


def test_a_missing_epoch_and_a_missing_result_are_differences():
    found = compare(record(), record(history_sha256="x"), ([{"epoch": 0, "a": 1.0}], []))
    assert found.detail == "epoch 0, a is in the first record only"
    found = compare(record(results=[]), record())
    assert found.detail == "test/loss is in the second record only"


def test_circumstances_are_said():
    before = structs.replace(PROVENANCE, kernels={})
    other = record(
        device="cuda",
        threads=4,
        fingerprint="0" * 64,
        provenance=structs.replace(before, torch="2.11.0", kernels={"MKL_CBWR": "AVX2"}),
    )
    text = compare(record(provenance=before), other).text()
    for part in ("device cpu / cuda", "threads 1 / 4", "torch 2.15.0 / 2.11.0", "code ffff"):
        assert part in text
    assert "kernels chosen by the processor / MKL_CBWR=AVX2" in text
    assert "kernels" not in compare(record(), other).text()  # of a record that does not say


def test_what_a_run_began_with_is_a_circumstance_unless_it_changes_times_alone():
    began = Stretch(provenance=structs.replace(PROVENANCE, torch="2.11.0"), threads=1, workers=9)
    text = compare(record(), record(earlier=[began])).text()
    assert text.endswith("(begun with the same / torch 2.11.0)")
    began = Stretch(provenance=PROVENANCE, threads=1, workers=9)
    assert compare(record(), record(earlier=[began])).context == []


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (1, 1, 0),
        (0, 0, 0),
        (1, 2, 0.5),
        (0, 1e-9, 1),
        (math.nan, math.nan, 0),
        (math.inf, 1, math.inf),
    ],
)
def test_relative_difference(x, y, expected):
    assert relative_difference(x, y) == expected


def test_config_differences_by_dotted_key():
    a = {"model": {"lr": 0.1, "layers": [1, 2]}, "callbacks": {}}
    b = {
        "model": {"lr": 0.2, "layers": [1, 2], "bias": None},
        "callbacks": {"stop": {"patience": 3}},
    }
    assert config_differences(a, b) == [
        ("callbacks", "{}", "-"),
        ("callbacks.stop.patience", "-", "3"),
        ("model.bias", "-", "null"),
        ("model.lr", "0.1", "0.2"),
    ]


def test_of_a_residual_near_zero_no_digit_has_to_agree():
    assert relative_difference(6.9e-18, 1.04e-17) == 0.0
    assert relative_difference(-1e-13, 1e-13) == 0.0
    assert relative_difference(1e-9, 2e-9) == 0.5


BOTH = ResultRow(metric="test/loss", value=1.0)
MORE = ResultRow(metric="test/more", value=2.0, result_row="a", step=3)


def test_more_in_one_record_is_no_difference():
    found = compare(record(results=[BOTH]), record(results=[BOTH, MORE], artifacts={"maps": "m"}))
    assert found.kind == "equal in all that both have"
    assert found.detail == "bitwise; only in the second record: a test/more [3], maps"
    histories = ([{"epoch": 0, "x": 1.0}], [{"epoch": 0, "x": 1.0, "y": 2.0}])
    more = record(results=[BOTH], history_sha256="i"), record(results=[BOTH, MORE])
    found = compare(*more, histories)
    assert found.detail == "bitwise; only in the second record: a test/more [3], y"
    found = compare(*more, histories[::-1])
    assert found.detail == (
        "bitwise; only in the first record: y; only in the second record: a test/more [3]"
    )


@pytest.mark.parametrize(
    ("first", "second", "histories"),
    [
        ({}, {"weights_sha256": "x"}, ([], [])),
        ({}, {"history_sha256": "i"}, ([], [])),  # nobody can tell
        ({}, {"history_sha256": "i"}, ([{"x": 1.0}], [{"x": 1.0}, {"x": 1.0}])),
        ({}, {"history_sha256": "i"}, ([{"x": 1.0}], [{"x": 2.0, "y": 1.0}])),
        ({}, {"results": [structs.replace(BOTH, value=1.1), MORE]}, ([], [])),
        ({"artifacts": {"maps": "a"}}, {"artifacts": {"maps": "b"}}, ([], [])),
        ({"results": []}, {}, ([], [])),  # nothing is shared
    ],
)
def test_what_both_have_has_to_be_the_same(first, second, histories):
    one = record(**{"results": [BOTH], **first})
    other = record(**{"results": [BOTH, MORE], **second})
    assert only_in_one(one, other, histories) is None
    assert compare(one, other, histories).kind != "equal in all that both have"
