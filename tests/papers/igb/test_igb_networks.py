"""Networks of a trunk and heads: outputs by task, and whose parameters are whose."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from retable.papers.igb.networks import LeNet, Mlp

TASKS = {"left": 10, "right": 7, "sum": 1}


def mlp(tasks=TASKS, **options):
    return Mlp(**{"n_features": 6, "tasks": tasks, "widths": [5, 4], **options})


def lenet(tasks=TASKS, **options):
    return LeNet(**{"tasks": tasks, "size": 12, "kernel": 3, "padding": 1, **options})


NETS = pytest.mark.parametrize(
    ("make", "shape"), [(mlp, (6,)), (lenet, (1, 12, 12))], ids=["mlp", "lenet"]
)


@NETS
def test_logits_of_classes_and_numbers_of_regression(make, shape):
    outputs = make()(torch.randn(3, *shape))
    assert {t: tuple(y.shape) for t, y in outputs.items()} == {
        "left": (3, 10),
        "right": (3, 7),
        "sum": (3,),
    }
    assert make()(torch.randn(1, *shape))["sum"].shape == (1,)


@NETS
def test_every_parameter_is_shared_or_of_one_task(make, shape):
    net = make()
    shared, own = net.shared_parameters(), net.task_parameters()
    assert list(own) == list(TASKS)
    listed = [*shared, *(p for parameters in own.values() for p in parameters)]
    assert len({id(p) for p in listed}) == len(listed)
    assert {id(p) for p in listed} == {id(p) for p in net.parameters()}
    outputs = net(torch.randn(3, *shape))
    for task, y in outputs.items():
        net.zero_grad()
        y.square().sum().backward(retain_graph=True)
        touched = {id(p) for p in net.parameters() if p.grad is not None and p.grad.any()}
        assert touched & {id(p) for p in shared}
        assert touched & {id(p) for p in own[task]}
        for other in own.keys() - {task}:
            assert not touched & {id(p) for p in own[other]}


@NETS
def test_one_task_alone_has_the_same_trunk_and_head(make, shape):
    """As one network of many tasks with the others' heads taken away."""
    every, alone = make(), make({"right": 7})
    state = every.state_dict()
    alone.load_state_dict({name: state[name] for name in alone.state_dict()})
    x = torch.randn(3, *shape)
    assert torch.equal(alone(x)["right"], every(x)["right"])
    assert list(alone(x)) == ["right"]


def test_mlp_by_hand():
    net = mlp({"y": 1, "c": 2}, head_widths=[3])
    x = torch.randn(4, 6)
    p = dict(net.named_parameters())
    h = F.relu(x @ p["trunk.0.weight"].T + p["trunk.0.bias"])
    h = F.relu(h @ p["trunk.2.weight"].T + p["trunk.2.bias"])
    for task, y in net(x).items():
        z = F.relu(h @ p[f"heads.{task}.0.weight"].T + p[f"heads.{task}.0.bias"])
        z = z @ p[f"heads.{task}.2.weight"].T + p[f"heads.{task}.2.bias"]
        assert torch.allclose(y, z[:, 0] if task == "y" else z, atol=1e-6)


def test_mlp_is_gradnorms_by_default():
    net = Mlp(n_features=250, tasks={f"t{i}": 1 for i in range(10)})
    weights = [tuple(p.shape) for p in net.shared_parameters() if p.dim() == 2]
    assert weights == [(100, 250), (100, 100), (100, 100), (100, 100)]
    assert [[tuple(p.shape) for p in head] for head in net.task_parameters().values()] == [
        [(1, 100), (1,)]
    ] * 10


def test_a_trunk_without_layers_gives_linear_tasks():
    net = mlp({"y": 1}, widths=[])
    assert net.shared_parameters() == []
    x = torch.randn(4, 6)
    assert torch.allclose(net(2 * x)["y"] - net(x)["y"], net(x)["y"] - net(0 * x)["y"], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({"size": 36, "kernel": 5, "padding": 0}, 20 * 6 * 6),  # 36 → 32 → 16 → 12 → 6
        ({"size": 12, "kernel": 3, "padding": 1}, 20 * 3 * 3),
        ({"size": 11, "kernel": 3, "padding": 0}, 20 * 1 * 1),  # 11 → 9 → 4 → 2 → 1
        ({"size": 16, "kernel": 4, "padding": 1, "channels": [3, 4], "in_channels": 2}, 4 * 9),
    ],
)
def test_lenet_knows_what_is_left_of_an_image(options, features):
    net = lenet(**options)
    (dense,) = [p for p in net.shared_parameters() if p.dim() == 2]
    assert dense.shape == (50, features)
    side = options["size"]
    assert net(torch.randn(2, options.get("in_channels", 1), side, side))["sum"].shape == (2,)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="kernel: 5 x 5 with padding 0 leaves nothing of 12 x 12"):
        lenet(kernel=5, padding=0)
    with pytest.raises(ValueError, match="tasks: a network needs one at least"):
        mlp({})


def test_weights_follow_from_torchs_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in lenet().parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
