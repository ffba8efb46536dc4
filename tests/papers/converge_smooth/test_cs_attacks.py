"""Perturbations to train on, priors, and the attacks by which robustness is measured."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.papers.converge_smooth.attacks import (
    agreed,
    gradient,
    several_steps,
    single_step,
    without_small,
)
from retable.papers.converge_smooth.evaluation import classified, survivors
from retable.papers.converge_smooth.overfitting import collapse, jump
from retable.papers.converge_smooth.priors import Prior

XI = 16 / 255


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10)
    )


@pytest.fixture
def images():
    return torch.rand(12, 3, 8, 8, generator=generator(1))


LABELS = torch.arange(12) % 10


def ce(logits):
    return F.cross_entropy(logits, LABELS, reduction="none")


def one_step(net, images, **options):
    given = {"budget": XI, "start": XI, "step": XI, "project": False} | options
    return single_step(net, images, ce, generator(), **given)


def test_the_step_is_along_the_sign_of_the_gradient(net, images):
    net.eval()
    found = one_step(net, images, start=0.0)
    start = images.clone().requires_grad_()
    F.cross_entropy(net(start), LABELS).backward()
    expected = (images + XI * start.grad.sign()).clamp(0, 1)
    assert torch.equal(found.images, expected)
    assert torch.equal(found.start, images)


def test_without_the_projection_it_goes_up_to_two_budgets_away(net, images):
    """Pitfall 14: intended; the authors' code has the projection commented out."""
    open_ = one_step(net, images).images
    assert XI * 1.5 < (open_ - images).abs().max() <= 2 * XI + 1e-6
    classic = one_step(net, images, step=1.25 * XI, project=True).images
    assert (classic - images).abs().max() <= XI + 1e-6
    for found in (open_, classic):
        assert 0 <= found.min() <= found.max() <= 1


def test_entries_of_small_gradients_are_left_out_by_image():
    found = torch.tensor([[1.0, -2.0, 3.0, -4.0], [10.0, 20.0, -30.0, 40.0]]).view(2, 1, 2, 2)
    kept = without_small(found, 0.5).flatten(1)
    assert kept.tolist() == [[0, 0, 3, -4], [0, 0, -30, 40]]


def test_gradients_of_several_starts_have_to_agree(net, images):
    signs = agreed([torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 1.0, -1.0])])
    assert signs.tolist() == [1, 0, 0]
    three, one = (one_step(net, images, starts=n).images for n in (3, 1))
    assert not torch.equal(three, one)


def test_several_steps_raise_the_loss_more_and_stay_within_the_budget(net, images):
    net.eval()
    fast = one_step(net, images, project=True, step=1.25 * XI).images
    slow = several_steps(net, images, ce, generator(), budget=XI, step=XI / 4, steps=20).images
    assert (slow - images).abs().max() <= XI + 1e-6
    assert ce(net(slow)).mean() > ce(net(fast)).mean() > ce(net(images)).mean()


def test_kept_logits_have_their_graph_and_others_have_not(net, images):
    assert one_step(net, images, keep=True).logits.requires_grad
    assert not one_step(net, images).logits.requires_grad


def prior(kind="momentum", n=5, **options):
    made = Prior(kind, XI, XI, **options)
    made.reset(n, torch.zeros(1, 3, 8, 8), generator())
    return made


def mean_gradient(net, images, labels):
    """Of the batch's mean loss, as the authors' code has it."""
    start = images.clone().requires_grad_()
    F.cross_entropy(net(start), labels).backward()
    return start.grad


def test_priors_begin_in_the_corners():
    made = prior()
    assert torch.equal(made.kept.abs(), torch.full((5, 3, 8, 8), XI))
    assert made.momentum.count_nonzero() == 0
    assert prior("epoch").momentum is None


def test_a_momentum_is_of_the_whole_batch_gradient_by_its_norm(net, images):
    """Pitfall 7, literally: one scalar norm for both images."""
    net.eval()
    made, ids = prior(), torch.tensor([3, 1])
    past = torch.randn(5, 3, 8, 8, generator=generator(2)) / 1000
    made.momentum = past.clone()
    eta, x, y = made.kept[ids].clone(), images[:2], LABELS[:2]
    g = mean_gradient(net, x + eta, y)
    m = g / g.abs().sum() + 0.3 * past[ids]
    found = made(net, x, ids, lambda z: F.cross_entropy(z, y, reduction="none"))

    def clipped(delta):
        return torch.max(torch.min(delta.clamp(-XI, XI), 1 - x), -x)

    assert torch.allclose(made.momentum[ids], m)
    assert torch.allclose(made.kept[ids], clipped(eta + XI * m.sign()))
    assert torch.allclose(found.images, x + clipped(eta + XI * g.sign()))
    by_image = torch.stack([one / one.abs().sum() for one in g]) + 0.3 * past[ids]
    assert not torch.equal(by_image.sign(), m.sign()), "a norm for each image has other signs"


def test_a_perturbation_belongs_to_its_image_whatever_the_order(net, images):
    """Pitfall 6."""
    net.eval()
    first, second = prior(), prior()
    y = LABELS[:5]
    for made, order in ((first, torch.arange(5)), (second, torch.tensor([4, 2, 0, 1, 3]))):
        for _ in range(2):
            given = y[order]
            made(
                net, images[:5][order], order,
                lambda z, given=given: F.cross_entropy(z, given, reduction="none"),
            )  # fmt: skip
    assert torch.allclose(first.kept, second.kept)
    untouched = prior()
    untouched(net, images[:2], torch.tensor([0, 4]), lambda z: z.logsumexp(1))
    assert torch.equal(untouched.kept[1:4], prior().kept[1:4])


def test_other_priors_go_on_from_the_perturbation_itself(net, images):
    net.eval()
    y = LABELS[:5]

    def loss(logits):
        return F.cross_entropy(logits, y, reduction="none")

    by_epoch, by_batch = prior("epoch"), prior("batch")
    ids = torch.tensor([4, 3, 2, 1, 0])
    found = by_epoch(net, images[:5], ids, loss)
    assert torch.allclose(by_epoch.kept[ids], found.images - images[:5], atol=1e-6)
    found = by_batch(net, images[:5], ids, loss)
    assert torch.allclose(by_batch.kept, found.images - images[:5], atol=1e-6)


def test_what_a_checkpoint_holds_of_a_prior_is_all_of_it():
    made = prior()
    made.momentum += 1
    again = Prior("momentum", XI, XI)
    again.load(made.state(), torch.device("cpu"))
    assert torch.equal(again.kept, made.kept)
    assert torch.equal(again.momentum, made.momentum)
    assert set(prior("epoch").state()) == {"kept"}


def literal_pgd(net, images, labels, steps, loss):
    """The authors' loop: all images in every step, those that are broken are not updated."""
    noise = (2 * torch.rand(images.shape, generator=generator()) - 1) * XI
    at = (images + noise).clamp(0, 1)
    for _ in range(steps):
        given = at.clone().requires_grad_()
        logits = net(given)
        right = logits.argmax(1) == labels
        loss(logits).sum().backward()
        moved = (at - images + 2 / 255 * given.grad.sign()).clamp(-XI, XI)
        at = torch.where(right[:, None, None, None], (images + moved).clamp(0, 1), at)
    return net(at).argmax(1) == labels


@pytest.mark.parametrize("kind", ["ce", "margin"])
def test_an_attack_that_leaves_broken_images_out_is_the_literal_one(net, images, kind):
    net.eval()
    labels = net(images).argmax(1)
    labels[:2] = (labels[:2] + 1) % 10

    def raised(logits):
        if kind == "ce":
            return F.cross_entropy(logits, labels, reduction="none")
        own = logits.gather(1, labels[:, None])[:, 0]
        return logits.scatter(1, labels[:, None], -torch.inf).max(1).values - own

    found = survivors(
        net, images, labels, generator(), budget=XI, step=2 / 255, after=(1, 2, 4), loss=kind
    )
    for steps, mask in found.items():
        assert torch.equal(mask, literal_pgd(net, images, labels, steps, raised)), steps
    assert 0 < found[1].sum() < 10, "some are broken, and not all"


def test_longer_attacks_break_no_less_and_nothing_of_the_network_moves(net, images):
    """Pitfalls 9 and 10."""
    net.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    labels = net(images).argmax(1)
    assert classified(net, images, labels).all()
    found = survivors(
        net, images, labels, generator(), budget=XI, step=2 / 255, after=(1, 5, 10, 50)
    )
    counts = [int(mask.sum()) for mask in found.values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0] <= 12
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    net.train()
    with pytest.raises(ValueError, match="evaluation mode"):
        survivors(net, images, labels, generator(), budget=XI, step=XI, after=(1,))


def test_a_gradient_does_not_depend_on_the_rest_of_the_batch(net, images):
    net.eval()
    _, whole = gradient(net, images, ce)
    _, alone = gradient(net, images[:1], lambda z: F.cross_entropy(z, LABELS[:1], reduction="none"))
    assert torch.allclose(whole[:1], alone, atol=1e-6)


def test_a_collapse_is_found_where_it_is():
    """Pitfall 11, with the accuracies of a third party's run."""
    robust = [0.30, 0.40, 0.45, 0.457, 0.081, 0.05, 0.02]
    fast = [0.40, 0.50, 0.54, 0.549, 0.463, 0.757, 0.94]
    assert collapse(robust, fast) == 4
    assert collapse(robust[:4], fast[:4]) is None
    assert collapse(robust, [0.4, 0.5, 0.54, 0.549, 0.46, 0.4, 0.3]) is None, "both fell"
    assert collapse([0.08, 0.02, 0.3], [0.1, 0.3, 0.3]) is None, "it had not begun to learn"


def test_the_jump_is_by_the_changes_before_it():
    losses = [2.0, 1.9, 1.8, 1.7, 1.1]
    assert jump(losses, 4) == pytest.approx(6)
    assert jump(losses, 2) is None
    assert jump([1.0, 1.0, 1.0, 2.0], 3) is None
