"""Losses, the ETF, MaxNorm and logit adjustment against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.weight_balancing import losses
from retable.papers.weight_balancing.adjustment import adjusted, best_tau, class_accuracies
from retable.papers.weight_balancing.classifiers import (
    FixedETF,
    max_norm_radius,
    normalised,
    project,
    simplex_etf,
)
from retable.papers.weight_balancing.long_tail import counts

CIFAR10, CIFAR100 = counts(4980, 10, 0.01), counts(480, 100, 0.01)


@pytest.mark.parametrize(
    ("n_per_class", "head", "tail"), [(CIFAR10, 0.05073, 3.98974), (CIFAR100, 0.04707, 4.41281)]
)
def test_weights_of_the_class_balanced_loss(n_per_class, head, tail):
    weights = losses.class_balanced_weights(n_per_class, 0.9999)
    assert float(weights.sum()) == pytest.approx(len(n_per_class), rel=1e-6)
    assert float(weights[0]) == pytest.approx(head, abs=5e-6)
    assert float(weights[-1]) == pytest.approx(tail, abs=5e-6)
    inverse = 1 / torch.tensor(n_per_class, dtype=torch.float64)
    limit = losses.class_balanced_weights(n_per_class, 1 - 1e-12).double()
    assert torch.allclose(limit, inverse * len(inverse) / inverse.sum(), rtol=1e-3)
    assert torch.equal(losses.class_balanced_weights([7] * 5, 0.99), torch.ones(5))


def test_the_two_class_balanced_losses_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    labels, weights = torch.tensor([0, 1]), torch.tensor([0.5, 2.0, 0.5], dtype=torch.float64)
    p = logits.softmax(1)
    by_hand = (-0.5 * p[0, 0].log() - 2.0 * p[1, 1].log()) / 2
    assert float(losses.class_balanced(logits, labels, weights)) == pytest.approx(float(by_hand))
    terms = 0.0
    for i, y in enumerate(labels.tolist()):
        for k in range(3):
            part = p[i, k].log() if k == y else (1 - p[i, k]).log()
            terms -= float(weights[y] * part)
    found = losses.class_balanced_binary(logits, labels, weights)
    assert float(found) == pytest.approx(terms / 6)


def test_focal_loss_is_cross_entropy_at_gamma_0():
    logits = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1])
    assert losses.focal(logits, labels, 0.0).allclose(F.cross_entropy(logits, labels))
    p = logits.softmax(1)[torch.arange(5), labels]
    assert losses.focal(logits, labels, 2.0).allclose((-(1 - p).square() * p.log()).mean())


def test_dot_regression_is_0_where_features_point_along_their_row():
    w = simplex_etf(3, 4, torch.Generator().manual_seed(0))
    f = 2.5 * w[torch.tensor([0, 2])]
    labels = torch.tensor([0, 2])
    assert float(losses.dot_regression(f @ w.T, labels, f, w)) == pytest.approx(0, abs=1e-10)
    turned = -f.clone().requires_grad_()
    loss = losses.dot_regression(turned @ w.T, labels, turned, w)
    assert float(loss) == pytest.approx((-2.5 - 2.5) ** 2 / 5.0, rel=1e-5)
    [gradient] = torch.autograd.grad(loss, turned)  # none by the norms: along the row alone
    assert torch.allclose(gradient, -w[labels], atol=1e-5)  # (z - q) / q w, mean of two


def test_gradient_of_feature_regularisation():
    f = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    [gradient] = torch.autograd.grad(losses.feature_regularisation(f, 0.01), f)
    assert torch.allclose(gradient, 0.01 * f / 4)


@settings(max_examples=20, deadline=None)
@given(n_classes=st.integers(2, 12), more=st.integers(0, 8), seed=st.integers(0, 999))
def test_rows_of_an_etf(n_classes, more, seed):
    w = simplex_etf(n_classes, n_classes + more, torch.Generator().manual_seed(seed)).double()
    gram = w @ w.T
    wanted = torch.full_like(gram, -1 / (n_classes - 1)).fill_diagonal_(1)
    assert torch.allclose(gram, wanted, atol=1e-5)
    assert torch.allclose(w.sum(0), torch.zeros(n_classes + more).double(), atol=1e-5)


def test_an_etf_needs_as_many_features_as_classes():
    with pytest.raises(ValueError, match=r"model\.classifier: an ETF of 5 classes"):
        simplex_etf(5, 4, torch.Generator())


def test_the_fixed_etf_learns_its_bias_alone():
    layer = FixedETF(3, 4, torch.Generator().manual_seed(0))
    before = layer.weight.clone(), layer.bias.detach().clone()
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert layer.bias.abs().max() <= 1 / 4
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, weight_decay=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(layer(torch.ones(2, 4)), torch.tensor([0, 1])).backward()
        optimizer.step()
    assert torch.equal(layer.weight, before[0])
    assert not torch.allclose(layer.bias, before[1])
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_max_norm():
    w = torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.0, 2.0]])
    radius = max_norm_radius(w, 0.1)
    assert radius == pytest.approx(1 + 0.1 * 4)
    once = project(w, radius)
    assert torch.equal(once[1], w[1])
    assert torch.allclose(once.norm(dim=1), torch.tensor([radius, 1.0, radius]))
    assert torch.allclose(project(once, radius), once)
    assert torch.allclose(once[0] / radius, w[0] / 5)


def test_normalised_classifiers():
    w = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
    assert torch.allclose(normalised(w, 1.0).norm(dim=1), torch.ones(2))
    assert torch.equal(normalised(w, 0.0), w)
    assert torch.allclose(normalised(w, 1.9).norm(dim=1), torch.tensor([5.0, 0.5]) ** -0.9)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_logit_adjustment(kind):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4, generator=generator)
    assert torch.equal(adjusted(logits, [9, 9, 9, 9], kind, 1.3).argmax(1), logits.argmax(1))
    assert torch.equal(adjusted(logits, [8, 4, 2, 1], kind, 0.0), logits.double())
    assert adjusted(torch.tensor([[1.0, 1.0]]), [9, 1], kind, 1.0).argmax(1).tolist() == [1]


@pytest.mark.parametrize(("n", "tau", "ratio"), [(CIFAR10, 1.6, 1574.76), (CIFAR100, 0.65, 19.43)])
def test_factors_of_multiplicative_adjustment(n, tau, ratio):
    z = adjusted(torch.ones(1, len(n)), n, "multiplicative", tau)[0]
    assert float(z[-1] / z[0]) == pytest.approx(ratio, rel=5e-4)


def test_accuracies_are_averaged_over_classes():
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    predicted = torch.tensor([0, 0, 0, 1, 1, 0])
    found = class_accuracies(predicted, labels, 4)
    assert found[:3].tolist() == [0.75, 1.0, 0.0]
    assert math.isnan(found[3])


def test_tau_is_the_best_on_validation_and_the_smallest_of_several():
    logits = torch.tensor([[1.0, 0.5], [1.0, 0.0]])
    labels = torch.tensor([1, 0])
    # n = 9 : 1: log 9 = 2.2; the first item turns at tau 0.23, the second at 0.46.
    assert best_tau(logits, labels, [9, 1], "additive", [0.0, 0.25, 0.4, 0.5]) == 0.25
    assert best_tau(logits, labels, [9, 1], "additive", [0.4, 0.25]) == 0.25
