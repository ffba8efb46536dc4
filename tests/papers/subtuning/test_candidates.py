"""Training of sets of blocks: against the literal loop, and on a task whose best block is known."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.papers.subtuning.candidates import Images, Recipe, SetTrainer, folds_of
from retable.papers.subtuning.networks import Blocks, network
from retable.training.seeds import derive_seed

ADAMW = functools.partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.01)
COSINE = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=3)


class Flips:
    def copies(self, images):
        return torch.stack([images, images.flip(-1)])

    def draw(self, n, generator):
        return torch.randint(2, (n,), generator=generator)

    def __call__(self, images, generator):
        return self.copies(images)[self.draw(len(images), generator), torch.arange(len(images))]


def trainer(recipe=None, name="resnet8", n=40):
    torch.manual_seed(0)
    net = network(name, 10)
    side = 32 if name == "vit_tiny" else 8
    images, labels = torch.randn(n, 3, side, side), torch.arange(n) % 10
    with torch.no_grad():
        net.train()(images)  # statistics that are not those of a new network
    recipe = recipe or Recipe(3, 16, ADAMW, COSINE, augment=Flips())
    return SetTrainer(net, images, labels, recipe, 10, seed=7)


def literal(sets: SetTrainer, tuned, chosen, fold=0):
    """The authors' loop: the whole network at every step, in the modes that they set."""
    recipe = sets.recipe
    net = copy.deepcopy(sets.net)
    torch.manual_seed(derive_seed(sets.seed, "head", fold))
    if recipe.head == "new":
        net.fc = nn.Linear(net.fc.in_features, 10)
    net.requires_grad_(False)
    for module in (*(net.blocks[i] for i in tuned), net.fc):
        module.requires_grad_(True)
    optimizer = recipe.optimizer([p for p in net.parameters() if p.requires_grad])
    scheduler = recipe.scheduler(optimizer)
    for epoch in range(recipe.epochs):
        draws = torch.Generator().manual_seed(derive_seed(sets.seed, "order", fold, epoch))
        order = chosen[torch.randperm(len(chosen), generator=draws)]
        for items in order.split(recipe.batch_size):
            net.eval()
            for i in tuned:
                net.blocks[i].train(recipe.batch_norm == "train")
            images = sets.plain.images[items]
            if recipe.augment is not None:
                images = recipe.augment(images, draws)
            optimizer.zero_grad()
            F.cross_entropy(net(images), sets.labels[items]).backward()
            optimizer.step()
        scheduler.step()
    return net.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tuned", "options"),
    [
        ((), {}),
        ((1,), {}),
        ((0, 2), {"head": "kept"}),
        ((2,), {"batch_norm": "eval", "augment": None}),
        ((0, 1, 2), {"channels_last": True}),
        ((1,), {"augment": Flips().__call__}),  # not of fixed copies: drawn at every step
    ],
    ids=["head", "middle", "kept", "pretrained statistics", "all", "drawn at every step"],
)
def test_it_trains_as_the_literal_loop_does(tuned, options):
    sets = trainer(Recipe(3, 16, ADAMW, COSINE, **{"augment": Flips(), **options}))
    chosen = torch.arange(5, 35)
    fast, slow = sets.train(tuned, chosen, fold=2), literal(sets, tuned, chosen, fold=2)
    with torch.no_grad():
        expected = slow(sets.plain.images)
    found = fast.logits(sets.plain)
    assert (
        expected - literal(sets, tuned, chosen[:20]).eval()(sets.plain.images)
    ).abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


def test_a_transformer_is_trained_as_well():
    sets = trainer(name="vit_tiny")
    fast, slow = sets.train((1,), torch.arange(40)), literal(sets, (1,), torch.arange(40))
    with torch.no_grad():
        torch.testing.assert_close(
            fast.logits(sets.plain), slow(sets.plain.images), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("first", [0, 1, 3])
def test_what_is_kept_is_what_would_be_computed(first):
    sets = trainer()
    items = torch.tensor([7, 3, 3, 39])
    kept, not_kept = (Images(sets.net, sets.plain.images, kept=k) for k in (True, False))
    for images in (kept, kept, not_kept):  # the second time from what is there
        found = images.at(first, items)
        expected = sets.net.before(sets.plain.images[items], first)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not trainer(Recipe(1, 16, ADAMW, augment=Flips().__call__)).kept


def test_what_is_frozen_keeps_its_bits_and_what_is_tuned_does_not():
    sets = trainer()
    before = copy.deepcopy(sets.net.state_dict())
    trained = sets.train((1,), torch.arange(40))
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.values(), sets.net.state_dict().values(), strict=True)
    )
    own, pretrained = trained.part.blocks[0].state_dict(), sets.net.blocks[1].state_dict()
    assert all(not torch.equal(own[k], pretrained[k]) for k in own)
    # Beside the block only the head was given to the optimiser.
    assert len(trained.parameters()) == len(list(sets.net.blocks[1].parameters())) + 2


def test_statistics_of_tuned_blocks_move_only_where_they_are_asked_to():
    for mode, moved in (("train", True), ("eval", False)):
        sets = trainer(Recipe(1, 16, ADAMW, batch_norm=mode))
        block = sets.train((1,), torch.arange(40)).part.blocks[0]
        assert torch.equal(block.bn1.running_mean, sets.net.blocks[1].bn1.running_mean) != moved


@pytest.mark.slow
def test_the_order_of_candidates_does_not_matter():
    folds = folds_of(40, 2, 7)
    sets = trainer()
    first = [sets.cross_validated(s, folds) for s in [(2,), (0,), (2,)]]
    other = [trainer().cross_validated(s, folds) for s in [(0,), (2,)]]
    assert first == [other[1], other[0], other[1]]


def test_cross_validation_is_the_mean_over_folds_that_were_not_trained_on():
    sets = trainer()
    folds = folds_of(40, 4, 7)
    values = []
    for v, fold in enumerate(folds):
        others = torch.tensor([i for i in torch.cat(folds).tolist() if i not in fold.tolist()])
        order = torch.cat([f for w, f in enumerate(folds) if w != v])
        assert sorted(others.tolist()) == sorted(order.tolist())
        net = literal(sets, (2,), order, v)
        with torch.no_grad():
            values.append(
                (net(sets.plain.images[fold]).argmax(1) == sets.labels[fold]).float().mean()
            )
    assert sets.cross_validated((2,), folds) == pytest.approx(float(torch.stack(values).mean()))


def test_folds_are_a_partition_that_the_seed_alone_decides():
    folds = folds_of(1000, 5, 3)
    assert [len(f) for f in folds] == [200] * 5
    assert torch.cat(folds).sort().values.tolist() == list(range(1000))
    assert all(torch.equal(a, b) for a, b in zip(folds, folds_of(1000, 5, 3), strict=True))
    assert not torch.equal(folds[0], folds_of(1000, 5, 4)[0])


@pytest.fixture(scope="module")
def parities():
    """Six dense blocks, trained to tell four pairs of parities apart; images and labels."""
    torch.manual_seed(0)
    signs = torch.randint(2, (1200, 4))
    labels = (signs[:, 0] ^ signs[:, 1]) + 2 * (signs[:, 2] ^ signs[:, 3])
    images = torch.cat([2.0 * signs - 1, torch.zeros(1200, 12)], 1) + 0.3 * torch.randn(1200, 16)
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(6)]
    net = Blocks(nn.Identity(), blocks, nn.Identity(), nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval(), images, labels


def profile(net, images, labels):
    """Accuracy on held-out images, of the head alone and of each block with the head."""
    recipe = Recipe(20, 50, functools.partial(torch.optim.AdamW, lr=5e-3), head="kept")
    sets = SetTrainer(net, images[:600], labels[:600], recipe, 4, seed=1)
    held_out = Images(sets.net, images[600:], kept=sets.kept)
    return [
        sets.validated(blocks, held_out, labels[600:])
        for blocks in [(), *((i,) for i in range(len(net)))]
    ]


@pytest.mark.slow
def test_renamed_labels_need_the_head_alone(parities):
    net, images, labels = parities
    head, *single = profile(net, images, (labels + 1) % 4)
    assert head > 0.95
    assert head >= max(single) - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("shifted", [0, 2])
def test_the_block_that_can_undo_a_shift_is_the_best_of_the_profile(parities, shifted):
    """Features before a block are turned: its weights alone can turn them back."""
    net, images, labels = parities
    turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(2)))[0]
    net = copy.deepcopy(net)
    if shifted == 0:
        images = images @ turn
    else:
        turned = nn.Linear(16, 16, bias=False)
        turned.weight = nn.Parameter(turn)
        net.blocks[shifted] = nn.Sequential(turned, net.blocks[shifted])
    head, *single = profile(net, images, labels)
    assert single.index(max(single)) == shifted
    assert max(single) > head + 0.1
