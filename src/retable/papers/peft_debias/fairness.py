"""Task scores and extrinsic bias of classifiers: gaps of true and false positive rates, Bias-NLI.

All take labels and predictions of a whole split, ``(n,)`` int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TprGap:
    """Gaps of true positive rates between genders.

    Attributes:
        percent: root mean square over the occupations that have both genders, in %.
        gaps: of each occupation, first gender minus second, in %; nan where a gender is missing.
        skipped: occupations where one is.
    """

    percent: float
    gaps: Tensor
    skipped: int


@dataclass(frozen=True, slots=True)
class Fprd:
    """False positive rate difference.

    Attributes:
        value: sum over terms of the distance from the overall rate.
        overall: rate of all texts.
        rates: of the texts with each term; nan where the rate is not defined.
        skipped: terms where it is not; they add nothing to the sum.
        positive_rate: share of positive predictions. A classifier that is never positive has a
            difference of 0, so that the two belong together.
    """

    value: float
    overall: float
    rates: Tensor
    skipped: int
    positive_rate: float


def tpr_gap(label: Tensor, gender: Tensor, predicted: Tensor, occupations: int) -> TprGap:
    """Root mean square over occupations of the genders' TPR difference, in %.

    Args:
        label: true occupations.
        gender: 0 for male, 1 for female; gaps are male minus female.
        predicted: predicted occupations.
        occupations: how many there are.

    Raises:
        ValueError: where no occupation has both genders, or a value is out of range.
    """
    _check(label, predicted, gender)
    for name, values, size in (("label", label, occupations), ("gender", gender, 2)):
        if int(values.min()) < 0 or int(values.max()) >= size:
            raise ValueError(f"{name}: has a value outside 0 .. {size - 1}")
    label, gender, predicted = label.cpu(), gender.cpu(), predicted.cpu()
    cell = 2 * label + gender
    total = cell.bincount(minlength=2 * occupations).view(-1, 2)
    true = cell[predicted == label].bincount(minlength=2 * occupations).view(-1, 2)
    present = (total > 0).all(1)
    if not bool(present.any()):
        raise ValueError("gender: no occupation has both genders")
    rates = 100 * true.double() / total
    gaps = torch.where(present, rates[:, 0] - rates[:, 1], torch.nan)
    rms = gaps[present].square().mean().sqrt()
    return TprGap(float(rms), gaps, int((~present).sum()))


def fprd(
    label: Tensor, predicted: Tensor, mentioned: Tensor, *, mode: Literal["paper", "code"]
) -> Fprd:
    """False positive rate difference of a binary classifier.

    Args:
        label: 0 or 1.
        predicted: 0 or 1.
        mentioned: (n, k) bool, which texts have which term.
        mode: ``paper`` for rates among negatives, FP / (FP + TN); ``code`` for false positives
            among all examples, as the authors' code counts them.

    Raises:
        ValueError: where there is nothing to count among.
    """
    _check(label, predicted, mentioned)
    label, predicted, terms = label.cpu(), predicted.cpu(), mentioned.cpu().double()
    false = ((label == 0) & (predicted == 1)).double()
    base = (label == 0).double() if mode == "paper" else torch.ones_like(false)
    if not bool(base.any()):
        raise ValueError("label: there is no negative example, so no false positive rate")
    overall = false.sum() / base.sum()
    rates = (false @ terms) / (base @ terms)
    defined = ~rates.isnan()
    value = (rates[defined] - overall).abs().sum()
    positive = (predicted == 1).double().mean()
    return Fprd(float(value), float(overall), rates, int((~defined).sum()), float(positive))


def neutral_share(logits: Tensor, neutral: int) -> float:
    """FN of Bias-NLI: share of pairs whose largest logit is that of ``neutral``.

    Args:
        logits: (n, 3); log-probabilities do as well.
        neutral: index of that class.

    Raises:
        ValueError: without pairs.
    """
    if not len(logits):
        raise ValueError("Bias-NLI: there is no pair")
    return float((logits.argmax(1) == neutral).double().mean())


def _check(label: Tensor, predicted: Tensor, *others: Tensor) -> None:
    sizes = {len(values) for values in (label, predicted, *others)}
    if len(sizes) > 1:
        raise ValueError(f"predicted: labels and predictions differ in number ({sorted(sizes)})")
    if not len(label):
        raise ValueError("label: there is no example")
