"""NYUv2: the masks, the nine metrics, what is shared, and the module that has them.

Literal loops over pixels stand beside what is computed at once.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from retable.config.compose import compose, hydra_ready
from retable.data.base import DataPaths
from retable.papers.igb.data_nyuv2 import GeneratedScenes
from retable.papers.igb.metrics_nyuv2 import (
    LARGER_IS_BETTER,
    confusion,
    delta_m,
    depth_errors,
    metrics_of,
    normal_errors,
)
from retable.papers.igb.module_nyuv2 import LOSSES, SceneNet, Scenes
from retable.training.execute import build

TASKS = {"segmentation": 13, "depth": 1, "normals": 3}
BASE = {f"{task}/{name}": 0.5 for task, names in LARGER_IS_BETTER.items() for name in names}


def batch(n=3, seed=0):
    """Outputs and targets of 4 x 5 pixels, some of which are invalid."""
    g = torch.Generator().manual_seed(seed)
    outputs = {
        "segmentation": torch.randn(n, 13, 4, 5, generator=g).log_softmax(1),
        "depth": torch.randn(n, 1, 4, 5, generator=g),
        "normals": nn.functional.normalize(torch.randn(n, 3, 4, 5, generator=g), dim=1),
    }
    targets = {
        "segmentation": torch.randint(-1, 13, (n, 4, 5), generator=g),
        "depth": torch.rand(n, 1, 4, 5, generator=g) + 1,
        "normals": nn.functional.normalize(torch.randn(n, 3, 4, 5, generator=g), dim=1),
    }
    targets["depth"][:, :, 1] = 0
    targets["normals"][:, :, :, 2] = 0
    return outputs, targets


def pixels(outputs, targets):
    """Output and target of every pixel."""
    n, h, w = targets["segmentation"].shape
    for b, i, j in np.ndindex(n, h, w):
        yield (
            {task: y[b, :, i, j].tolist() for task, y in outputs.items()},
            {
                "segmentation": int(targets["segmentation"][b, i, j]),
                "depth": float(targets["depth"][b, 0, i, j]),
                "normals": targets["normals"][b, :, i, j].tolist(),
            },
        )


def literally(batches):
    """All metrics with loops: classes of all batches, the rest as means over batches."""
    table = [[0] * 13 for _ in range(13)]
    rows = []
    for outputs, targets in batches:
        errors, angles = [], []
        for y, target in pixels(outputs, targets):
            if target["segmentation"] != -1:
                table[target["segmentation"]][int(np.argmax(y["segmentation"]))] += 1
            if target["depth"]:
                errors.append((abs(y["depth"][0] - target["depth"]), target["depth"]))
            if any(target["normals"]):
                cosine = sum(a * b for a, b in zip(y["normals"], target["normals"], strict=True))
                angles.append(math.degrees(math.acos(max(-1, min(1, cosine)))))
        within = [np.mean([a < limit for a in angles]) for limit in (11.25, 22.5, 30)]
        relative = np.mean([e / t for e, t in errors])
        absolute = np.mean([e for e, _ in errors])
        rows.append([absolute, relative, np.mean(angles), np.median(angles), *within])
    hits = [table[k][k] for k in range(13)]
    union = [sum(table[k]) + sum(row[k] for row in table) - table[k][k] for k in range(13)]
    iou = np.mean([h / u for h, u in zip(hits, union, strict=True) if u])
    accuracy = sum(hits) / sum(map(sum, table))
    return dict(zip(BASE, [iou, accuracy, *np.mean(rows, 0)], strict=True))


def measured(batches):
    """By the metrics, given all batches at once as the meter does."""
    values = {}
    for task in TASKS:
        given = []
        for outputs, targets in batches:
            y, target = outputs[task], targets[task]
            given.append(
                confusion(y.argmax(1), target, 13)
                if task == "segmentation"
                else {"depth": depth_errors, "normals": normal_errors}[task](y, target)
            )
        for name, metric in metrics_of(task, 13).items():
            metric.update(*map(torch.cat, zip(*given, strict=True)))
            values[f"{task}/{name}"] = float(metric.compute())
    return values


def test_metrics_are_those_of_loops_over_pixels():
    batches = [batch(n, seed) for n, seed in ((2, 0), (2, 1), (1, 2))]
    batches[0][0]["normals"][0] = batches[0][1]["normals"][0]  # some angles are small
    assert measured(batches) == pytest.approx(literally(batches), rel=1e-5)


def test_a_perfect_prediction():
    _, targets = batch()
    classes = nn.functional.one_hot(targets["segmentation"].clamp(0), 13).movedim(-1, 1)
    values = measured([({**targets, "segmentation": classes.float()}, targets)])
    better = {
        f"{task}/{m}": x for task, names in LARGER_IS_BETTER.items() for m, x in names.items()
    }
    wanted = {name: 1.0 if more else 0.0 for name, more in better.items()}
    assert values == pytest.approx(wanted, abs=0.05)  # of an angle: acos is steep at 1
    assert values["segmentation/miou"] == values["depth/abs_error"] + 1 == 1


def test_invalid_pixels_count_nowhere():
    outputs, targets = batch()
    other = {task: y.clone() for task, y in outputs.items()}
    invalid = {
        "segmentation": targets["segmentation"] == -1,
        "depth": (targets["depth"] == 0)[:, 0],
        "normals": (targets["normals"] == 0).all(1),
    }
    for task, y in other.items():
        assert invalid[task].any()
        y.movedim(1, -1)[invalid[task]] += 0.7
    assert measured([(other, targets)]) == measured([(outputs, targets)])
    for task in TASKS:
        assert LOSSES[task](other[task], targets[task]) == LOSSES[task](
            outputs[task], targets[task]
        )
    # a batch of such pixels alone: it is left out, and its losses have no gradient
    nothing = {task: torch.zeros_like(t) for task, t in targets.items()}
    nothing["segmentation"] -= 1
    assert measured([(outputs, nothing), (other, targets)]) == measured([(outputs, targets)])
    for task, y in outputs.items():
        y.requires_grad_()
        loss = LOSSES[task](y, nothing[task])
        assert torch.isfinite(loss)
        assert not torch.autograd.grad(loss, y)[0].any()


def test_losses_are_those_of_loops_over_pixels():
    outputs, targets = batch()
    terms = {task: [] for task in TASKS}
    for y, target in pixels(outputs, targets):
        if target["segmentation"] != -1:
            terms["segmentation"].append(-y["segmentation"][target["segmentation"]])
        if target["depth"]:
            terms["depth"].append(abs(y["depth"][0] - target["depth"]))
        if any(target["normals"]):
            terms["normals"].append(1 - np.dot(y["normals"], target["normals"]))
    for task, values in terms.items():
        assert float(LOSSES[task](outputs[task], targets[task])) == pytest.approx(np.mean(values))


def test_delta_m_is_the_mean_change_with_the_sign_of_each():
    assert delta_m(BASE, BASE) == 0
    for name in BASE:
        task, metric = name.split("/")
        sign = -1 if LARGER_IS_BETTER[task][metric] else 1
        assert delta_m({**BASE, name: 0.55}, BASE) == pytest.approx(sign * 10 / 9)
    assert list(LARGER_IS_BETTER) == list(TASKS)
    assert sum(sum(names.values()) for names in LARGER_IS_BETTER.values()) == 5


@pytest.mark.parametrize("kind", ["segnet", "mtan"])
def test_what_is_shared(kind):
    net = SceneNet(tasks=TASKS, kind=kind, filters=[4, 8])
    shared, own = net.shared_parameters(), net.task_parameters()
    assert list(own) == list(TASKS)
    ids = [id(p) for p in [*shared, *(p for part in own.values() for p in part)]]
    assert sorted(ids) == sorted(id(p) for p in net.parameters())
    assert sum(p.numel() for p in own["depth"]) == 4 * 4 * 9 + 4 + 4 + 1
    named = {name for name, p in net.named_parameters() if any(p is q for q in shared)}
    assert any("attention" in name for name in named) == (kind == "mtan")
    y = net.eval()(torch.rand(1, 3, 8, 12))
    assert [tuple(y[task].shape) for task in TASKS] == [(1, n, 8, 12) for n in TASKS.values()]


def module(**options):
    return Scenes(
        **{
            "seed": 0,
            "tasks": TASKS,
            "base": BASE,
            "network": partial(SceneNet, filters=[4, 8]),
            **options,
        }
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": {"deph": 1}}, "no task 'deph'.*depth"),
        ({"tasks": {"normals": 2}}, "normals: 2; depth has 1 channel"),
        ({"base": {**BASE, "depth/abs": 1.0}}, "no metric 'depth/abs'"),
        ({"base": {"depth/abs_error": 1.0}, "tasks": {"depth": 1}}, "has no depth/rel_error"),
    ],
)
def test_what_the_module_refuses(options, said):
    with pytest.raises(ValueError, match=said):
        module(**options)


def test_of_some_tasks_only_theirs_is_measured():
    data = GeneratedScenes(seed=0, paths=DataPaths(Path("unused")))
    data.setup("fit")
    output = module(tasks={"depth": 1}).shared_step(next(iter(data.train_dataloader())))
    assert set(output.tasks) == {"depth"}
    assert set(output.logs) == {"loss_depth", "weight_depth"}
    assert list(module(tasks={"depth": 1}).base) == ["depth/abs_error", "depth/rel_error"]


def test_an_epoch_of_the_smoke_experiment(tmp_path):
    import pytorch_lightning as pl

    with hydra_ready():
        config = compose(["experiment=igb/smoke_nyuv2", "seed=0", "model.losses=igbv2"])
    data, scenes = build(config.model_dump(mode="json"))
    before = [p.clone() for p in scenes.nets.parameters()]
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(scenes, data)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert not any(map(torch.equal, scenes.nets.parameters(), before))
    for stage in ("train", "val"):
        values = {name: logged[f"{stage}/{name}"] for name in scenes.base}
        assert logged[f"{stage}/delta_m"] == pytest.approx(delta_m(values, scenes.base), rel=1e-5)
        assert f"{stage}/mean" not in logged
    assert scenes.balancer.reward_scale == 1


@pytest.mark.slow
def test_the_protocol_of_the_paper():
    with hydra_ready():
        config, mtan = (compose([f"experiment=igb/nyuv2{n}", "seed=0"]) for n in ("", "_mtan"))
    model = config.model
    assert (config.trainer.max_epochs, config.data["batch_size"]) == (500, 2)
    assert (model["optimizer"]["lr"], model["reward"]) == (1e-4, "rate")
    assert (model["scheduler"]["step_size"], model["scheduler"]["gamma"]) == (100, 0.5)
    assert list(model["base"]) == list(BASE)
    assert [m["network"]["kind"] for m in (model, mtan.model)] == ["segnet", "mtan"]
    _, scenes = build(config.model_dump(mode="json"))
    assert sum(p.numel() for p in scenes.nets.parameters()) == 25_055_185
