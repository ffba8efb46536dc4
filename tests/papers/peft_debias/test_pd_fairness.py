"""TPR-GAP, FPRD, Bias-NLI's share and task scores: by hand, and against fairlearn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.peft_debias.fairness import fprd, neutral_share, tpr_gap


def cells(*rates, n=10):
    """Labels, genders and predictions with n examples in each (occupation, gender) cell.

    Args:
        rates: (TPR of men, TPR of women) of each occupation.
        n: examples of a cell.
    """
    label, gender, predicted = [], [], []
    for occupation, both in enumerate(rates):
        for g, rate in enumerate(both):
            hits = round(n * rate)
            label += [occupation] * n
            gender += [g] * n
            predicted += [occupation] * hits + [len(rates)] * (n - hits)
    return torch.tensor(label), torch.tensor(gender), torch.tensor(predicted)


def drawn(seed, n=400, occupations=4):
    generator = torch.Generator().manual_seed(seed)
    label, predicted = torch.randint(occupations, (2, n), generator=generator)
    return label, torch.randint(2, (n,), generator=generator), predicted


def test_the_gap_of_two_occupations():
    found = tpr_gap(*cells((0.8, 0.5), (0.2, 0.6)), occupations=2)
    assert found.percent == pytest.approx(35.355, abs=5e-4)
    assert found.gaps.tolist() == pytest.approx([30, -40])
    assert found.skipped == 0


def test_an_occupation_without_a_gender_is_skipped_and_counted():
    label, gender, predicted = cells((0.8, 0.5), (0.2, 0.6), (0.9, 0.1))
    keep = (label != 2) | (gender == 0)
    found = tpr_gap(label[keep], gender[keep], predicted[keep], occupations=4)
    assert found.percent == pytest.approx(35.355, abs=5e-4)
    assert found.gaps[2:].isnan().all()
    assert found.skipped == 2
    keep &= gender == 0
    with pytest.raises(ValueError, match="gender: no occupation has both"):
        tpr_gap(label[keep], gender[keep], predicted[keep], occupations=4)


@pytest.mark.parametrize("classifier", ["right", "wrong", "same"])
def test_classifiers_without_a_gap(classifier):
    label, gender, _ = drawn(0)
    predicted = {"right": label, "wrong": (label + 1) % 4, "same": torch.zeros_like(label)}
    assert tpr_gap(label, gender, predicted[classifier], occupations=4).percent == 0


def test_the_gap_of_genders_turned_around():
    label, gender, predicted = drawn(1)
    one = tpr_gap(label, gender, predicted, occupations=4)
    other = tpr_gap(label, 1 - gender, predicted, occupations=4)
    assert one.percent == pytest.approx(other.percent)
    assert one.gaps.tolist() == pytest.approx((-other.gaps).tolist())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"label": torch.tensor([0, 4])}, r"label: has a value outside 0 \.\. 3"),
        ({"gender": torch.tensor([0, -1])}, r"gender: has a value outside 0 \.\. 1"),
        ({"predicted": torch.tensor([0])}, "predictions differ in number"),
        ({}, None),
    ],
    ids=["label", "gender", "number", "good"],
)
def test_values_out_of_range_are_named(changed, said):
    good = {
        "label": torch.tensor([1, 1]),
        "gender": torch.tensor([0, 1]),
        "predicted": torch.tensor([1, 3]),
    }
    if said is None:
        assert tpr_gap(**good, occupations=4).percent == 100
        return
    with pytest.raises(ValueError, match=said):
        tpr_gap(**{**good, **changed}, occupations=4)


def test_rates_are_those_of_fairlearn():
    metrics = pytest.importorskip("fairlearn.metrics")
    label, gender, predicted = drawn(2)
    found = tpr_gap(label, gender, predicted, occupations=4)
    gaps = []
    for occupation in range(4):
        frame = metrics.MetricFrame(
            metrics=metrics.true_positive_rate,
            y_true=(label == occupation).numpy(),
            y_pred=(predicted == occupation).numpy(),
            sensitive_features=gender.numpy(),
        )
        gaps.append(100 * (frame.by_group[0] - frame.by_group[1]))
    assert found.gaps.tolist() == pytest.approx(gaps)
    assert found.percent == pytest.approx(math.sqrt(np.mean(np.square(gaps))))

    truth, positive = label % 2, predicted % 2
    terms = torch.stack([gender == 1, label < 2, torch.ones_like(gender, dtype=torch.bool)], 1)
    rates = fprd(truth, positive, terms, mode="paper")
    for k in range(3):
        frame = metrics.MetricFrame(
            metrics=metrics.false_positive_rate,
            y_true=truth.numpy(),
            y_pred=positive.numpy(),
            sensitive_features=terms[:, k].numpy(),
        )
        assert float(rates.rates[k]) == pytest.approx(frame.by_group[True])
        assert rates.overall == pytest.approx(frame.overall)


def four_negatives(positives=0):
    """Two negatives with the term, one of them predicted positive; positives lack the term."""
    label = torch.tensor([0] * 4 + [1] * positives)
    predicted = torch.tensor([1, 0, 0, 0] + [1] * positives)
    mentioned = torch.tensor([True, True, False, False] + [False] * positives)[:, None]
    return label, predicted, mentioned


@pytest.mark.parametrize(
    ("mode", "positives", "value", "overall"),
    [
        ("paper", 0, 0.25, 0.25),
        ("code", 0, 0.25, 0.25),
        ("paper", 4, 0.25, 0.25),
        ("code", 4, 0.375, 0.125),
    ],
)
def test_the_difference_of_four_negatives(mode, positives, value, overall):
    found = fprd(*four_negatives(positives), mode=mode)
    assert (found.value, found.overall, found.rates.tolist()) == (value, overall, [0.5])
    assert found.positive_rate == pytest.approx((1 + positives) / (4 + positives))


def test_constant_classifiers():
    label, _, mentioned = four_negatives(4)
    for mode in ("paper", "code"):
        found = fprd(label, torch.zeros_like(label), mentioned, mode=mode)
        assert (found.value, found.positive_rate) == (0, 0)
    always = torch.ones_like(label)
    assert fprd(label, always, mentioned, mode="paper").value == 0
    # All texts with the term are negatives, half of all texts are.
    assert fprd(label, always, mentioned, mode="code").value == 0.5


def test_terms_without_a_rate_are_skipped_and_counted():
    label, predicted, mentioned = four_negatives(4)
    never, positive = torch.zeros(8, dtype=torch.bool), label == 1
    terms = torch.cat([mentioned, never[:, None], positive[:, None]], 1)
    paper = fprd(label, predicted, terms, mode="paper")
    assert (paper.value, paper.skipped) == (0.25, 2)
    assert paper.rates.isnan().tolist() == [False, True, True]
    code = fprd(label, predicted, terms, mode="code")
    assert (code.value, code.skipped) == (0.375 + 0.125, 1)
    with pytest.raises(ValueError, match="there is no negative example"):
        fprd(label[4:], predicted[4:], terms[4:], mode="paper")
    with pytest.raises(ValueError, match="there is no example"):
        fprd(label[:0], predicted[:0], terms[:0], mode="code")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["paper", "code"]))
def test_the_difference_by_loops(seed, mode):
    generator = torch.Generator().manual_seed(seed)
    label, predicted = torch.randint(2, (2, 12), generator=generator)
    terms = torch.randint(2, (12, 3), generator=generator).bool()
    label[0] = 0

    def rate(rows):
        counted = [row for row in rows if mode == "code" or label[row] == 0]
        false = [row for row in counted if label[row] == 0 and predicted[row] == 1]
        return len(false) / len(counted) if counted else None

    overall = rate(range(12))
    rates = [rate([row for row in range(12) if terms[row, k]]) for k in range(3)]
    wanted = sum(abs(r - overall) for r in rates if r is not None)
    found = fprd(label, predicted, terms, mode=mode)
    assert found.value == pytest.approx(wanted)
    assert found.skipped == rates.count(None)


def test_the_neutral_share():
    logits = torch.tensor([[0.1, 0.2, 0.0], [3.0, 1.0, 2.0], [-1.0, 0.0, -2.0], [0.0, 0.0, 5.0]])
    assert neutral_share(logits, 1) == 0.5
    assert neutral_share(logits, 0) == neutral_share(logits, 2) == 0.25
    with pytest.raises(ValueError, match="there is no pair"):
        neutral_share(logits[:0], 1)
