"""Free and nudged phases, the tangent and the adjoint, against closed forms and autograd."""

from __future__ import annotations

import cmath

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.equilibrium_prop import phases
from retable.papers.equilibrium_prop.activations import activate, slope
from retable.papers.equilibrium_prop.homeostasis import cosines
from retable.papers.equilibrium_prop.phases import adjoint, cauchy_points, nudged, relax, tangent
from support.equilibrium import bound, images, readout, settled, small

KINDS = [("mlp", 90.0), ("mlp", 0.0), ("loop", 0.0), ("conv", 90.0)]


def loss_of(net, system, u, read):
    """Mean cross-entropy at a state, by torch's own function."""
    z = activate(net.activation, u)[:, read.place] @ read.weight.T + read.bias
    return F.cross_entropy(z, read.target)


@pytest.mark.parametrize("name", ["sigmoid", "dsilu"])
def test_slopes_are_derivatives_and_the_activations_are_holomorphic(name):
    u = torch.linspace(-2, 3, 41, dtype=torch.float64)
    h = 1e-6
    by_hand = (activate(name, u + h) - activate(name, u - h)) / (2 * h)
    torch.testing.assert_close(slope(name, u), by_hand, atol=1e-8, rtol=0)
    z = u + 0.1j
    along = (activate(name, z + h) - activate(name, z - h)) / (2 * h)
    across = (activate(name, z + 1j * h) - activate(name, z - 1j * h)) / (2j * h)
    torch.testing.assert_close(along, across, atol=1e-8, rtol=0)  # Cauchy and Riemann
    torch.testing.assert_close(slope(name, z), along, atol=1e-8, rtol=0)


def test_the_activations_at_single_points():
    half = torch.tensor([0.5], dtype=torch.float64)
    assert float(activate("sigmoid", half)) == 0.5
    assert float(slope("sigmoid", half)) == 1.0
    z = torch.tensor([-30.0, 30.0, 1.0], dtype=torch.float64)
    assert activate("dsilu", z).tolist() == pytest.approx([0, 1, 0.5], abs=1e-10)


@pytest.mark.parametrize("kind", ["mlp", "loop", "conv"])
def test_the_nudge_is_the_gradient_of_the_loss_and_holomorphic(kind):
    net = small(kind)
    read = readout(net)
    s = torch.rand(6, net.n, dtype=torch.float64, requires_grad=True)
    z = s[:, read.place] @ read.weight.T + read.bias
    (gradient,) = torch.autograd.grad(F.cross_entropy(z, read.target, reduction="sum"), s)
    torch.testing.assert_close(read.pull(s.detach()), gradient[:, read.place])
    given = s.detach()
    torch.testing.assert_close(read.pull(given + 0j).real, read.pull(given))
    h = torch.zeros_like(given)
    h[:, read.place] = 1e-6
    z = given + 0.2j
    along = (read.pull(z + h) - read.pull(z - h)) / 2e-6
    across = (read.pull(z + 1j * h) - read.pull(z - 1j * h)) / 2e-6j
    torch.testing.assert_close(along, across, atol=1e-7, rtol=0)


def test_a_large_logit_does_not_overflow():
    net = small()
    read = readout(net)
    s = torch.full((6, net.n), 1e4, dtype=torch.complex128)
    assert read.pull(s).isfinite().all()


@pytest.mark.parametrize(("kind", "angle"), KINDS)
def test_a_nudged_phase_of_two_steps_by_hand(kind, angle):
    """c is of the present state in every step: one frozen at the free state would differ."""
    net = small(kind, angle)
    system, read = bound(net), readout(net)
    u = settled(system)
    beta = torch.full((6, 1), 0.3, dtype=torch.float64)
    found = relax(system, u, 2, readout=read, beta=beta)
    by_hand = u
    for _ in range(2):
        s = activate(net.activation, by_hand)
        by_hand = system.field(s)
        by_hand[:, read.place] += 0.3 * read.pull(s)
    torch.testing.assert_close(found, by_hand)
    frozen = u.clone()
    c = read.pull(activate(net.activation, u))
    for _ in range(2):
        frozen = system.field(activate(net.activation, frozen))
        frozen[:, read.place] += 0.3 * c
    assert float((found - frozen).abs().max()) > 1e-4


@pytest.mark.parametrize(("kind", "angle"), KINDS)
def test_the_tangent_is_the_derivative_of_the_nudged_state(kind, angle):
    """In forward mode by torch over the whole phase; also from a state that has not converged."""
    net = small(kind, angle)
    system, read = bound(net), readout(net)
    u = relax(system, system.zeros(), 3)

    def ended(beta):
        state = u
        for _ in range(7):
            s = activate(net.activation, state)
            state = system.field(s)
            nudge = torch.zeros_like(state)
            nudge[:, read.place] = beta * read.pull(s)
            state = state + nudge
        return activate(net.activation, state)

    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    _, expected = torch.func.jvp(ended, (zero,), (one,))
    torch.testing.assert_close(tangent(system, u, 7, read), expected)


@pytest.mark.parametrize(
    ("kind", "angle"), [*KINDS[:-1], pytest.param("conv", 90.0, marks=pytest.mark.slow)]
)
def test_the_adjoint_and_the_tangent_solve_their_linear_systems(kind, angle):
    """``delta = -J_s^-T c`` and ``s' = -J_s^-1 c`` with ``J_s = dH/ds - 1/D``, by a solver."""
    net = small(kind, angle)
    system, read = bound(net), readout(net)
    u = settled(system)
    s, d = activate(net.activation, u), slope(net.activation, u)
    delta, found = adjoint(system, u, 300, read), tangent(system, u, 300, read)
    for k in range(2):
        one = torch.func.jacrev(lambda state, k=k: bound_one(net, k).field(state[None])[0])(s[k])
        j = one - torch.diag(1 / d[k])
        c = torch.zeros(net.n, dtype=torch.float64)
        c[read.place] = read.pull(s)[k]
        torch.testing.assert_close(delta[k], -torch.linalg.solve(j.T, c), atol=1e-9, rtol=1e-6)
        torch.testing.assert_close(found[k], -torch.linalg.solve(j, c), atol=1e-9, rtol=1e-6)


def bound_one(net, k):
    return net.bind(images(net)[k : k + 1]).detached()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "symmetric"), [("mlp", True), ("conv", True), ("loop", False)])
def test_symmetric_weights_make_both_equal(kind, symmetric):
    net = small(kind, 0.0)
    system, read = bound(net), readout(net)
    u = settled(system)
    ours, exact = tangent(system, u, 200, read), adjoint(system, u, 200, read)
    assert bool((cosines(ours, exact) > 1 - 1e-6).all()) is symmetric
    # the derivative of u, without the slope, is not what is wanted
    of_u = ours / slope(net.activation, u)
    assert not bool((cosines(of_u, exact) > 1 - 1e-6).all())


@pytest.mark.parametrize(("kind", "angle"), KINDS)
def test_the_adjoint_is_backpropagation_through_many_steps(kind, angle):
    net = small(kind, angle)
    system, read = bound(net), readout(net)
    u = settled(system)
    nudge = torch.zeros_like(u, requires_grad=True)  # added to the field of every step
    state = u
    for _ in range(200):
        state = system.field(activate(net.activation, state)) + nudge
    loss = 6 * loss_of(net, system, state, read)
    (gradient,) = torch.autograd.grad(loss, nudge)
    torch.testing.assert_close(adjoint(system, u, 200, read), gradient, atol=1e-9, rtol=1e-6)


@given(
    points=st.integers(2, 9),
    amplitude=st.floats(0.05, 0.5),
)
def test_the_trapezoid_rule_on_an_exponential(points, amplitude):
    """The derivative 2 of exp(2 b) at 0: the first term left is ``2^(N+1) b^N / (N+1)!``."""
    real, above = cauchy_points(points, amplitude)
    found = sum(cmath.exp(2 * b) / b for b in real) / points
    found += sum(2 * (cmath.exp(2 * b) / b).real for b in above) / points
    whole = [amplitude * cmath.exp(2j * cmath.pi * k / points) for k in range(points)]
    assert found == pytest.approx(sum(cmath.exp(2 * b) / b for b in whole) / points, abs=1e-12)
    factorial = 1
    for k in range(2, points + 2):
        factorial *= k
    leading = 2 ** (points + 1) * amplitude**points / factorial
    assert found.real - 2 == pytest.approx(leading, rel=0.3, abs=1e-12)


@pytest.mark.parametrize(("kind", "angle"), KINDS)
@pytest.mark.parametrize("points", [2, 3, 4, 5])
def test_half_of_the_nudges_suffices(kind, angle, points):
    net = small(kind, angle)
    system, read = bound(net), readout(net)
    u = settled(system)
    whole = torch.zeros_like(u, dtype=torch.complex128)
    for k in range(points):
        number = 0.2 * cmath.exp(2j * cmath.pi * k / points)
        beta = torch.full((6, 1), number, dtype=torch.complex128)
        end = relax(system, u + 0j, 12, readout=read, beta=beta)
        whole += activate(net.activation, end) / number / points
    torch.testing.assert_close(nudged(system, u, 12, read, points, 0.2), whole.real)
    assert float(whole.imag.abs().max()) < 1e-12


def test_one_nudge_is_the_difference_from_the_free_state():
    net = small("mlp", 90.0)
    system, read = bound(net), readout(net)
    u = settled(system)
    beta = torch.full((6, 1), 0.1, dtype=torch.float64)
    end = relax(system, u, 9, readout=read, beta=beta)
    by_hand = (activate(net.activation, end) - activate(net.activation, u)) / 0.1
    torch.testing.assert_close(nudged(system, u, 9, read, 1, 0.1), by_hand)


@pytest.mark.parametrize(("kind", "angle"), KINDS)
def test_the_error_of_n_nudges_is_of_order_n(kind, angle):
    net = small(kind, angle)
    system, read = bound(net), readout(net)
    u = settled(system)
    exact = tangent(system, u, 60, read)
    errors = {
        (points, amplitude): float((nudged(system, u, 60, read, points, amplitude) - exact).norm())
        for points in (1, 2, 3, 4)
        for amplitude in (0.02, 0.01)
    }
    for points in (1, 2, 3, 4):
        ratio = errors[points, 0.02] / errors[points, 0.01]
        assert ratio == pytest.approx(2**points, rel=0.3)
    assert errors[1, 0.02] > errors[2, 0.02] > errors[4, 0.02]


def test_the_online_variant_by_hand():
    net = small("mlp", 45.0)
    system, read = bound(net), readout(net)
    how = phases.Online(turns=2, points=4, amplitude=0.1)
    mean, amplitude = phases.online(system, 5, read, how)
    u = system.zeros() + 0j
    states, parts = [], []
    for k in range(8):
        number = 0.1 * cmath.exp(2j * cmath.pi * k / 4)
        for _ in range(5):
            s = activate("sigmoid", u)
            u = system.field(s)
            u[:, read.place] += number * read.pull(s)
        states.append(u)
        parts.append(activate("sigmoid", u) / number)
    torch.testing.assert_close(mean, torch.stack(states).mean(0).real)
    torch.testing.assert_close(amplitude, torch.stack(parts).mean(0).real)


def test_an_early_end_gives_the_state_of_all_steps():
    net = small("mlp", 90.0)
    system = bound(net)
    u = system.zeros()
    torch.testing.assert_close(relax(system, u, 5000, stop=0.0), relax(system, u, 5000))
    assert not u.any()  # what was given is left as it was
    counted = []
    field = type(system).field
    try:
        type(system).field = lambda *given: counted.append(0) or field(*given)
        relax(system, u, 5000, stop=1e-9)
    finally:
        type(system).field = field
    assert 3 < len(counted) < 300


def test_an_overflowed_phase_counts_as_nothing():
    net = small("mlp", 0.0)
    system, read = bound(net), readout(net)
    assert nudged(system, system.zeros(), 60, read, 4, 1e3).isfinite().all()
