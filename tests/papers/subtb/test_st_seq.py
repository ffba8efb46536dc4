"""Spaces of sequences and the causal network: masks, likelihoods, sampling with kept keys."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from retable.papers.subtb.bitseq import log_likelihood
from retable.papers.subtb.losses import fm_loss, modified_db_loss, subtb_loss, tb_loss
from retable.papers.subtb.seq_model import Decoder, SequenceModel, sample
from retable.papers.subtb.sequences import (
    SequenceSpace,
    evaluation,
    log_probabilities,
    tied_log_flow,
)
from retable.papers.subtb.trajectories import Trajectories

FIXED = SequenceSpace(3, 4)
STOPPED = SequenceSpace(3, 4, min_length=1, stop=True)


def network(space, seed=0, *, dtype=torch.float64, scale=1.0, **options) -> SequenceModel:
    torch.manual_seed(seed)
    settings = {"layers": 2, "heads": 2, "width": 8, "hidden": 12}
    made = SequenceModel(space, **{**settings, **options}).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():  # away from the initialisation's zeros and ones
            parameter.add_(0.1 * scale * torch.randn_like(parameter))
    return made


def batch_of(space, actions, lengths, seed=0) -> Trajectories:
    generator = torch.Generator().manual_seed(seed)
    reward = torch.randn(len(actions), generator=generator, dtype=torch.float64)
    return Trajectories(actions, actions, lengths, actions, reward)


def all_objects(space):
    """Actions and transitions of every object."""
    shortest = space.min_length if space.stop else space.max_length
    words, lengths = [], []
    for length in range(shortest, space.max_length + 1):
        for word in itertools.product(range(space.words), repeat=length):
            words.append([*word, *[0] * (space.max_length - length)])
            lengths.append(length)
    ends = torch.tensor(lengths)
    return space.actions_of(torch.tensor(words), ends), space.transitions(ends)


@pytest.mark.parametrize("space", [FIXED, STOPPED, SequenceSpace(2, 3, 0, True)])
def test_probabilities_of_all_objects_sum_to_one(space):
    """With the stop's factor; without it, the sum over objects that can stop would be larger."""
    actions, lengths = all_objects(space)
    log_p = log_likelihood(network(space), actions, lengths)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    if space.stop:
        no_stop = log_likelihood(network(space), actions, lengths - 1)
        assert no_stop.exp().sum() > 1.1


@pytest.mark.parametrize("space", [FIXED, STOPPED])
def test_likelihood_is_the_product_along_the_path(space):
    """One state at a time, each by a pass over its own prefix alone."""
    model = network(space)
    actions, lengths = all_objects(space)
    found = log_likelihood(model, actions, lengths)
    for row in range(0, len(actions), 7):
        total = 0.0
        for t in range(int(lengths[row])):
            prefix = torch.tensor([[space.start, *actions[row, :t].tolist()]])
            logits = model(prefix)[0][0, -1]
            allowed = space.valid[t]
            p = torch.where(allowed, logits.exp(), 0)
            total += (p / p.sum())[actions[row, t]].log().item()
        assert found[row].item() == pytest.approx(total, abs=1e-10)


@pytest.mark.parametrize("space", [FIXED, STOPPED])
@pytest.mark.parametrize("head", [[], [16, 8]])
def test_steps_with_kept_keys_are_the_whole_pass(space, head):
    model = network(space, head=head)
    tokens = torch.randint(space.actions + 1, (5, space.steps))
    expected, _ = model(tokens)
    decoder = Decoder(model, 5)
    with torch.no_grad():
        found = torch.stack([decoder.step(tokens[:, t], t) for t in range(space.steps)], 1)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)


def test_no_position_sees_a_later_token():
    model = network(FIXED)
    tokens = torch.randint(3, (2, 4), generator=torch.Generator().manual_seed(1))
    logits, flow = model(tokens)
    for t in range(1, 4):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % 3
        new_logits, new_flow = model(changed)
        torch.testing.assert_close(new_logits[:, :t], logits[:, :t], rtol=0, atol=1e-14)
        torch.testing.assert_close(new_flow[:, :t], flow[:, :t], rtol=0, atol=1e-14)
        assert (new_logits[:, t:] - logits[:, t:]).abs().amin((0, 2)).min() > 1e-6


def test_the_action_at_a_position_is_not_in_its_input():
    actions = torch.tensor([[2, 0, 1, 2]])
    assert FIXED.inputs(actions).tolist() == [[FIXED.start, 2, 0, 1]]


def test_the_network_is_torchs_own_encoder():
    """Post-norm layers with ReLU and a causal mask, with the same weights."""
    model = network(SequenceSpace(5, 7), heads=4, width=16)
    layer = nn.TransformerEncoderLayer(16, 4, 12, 0.0, batch_first=True, dtype=torch.float64)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for mine, theirs in zip(model.layers, encoder.layers, strict=True):
        attention = theirs.self_attn
        pairs = [
            (mine.out, attention.out_proj),
            (mine.norm1, theirs.norm1),
            (mine.up, theirs.linear1),
            (mine.down, theirs.linear2),
            (mine.norm2, theirs.norm2),
        ]
        with torch.no_grad():
            attention.in_proj_weight.copy_(mine.qkv.weight)
            attention.in_proj_bias.copy_(mine.qkv.bias)
            for source, target in pairs:
                target.weight.copy_(source.weight)
                target.bias.copy_(source.bias)
    tokens = torch.randint(6, (3, 7))
    x = model.embedding(tokens) + model.positions
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    expected = model.head(encoder(x, mask=mask))
    logits, flow = model(tokens)
    torch.testing.assert_close(logits, expected[..., :-1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flow, expected[..., -1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("space", [SequenceSpace(2, 3), SequenceSpace(2, 3, 1, True)])
def test_samples_follow_the_exact_distribution(space):
    """Chi-square of 20 000 samples over all objects."""
    model = network(space)
    actions, lengths = all_objects(space)
    p = log_likelihood(model, actions, lengths).exp()
    drawn, ends = sample(model, 20_000, generator=torch.Generator().manual_seed(5))
    at = torch.arange(space.steps)
    assert bool((torch.where(at < ends[:, None], 0, drawn) == 0).all())
    same = (drawn[:, None] == actions).all(2) & (ends[:, None] == lengths)
    assert bool((same.sum(1) == 1).all())
    expected = 20_000 * p
    statistic = ((same.sum(0) - expected) ** 2 / expected).sum().item()
    assert statistic < 3 * len(p)


def test_random_actions_are_uniform_over_what_there_is():
    model = network(STOPPED, scale=3.0)
    drawn, ends = sample(model, 8000, random_action=1.0, generator=torch.Generator().manual_seed(0))
    first = drawn[:, 0].bincount(minlength=4) / 8000
    assert first[STOPPED.words] == 0  # min_length is 1
    torch.testing.assert_close(first[:3], torch.full((3,), 1 / 3), rtol=0, atol=0.02)
    assert (ends == 2).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert ends.min() == 2
    assert ends.max() == STOPPED.steps


def test_the_loss_takes_the_policy_not_the_mixture_that_drew():
    """log P_F of given actions is the same whatever eps they were drawn with."""
    model = network(FIXED)
    torch.manual_seed(0)
    drawn, ends = sample(model, 6, random_action=1.0)
    batch = batch_of(FIXED, drawn, ends)
    found = evaluation(FIXED, *model(FIXED.inputs(drawn)), batch)
    torch.testing.assert_close(
        found.log_pf.sum(1).detach(), log_likelihood(model, drawn, ends), rtol=1e-12, atol=1e-12
    )


def test_at_the_largest_length_stopping_is_certain():
    logits = torch.randn(2, STOPPED.steps, 4)
    actions = torch.full((2, STOPPED.steps), STOPPED.words)
    log_pf = log_probabilities(STOPPED, logits, actions)
    assert bool((log_pf[:, -1] == 0).all())
    assert bool((log_pf[:, 0] < -1e8).all())  # and before the smallest, impossible


@pytest.mark.parametrize("space", [FIXED, STOPPED])
def test_the_end_has_the_reward_and_gives_the_network_no_gradient(space):
    actions, lengths = all_objects(space)
    batch = batch_of(space, actions, lengths)
    logits = torch.randn(len(actions), space.steps, space.actions, dtype=torch.float64)
    flow = torch.randn(len(actions), space.steps, dtype=torch.float64, requires_grad=True)
    found = evaluation(space, logits, flow, batch)
    rows = torch.arange(len(actions))
    assert bool((found.log_flow[rows, lengths] == batch.log_reward).all())
    assert bool((found.log_pb == 0).all())
    loss = subtb_loss(found.log_flow, found.log_pf, found.log_pb, lengths, 0.9)
    (gradient,) = torch.autograd.grad(loss, flow)
    inside = torch.arange(space.steps) < lengths[:, None]
    assert bool((gradient[~inside] == 0).all())
    assert gradient[inside].abs().min() > 0


def test_padding_changes_nothing():
    """Actions behind the stop are never read."""
    actions, lengths = all_objects(STOPPED)
    model = network(STOPPED)
    behind = torch.arange(STOPPED.steps) >= lengths[:, None]
    other = torch.where(behind, torch.randint(4, actions.shape), actions)
    assert not torch.equal(other, actions)
    losses = []
    for chosen in (actions, other):
        batch = batch_of(STOPPED, chosen, lengths)
        found = evaluation(STOPPED, *model(STOPPED.inputs(chosen)), batch)
        parts = (found.log_flow, found.log_pf, found.log_pb, found.lengths)
        loss = subtb_loss(*parts, 1.9)
        loss.backward()
        losses.append([loss.item(), *(p.grad.abs().sum().item() for p in model.parameters())])
        model.zero_grad()
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("space", [FIXED, STOPPED])
def test_exact_flows_make_every_objective_zero(space):
    """For any trajectory, also one the policy would hardly draw."""
    actions, lengths = all_objects(space)
    batch = batch_of(space, actions, lengths)
    shape = (len(actions), space.steps)
    logits = torch.zeros(*shape, space.actions, dtype=torch.float64)
    flow = torch.zeros(shape, dtype=torch.float64)
    rewards = batch.log_reward.exp()
    for row in range(len(actions)):
        for t in range(int(lengths[row])):
            with_prefix = (actions[:, :t] == actions[row, :t]).all(1) & (lengths > t)
            flow[row, t] = rewards[with_prefix].sum().log()
            for a in range(space.actions):
                logits[row, t, a] = rewards[with_prefix & (actions[:, t] == a)].sum().log()
    found = evaluation(space, logits, flow, batch)
    parts = (found.log_flow, found.log_pf, found.log_pb, found.lengths)
    for lam in (0.0, 0.5, 1.9):
        assert subtb_loss(*parts, lam).item() == pytest.approx(0, abs=1e-18)
    assert modified_db_loss(*parts).item() == pytest.approx(0, abs=1e-18)
    log_z = rewards.sum().log()
    zero = tb_loss(log_z, found.log_pf, found.log_pb, found.log_reward, lengths)
    assert zero.item() == pytest.approx(0, abs=1e-18)
    tied = tied_log_flow(space, logits)
    inside = torch.arange(space.steps) < lengths[:, None]
    torch.testing.assert_close(tied[inside], flow[inside], rtol=1e-12, atol=1e-12)


def test_flow_matching_of_a_tree_is_detailed_balance_with_tied_flows():
    """Residuals log inflow - log outflow at each state behind the first, on edge flows."""
    actions, lengths = all_objects(FIXED)
    batch = batch_of(FIXED, actions, lengths)
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(len(actions), 4, 3, dtype=torch.float64, generator=generator)
    found = evaluation(FIXED, logits, tied_log_flow(FIXED, logits), batch)
    loss = modified_db_loss(found.log_flow, found.log_pf, found.log_pb, lengths)
    inflow = logits.gather(2, actions[..., None]).reshape(-1, 1)
    outflow = torch.cat([logits[:, 1:], torch.zeros_like(logits[:, :1])], 1).flatten(0, 1)
    terminal = torch.tensor([False, False, False, True]).repeat(len(actions))
    reward = batch.log_reward.repeat_interleave(4)
    parts = [
        fm_loss(inflow[at], outflow[at], reward[at], terminal[at], epsilon=1e-12).item()
        for at in (terminal, ~terminal)
    ]
    assert loss.item() == pytest.approx((parts[0] + 3 * parts[1]) / 4, rel=1e-8)


def test_refusals():
    with pytest.raises(ValueError, match="two words"):
        SequenceSpace(1, 4)
    with pytest.raises(ValueError, match=r"min_length has to lie in 0 \.\. 4"):
        SequenceSpace(3, 4, 5, True)
    with pytest.raises(ValueError, match=r"no multiple of model\.heads"):
        SequenceModel(FIXED, width=10, heads=4)
    with pytest.raises(ValueError, match=r"not in 1 \.\. 4"):
        STOPPED.actions_of(torch.zeros(1, 4, dtype=torch.long), torch.tensor([0]))
