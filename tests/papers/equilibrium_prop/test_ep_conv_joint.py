"""The joint convolutions against the literal ones: fields, derivatives, gradients, training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.equilibrium_prop.conv import Conv, softmax_pool
from retable.papers.equilibrium_prop.conv_joint import JointConv, image_of, pool, sites_of
from retable.papers.equilibrium_prop.module import Equilibrium
from retable.papers.equilibrium_prop.phases import adjoint, nudged, relax, tangent
from support.equilibrium import images, readout


def both(angle=90.0, channels=(3, 4, 5), seed=0):
    """The literal network and the joint one, with the same weights and biases that are not 0."""
    side = 4 * 2 ** (len(channels) - 1)
    nets = [made((2, side, side), channels, angle).double() for made in (Conv, JointConv)]
    nets[0].draw(torch.Generator().manual_seed(seed))
    for bias in (nets[0].input_bias, *nets[0].bias):
        torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(seed + 1))
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def last(net, s):
    """A state with channels first as one with channels last."""
    places = zip(net.layers.values(), net.shapes, strict=True)
    return torch.cat(
        [s[:, p].view(len(s), *shape).movedim(1, 3).flatten(1) for p, shape in places], 1
    )


def state(net, seed=3):
    return torch.rand(6, net.n, generator=torch.Generator().manual_seed(seed)).double()


def test_windows_there_and_back_and_their_pooling():
    v = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    q = sites_of(v)
    assert q[2, 1, 0, 2].tolist() == v[1, :, 1, 4].tolist()  # second row, first column
    assert torch.equal(image_of(q), v)
    for values in (v, v + 0.3j, 1e3 * v):
        pooled, slope = softmax_pool(values)
        _, found, of_sites = pool(sites_of(values))
        torch.testing.assert_close(found.movedim(3, 1), pooled)
        torch.testing.assert_close(image_of(of_sites), slope)


@given(
    channels=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    angle=st.sampled_from([0.0, 30.0, 90.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=15, deadline=None)
def test_the_field_and_its_derivative_are_the_literal_ones(channels, angle, seed):
    literal, joint = both(angle, tuple(channels), seed)
    x, s, v = images(literal), state(literal, seed), state(literal, seed + 1) - 0.5
    one, other = literal.bind(x).detached(), joint.bind(x).detached()
    value, pushed = one.both(s, v)
    found, along = other.both(last(literal, s), last(literal, v))
    torch.testing.assert_close(found, last(literal, value))
    torch.testing.assert_close(along, last(literal, pushed))
    torch.testing.assert_close(other.field(last(literal, s)), found)
    torch.testing.assert_close(other.push(last(literal, s), last(literal, v)), along)
    complex_state = s + 1j * v
    found = other.field(last(literal, complex_state))
    torch.testing.assert_close(found, last(literal, one.field(complex_state)))


def test_free_states_and_error_vectors_are_the_literal_ones():
    literal, joint = both()
    x, out = images(literal), readout(literal)
    one, other = literal.bind(x).detached(), joint.bind(x).detached()
    u = relax(one, one.zeros(), 30)
    w = relax(other, other.zeros(), 30)
    torch.testing.assert_close(w, last(literal, u))
    for found, expected in (
        (tangent(other, w, 9, out), tangent(one, u, 9, out)),
        (adjoint(other, w, 9, out), adjoint(one, u, 9, out)),
        (nudged(other, w, 9, out, 2, 0.5), nudged(one, u, 9, out, 2, 0.5)),
        (nudged(other, w, 9, out, 6, 0.5), nudged(one, u, 9, out, 6, 0.5)),
    ):
        torch.testing.assert_close(found, last(literal, expected))


def gradients(net, value):
    found = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    return [None if part is None else part.clone() for part in found]


def test_gradients_of_the_weights_are_the_literal_ones():
    literal, joint = both()
    x, s, v = images(literal), state(literal), state(literal, 4) - 0.5
    one, other = literal.bind(x), joint.bind(x)
    pairs = [
        ((one.field(s) * v).sum(), (other.field(last(literal, s)) * last(literal, v)).sum()),
        (
            one.push(s, one.push(s, v)).square().sum(),
            other.push(last(literal, s), other.push(last(literal, s), last(literal, v)))
            .square()
            .sum(),
        ),
    ]
    for expected, found in pairs:
        torch.testing.assert_close(gradients(joint, found), gradients(literal, expected))


@pytest.mark.parametrize(
    "options",
    [{"rule": "ep"}, {"rule": "rbp"}, {"rule": "bp"}, {"points": 2}, {"points": 4, "turns": 2}],
    ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()),
)
def test_a_training_step_has_the_literal_gradients(options):
    found = []
    for net in both(60.0, (3, 4)):
        one = Equilibrium(
            seed=0, net=net, n_classes=5, free_steps=20, nudged_steps=6, **options
        ).double()
        net.load_state_dict(both(60.0, (3, 4))[0].state_dict())  # a module draws anew
        one._trainer = SimpleNamespace(is_last_batch=False, testing=False, global_step=0)
        output = one.train().shared_step((images(net), torch.arange(6) % 5))
        output.loss.backward()
        found.append((output.loss, [p.grad for p in one.parameters()]))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_close(dtype):
    literal, joint = both(0.0)
    system = joint.float().bind(images(literal).float()).detached()
    half = system.to(dtype)
    assert type(half) is type(system)
    u, lower = (relax(one, one.zeros(), 20) for one in (system, half))
    assert lower.dtype == dtype
    assert float((u - lower.float()).abs().max()) < (0.02 if dtype == torch.float16 else 0.2)
