"""Fisher's ratio, cosines, the bound on them and the classifier under strong decay."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.weight_balancing.classifiers import simplex_etf
from retable.papers.weight_balancing.geometry import (
    between_classes,
    class_means,
    cosine_bound,
    cosine_map,
    decayed_classifier,
    fisher_ratio,
)
from retable.papers.weight_balancing.losses import class_balanced_weights


def clusters(seed, n_per_class=(5, 5, 5), d=3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(n_per_class)), torch.tensor(n_per_class))
    means = 2 * torch.randn(len(n_per_class), d, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), d, generator=generator, dtype=torch.float64)
    return means[labels] + noise, labels


def literal_ratio(f, labels):
    """By the definition, sum by sum."""
    mu, d = f.mean(0), f.shape[1]
    s_b, s_w = np.zeros((d, d)), np.zeros((d, d))
    for k in np.unique(labels):
        own = f[labels == k]
        mean = own.mean(0)
        s_b += len(own) * np.outer(mean - mu, mean - mu)
        for row in own:
            s_w += np.outer(row - mean, row - mean)
    return s_b, s_w, np.trace(np.linalg.solve(s_w, s_b))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_per_class", [(5, 5, 5), (9, 4, 2)])
def test_fisher_s_ratio_by_brute_force_and_by_eigenvalues(seed, n_per_class):
    f, labels = clusters(seed, n_per_class)
    s_b, s_w, ratio = literal_ratio(f.numpy(), labels.numpy())
    assert fisher_ratio(f, labels) == pytest.approx(ratio, rel=1e-9)
    assert scipy.linalg.eigh(s_b, s_w, eigvals_only=True).sum() == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("sizes", [(4, 7), (20, 2)])
def test_fisher_s_ratio_of_two_classes_in_one_dimension(sizes):
    f, labels = clusters(0, sizes, d=1)
    (n1, n2), (m1, m2) = sizes, class_means(f, labels, 2)[0][:, 0].tolist()
    scatter = sum(float((f[labels == k] - m).square().sum()) for k, m in enumerate((m1, m2)))
    assert fisher_ratio(f, labels) == pytest.approx(n1 * n2 / (n1 + n2) * (m1 - m2) ** 2 / scatter)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-3, 3))
def test_fisher_s_ratio_knows_no_linear_map(seed, shift):
    f, labels = clusters(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64) + 3 * torch.eye(3)
    assert fisher_ratio(f @ matrix + shift, labels) == pytest.approx(
        fisher_ratio(f, labels), rel=1e-6
    )


def test_dimensions_that_say_nothing_change_nothing():
    f, labels = clusters(3)
    ratio = fisher_ratio(f, labels)
    dead = torch.zeros(len(f), 2, dtype=torch.float64)
    constant = torch.full((len(f), 1), 7.0, dtype=torch.float64)
    assert fisher_ratio(torch.cat([f, dead, constant], 1), labels) == pytest.approx(ratio, rel=1e-9)
    twice = torch.cat([f, f[:, :1]], 1)  # S_W is singular, and the authors' code gives no number
    assert fisher_ratio(twice, labels) == pytest.approx(ratio, rel=1e-6)
    assert math.isnan(fisher_ratio(dead, labels))


def test_fisher_s_ratio_of_features_in_single_precision():
    f, labels = clusters(1, (50, 30, 20))
    far = f.float() + 1000  # in float32 sums of squares would lose what the classes differ by
    assert fisher_ratio(far, labels) == pytest.approx(fisher_ratio(far.double(), labels), rel=1e-12)


def test_cosines_by_brute_force():
    f, labels = clusters(2, (4, 3, 2))
    found = cosine_map(f, labels, 3)
    for k in range(3):
        for m in range(3):
            pairs = [
                torch.nn.functional.cosine_similarity(a, b, dim=0)
                for a in f[labels == k] for b in f[labels == m]
            ]  # fmt: skip
            assert float(found[k, m]) == pytest.approx(float(torch.stack(pairs).mean()))
    off = [float(found[k, m]) for k in range(3) for m in range(3) if k != m]
    assert between_classes(found) == pytest.approx(sum(off) / 6)


def test_fitted_features_with_an_etf_keep_to_the_bound():
    """Random directions near the own row, as short as the fit allows."""
    n_classes, checked = 4, 0
    w = simplex_etf(n_classes, 6, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    for length in (3.0, 4.0, 5.0, 8.0):
        labels = torch.arange(n_classes).repeat(50)
        f = w[labels] + 0.3 * torch.randn(200, 6, generator=generator, dtype=torch.float64)
        f = length * f / f.norm(dim=1, keepdim=True)
        p = (f @ w.T).softmax(1)[torch.arange(200), labels]
        error = float((1 - p).max())
        bound = cosine_bound(error, length, n_classes) if error < 1 / n_classes else 1.0
        fits = error < 1 / n_classes
        cosines = torch.nn.functional.cosine_similarity(f[:, None], f[None], dim=2)
        others = labels[:, None] != labels[None]
        assert float(cosines[others].max()) <= bound + 1e-12
        checked += fits and bound < 1
    exact = w[torch.arange(n_classes)] * 2  # collapsed: the bound says something
    error = float((1 - (exact @ w.T).softmax(1).diagonal()).max())
    bound = cosine_bound(error, 2.0, n_classes)
    assert bound < 1
    assert float(torch.nn.functional.cosine_similarity(exact[0], exact[1], dim=0)) <= bound


@pytest.mark.parametrize("balanced", [False, True])
def test_the_classifier_under_strong_decay(balanced):
    """Gradient descent on collapsed features ends at the closed form."""
    generator = torch.Generator().manual_seed(0)
    n_classes, d, decay = 10, 32, 50.0
    n = torch.tensor([500, 300, 180, 108, 65, 39, 23, 14, 8, 5], dtype=torch.float64)
    means = torch.rand(n_classes, d, generator=generator, dtype=torch.float64)
    means /= means.norm(dim=1, keepdim=True)
    c = torch.ones(n_classes, dtype=torch.float64)
    if balanced:
        c = class_balanced_weights(n.long().tolist(), 0.9999).double()
    w = torch.zeros(n_classes, d, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        ce = torch.nn.functional.cross_entropy(
            means @ w.T, torch.arange(n_classes), reduction="none"
        )
        loss = (c * n * ce).sum() / n.sum() + decay / 2 * w.square().sum()
        [gradient] = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w -= 0.9 / decay * gradient
    found = decayed_classifier(means, c, n, decay)
    assert float((found - w).norm() / w.norm()) < 1e-2
    norms = found.norm(dim=1)
    assert (norms[0] > 5 * norms[-1]) is not balanced  # the head's rows are long without weights
