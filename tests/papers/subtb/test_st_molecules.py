"""Molecules of fragments: actions, isomorphism, exact likelihood, sampling and evaluation."""

from __future__ import annotations

import math

import pytest
import torch

from retable.papers.subtb import molecules
from retable.papers.subtb.losses import subtb_loss
from retable.papers.subtb.molecule_exact import Tree, key_of, log_likelihood, state_of
from retable.papers.subtb.molecule_model import MoleculeModel, evaluate, sample
from retable.papers.subtb.molecules import Fragments, MoleculeSpace
from retable.papers.subtb.trajectories import Trajectories

TOYS = [
    MoleculeSpace(Fragments((2, 1)), max_blocks=4, min_blocks=2),
    MoleculeSpace(Fragments((3, 2)), max_blocks=3, min_blocks=1),
    MoleculeSpace(Fragments((2, 2), entries=((0, 0), (1, 1), (1, 0))), max_blocks=4, min_blocks=2),
]
CHAIN = TOYS[0]


def network(space, seed=0) -> MoleculeModel:
    torch.manual_seed(seed)
    made = MoleculeModel(space, width=8, rounds=3).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def policy_of(space, seed=0):
    model = network(space, seed)

    def policy(states):
        with torch.no_grad():
            return model.log_policy(states)[0]

    return policy


def successors(space, state):
    """Every action of a state with what it leads to."""
    for action in space.valid(state[None])[0].nonzero()[:, 0].tolist():
        yield action, space.step(state[None], torch.tensor([action]))[0]


def walk(space, policy):
    """p of every molecule as an end, by following each single action from molecules up.

    Independent of the dynamic programming in what it contains: from the empty state, forward.
    """
    level = {(): (space.empty(1)[0], 1.0)}
    ends: dict = {}
    while level:
        after: dict = {}
        for key, (state, mass) in level.items():
            if key and bool(space.ended(state[None])):
                ends[key] = ends.get(key, 0.0) + mass
                continue
            log_pf = policy(state[None])[0]
            for action, child in successors(space, state):
                p = mass * math.exp(log_pf[action].item())
                if action == space.stop:
                    ends[key] = ends.get(key, 0.0) + p
                else:
                    made = key_of(child)
                    after[made] = (child, p + (after[made][1] if made in after else 0.0))
        level = after
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("space", TOYS)
def test_likelihoods_are_those_of_following_every_action_and_sum_to_one(space):
    """The stop's term included (without it the sum is larger), symmetric molecules too."""
    policy = policy_of(space)
    expected = walk(space, policy)
    assert len(expected) > 15
    found = {k: math.exp(log_likelihood(state_of(k, space), space, policy)) for k in expected}
    assert found == pytest.approx(expected, rel=1e-9)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-9)
    no_stop = 0.0
    for key, p in found.items():
        state = state_of(key, space)[None]
        ended = bool(space.ended(state))
        no_stop += p if ended else p / math.exp(policy(state)[0, space.stop].item())
    assert no_stop > 1.1


def test_likelihood_does_not_depend_on_how_the_molecule_is_written():
    space = TOYS[1]
    policy = policy_of(space)
    one = torch.tensor([[0, -1, -1, -1], [1, 0, 2, 1], [1, 0, 0, 0]])
    other = torch.tensor([[1, -1, -1, -1], [0, 0, 0, 0], [1, 1, 2, 1]])
    assert key_of(one) == key_of(other)
    assert log_likelihood(one, space, policy) == pytest.approx(
        log_likelihood(other, space, policy), abs=1e-12
    )
    model = network(space)
    (a, b), (c, d) = model(one[None]), model(other[None])
    assert b.item() == pytest.approx(d.item(), abs=1e-12)  # log F
    assert a[0, -1].item() == pytest.approx(c[0, -1].item(), abs=1e-12)  # stop
    torch.testing.assert_close(a[:, :-1].sort()[0], c[:, :-1].sort()[0], rtol=1e-10, atol=1e-10)


def test_different_molecules_have_different_keys_and_a_key_is_written_back():
    for space in TOYS:
        seen = {}
        for key in walk(space, policy_of(space)):
            state = state_of(key, space)
            assert key_of(state) == key
            tree = Tree.of(state)
            edges = sorted((tuple(sorted((tree.kinds[i], tree.kinds[j]))))
                           for i, at in enumerate(tree.joined) for j, _ in at.values())  # fmt: skip
            seen[key] = (sorted(tree.kinds), edges)
        assert len(seen) > 15


def test_symmetric_molecule_grows_at_both_ends():
    """A0-0A: joining C to either free port gives one molecule, whose P_F is the sum of both."""
    space = MoleculeSpace(Fragments((2, 1)), max_blocks=3, min_blocks=2)
    policy = policy_of(space)
    pair = torch.tensor([[0, -1, -1, -1], [0, 0, 0, 0], [-1] * 4])
    made = [key_of(child) for action, child in successors(space, pair) if action % 3 == 2]
    assert len(made) == 2
    assert made[0] == made[1]
    log_pf = policy(pair[None])[0]
    both = [
        a for a, child in successors(space, pair) if a != space.stop and key_of(child) == made[0]
    ]
    assert len(both) == 2
    assert log_pf[both[0]].item() == pytest.approx(log_pf[both[1]].item(), abs=1e-12)


def test_actions_of_small_states():
    space = MoleculeSpace(Fragments((2, 1)), max_blocks=3, min_blocks=2)
    assert (space.entries, space.actions, space.max_ports) == (3, 3 * 2 * 3 + 1, 2)
    states = torch.stack([
        space.empty(1)[0],
        torch.tensor([[0, -1, -1, -1], [-1] * 4, [-1] * 4]),
        torch.tensor([[0, -1, -1, -1], [1, 0, 1, 0], [-1] * 4]),
        torch.tensor([[1, -1, -1, -1], [1, 0, 0, 0], [-1] * 4]),
        torch.tensor([[0, -1, -1, -1], [1, 0, 1, 0], [0, 0, 0, 1]]),
    ])  # fmt: skip
    assert [row.nonzero()[:, 0].tolist() for row in space.valid(states)] == [
        [0, 2],  # the two fragments, each once
        [0, 1, 2, 3, 4, 5],  # two free ports, three ways; too small to stop
        [0, 1, 2, 18],  # port 1 is taken
        [],  # two caps: no free port, finished
        [],  # three fragments, finished though port 0 of the last is free
    ]
    assert space.ended(states).tolist() == [False, False, False, True, True]
    assert space.leaves(states).tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("space", TOYS)
def test_leaves_are_the_fragments_that_leave_a_molecule(space):
    """By brute force: the rest is connected, and growing it gives the molecule again."""
    torch.manual_seed(1)
    _, _, _, objects = sample(network(space), 40, random_action=0.7)
    for state, count in zip(objects, space.leaves(objects).tolist(), strict=True):
        tree = Tree.of(state)
        every = frozenset(range(len(tree.kinds)))
        parts = {part for part in tree.parts() if len(part) == len(every) - 1}
        assert count == (len(parts) if len(every) > 1 else 1)


@pytest.mark.slow
@pytest.mark.parametrize("space", TOYS)
def test_samples_are_trajectories_and_their_evaluation_is_consistent(space):
    model = network(space)
    torch.manual_seed(2)
    states, actions, lengths, objects = sample(model, 50, random_action=0.3)
    reward = torch.randn(50, dtype=torch.float64)
    batch = Trajectories(states, actions, lengths, objects, reward)
    found = evaluate(model, batch)
    for row in range(50):
        state = space.empty(1)[0]
        for t in range(int(lengths[row])):
            action = int(actions[row, t])
            assert torch.equal(states[row, t], state)
            assert bool(space.valid(state[None])[0, action])
            log_pf, flow = model.log_policy(state[None])
            assert found.log_pf[row, t].item() == pytest.approx(log_pf[0, action].item(), abs=1e-10)
            assert found.log_flow[row, t].item() == pytest.approx(flow.item(), abs=1e-10)
            state = space.step(state[None], torch.tensor([action]))[0]
            leaves = 1 if action == space.stop else int(space.leaves(state[None]))
            assert found.log_pb[row, t].item() == pytest.approx(-math.log(leaves), abs=1e-12)
        assert torch.equal(state, objects[row])
        assert int(actions[row, lengths[row] - 1]) == space.stop or bool(space.ended(state[None]))
        assert found.log_flow[row, lengths[row]] == reward[row]
    assert lengths.max() <= space.steps


def test_padding_gives_no_gradient():
    space = TOYS[0]
    model = network(space)
    torch.manual_seed(0)
    states, actions, lengths, objects = sample(model, 30, random_action=0.5)
    assert lengths.min() < lengths.max()
    batches = []
    for fill in (space.stop, 0):
        behind = torch.arange(space.steps) >= lengths[:, None]
        changed = torch.where(behind, fill, actions)
        batches.append(Trajectories(states, changed, lengths, objects, torch.zeros(30).double()))
    gradients = []
    for batch in batches:
        found = evaluate(model, batch)
        model.zero_grad()
        subtb_loss(found.log_flow, found.log_pf, found.log_pb, found.lengths, 0.9).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)


def test_a_random_policy_is_uniform_over_the_actions_that_there_are():
    space = MoleculeSpace(Fragments((2, 1)), max_blocks=3, min_blocks=2)
    torch.manual_seed(0)
    _, actions, _, _ = sample(network(space), 6000, random_action=1.0)
    second = actions[actions[:, 0] == 0, 1].bincount(minlength=space.actions)
    shares = second / second.sum()
    torch.testing.assert_close(shares[:6], torch.full((6,), 1 / 6), rtol=0, atol=0.03)
    assert second[6:].sum() == 0


def test_refusals():
    with pytest.raises(ValueError, match="no port 2 of a fragment 0"):
        Fragments((2,), entries=((0, 2),))
    with pytest.raises(ValueError, match="each needs a port"):
        Fragments((2, 0))
    with pytest.raises(ValueError, match=r"min_blocks: 5 is not in 1 \.\."):
        MoleculeSpace(Fragments((2,)), max_blocks=4, min_blocks=5)
    with pytest.raises(ValueError, match="of 1 fragments cannot stop"):
        log_likelihood(torch.tensor([[0, -1, -1, -1], *[[-1] * 4] * 3]), CHAIN, policy_of(CHAIN))
    assert molecules.NONE == -1
