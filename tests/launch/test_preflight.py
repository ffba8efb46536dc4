"""What classes refuse is said before a run starts; what only fails is left to the run."""

from __future__ import annotations

import os
import signal
import time

import pytest
from hydra.utils import instantiate

from retable.launch import preflight
from retable.launch.dispatch import launch
from retable.launch.forkserver_client import Forkserver
from retable.launch.preflight import first_refusal
from retable.runs import frozen
from retable.runs.identity import targets_of
from retable.training.execute import build
from retable.util.errors import UserError
from support.runs import freeze

ONE_CYCLE = "_target_: torch.optim.lr_scheduler.OneCycleLR, _partial_: true, max_lr: 1"


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch):
    monkeypatch.setattr(preflight, "BUDGET_S", 600.0)


def config(*overrides, **options):
    return freeze(*overrides, **options).config.model_dump(mode="json")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+model.optimizer.momentum=-1", "model.optimizer: Invalid momentum value: -1.0"),
        ("+model.optimizer.nesterov=true", "model.optimizer: Nesterov momentum requires a"),
        (
            f"+model.scheduler={{{ONE_CYCLE}}}",
            "model.scheduler: You must define either total_steps",
        ),
    ],
)
def test_options_that_torch_refuses_are_named(override, said):
    refused = first_refusal([config(), config(override)])
    assert refused is not None
    assert refused[0] == 1
    assert refused[1].startswith(said)


def test_what_is_built_well_is_not_refused():
    tested = config("stages=[test]", "~model.optimizer", "~trainer.max_epochs")
    assert first_refusal([config(), tested]) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("data.files: two are needed"), "data.files: two are needed"),
        (ValueError("model.k: 3 does not divide 8"), "model.k: 3 does not divide 8"),
        (ValueError("shapes differ"), None),  # where it comes from is in the run's traceback
        (RuntimeError("model.k: broken"), None),
        (MemoryError(), None),
    ],
)
def test_only_what_names_a_key_is_a_refusal(monkeypatch, error, said):
    def refuse(_):
        raise error

    monkeypatch.setattr(preflight, "build", refuse)
    assert first_refusal([{}]) == (said and (0, said))


SMOOTHING = "retable.papers.converge_smooth.smoothing.Smoothing"
CHECKS = "retable.papers.converge_smooth.checks"


@pytest.mark.parametrize(
    ("root", "parts", "said"),
    [
        (
            "model",
            {"smoothing": {"_target_": SMOOTHING, "phases": [0]}},
            "model.smoothing.phases: [0]; has to begin with 0",
        ),
        (
            "data",
            {"a": {"b": {"_target_": f"{CHECKS}.refuse_counts", "name": "counts", "counts": [2]}}},
            None,
        ),
        (
            "data",
            {"a": {"b": {"_target_": f"{CHECKS}.refuse_counts", "name": "counts", "counts": []}}},
            "data.a.b.counts: []; numbers of steps",
        ),
        ("model", {"net": {"_target_": "builtins.int", "_args_": ["x"]}}, "model.net: invalid lit"),
        ("model", {"net": {"_target_": "builtins.int", "_args_": [[]]}}, None),  # a TypeError
    ],
)
def test_what_a_part_refuses_is_said_with_its_key(monkeypatch, root, parts, said):
    other = {"_target_": "builtins.dict", **dict.fromkeys(parts, 1)}
    nodes = {"model": other, "data": other, root: {"_target_": "builtins.dict", **parts}}
    made = build(config())
    monkeypatch.setattr(preflight, "build", lambda c: (instantiate(c[root]), made)[1])
    refused = first_refusal([{**nodes, "stages": []}])
    assert refused is None if said is None else refused and refused[1].startswith(said)


def test_a_module_with_optimisers_of_its_own_is_only_built(monkeypatch):
    made = build(config())
    monkeypatch.setattr(preflight, "build", lambda _: made)
    monkeypatch.setattr(type(made[1]), "configure_optimizers", lambda self: self.trainer)
    assert first_refusal([config()]) is None


def test_building_stops_when_its_time_is_over(monkeypatch):
    built = []
    monkeypatch.setattr(preflight, "BUDGET_S", 0.2)
    monkeypatch.setattr(preflight, "build", lambda c: (built.append(c), time.sleep(0.3)))
    first_refusal([{"stages": []}] * 5)
    assert len(built) == 1


def test_a_launch_is_refused_before_any_of_its_runs_is_written():
    good, bad = freeze(), freeze("+model.optimizer.momentum=-1")
    with pytest.raises(UserError) as caught:
        launch([bad, good])  # the first is built however long it takes
    assert str(caught.value) == f"{bad.label}: model.optimizer: Invalid momentum value: -1.0"
    assert not good.folder.exists()
    assert not bad.folder.exists()
    assert launch([good]).done == 1


def test_what_only_fails_when_built_is_left_to_the_run():
    """Memory that is not there may be there when the run begins."""
    assert launch([freeze("model.hidden=100000000000", "model.norm=false")]).failed


def test_a_builder_that_is_killed_refuses_nothing(monkeypatch):
    """As the kernel kills one where memory runs out: the runs will say what there is to say."""
    good, bad = freeze().config, freeze("+model.optimizer.momentum=-1")
    models = [{**good.model, "hidden": width} for width in range(1, 400)]
    many = [frozen.freeze(good.model_copy(update={"model": model})) for model in models]
    receive = Forkserver._receive
    killed = []

    def kill(server, timeout):
        messages = receive(server, timeout)
        for message in messages:
            if pid := message.get("rehearsing"):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return messages

    with Forkserver(sorted(targets_of([bad.config.data, bad.config.model]))) as server:
        assert server.refusal([bad]) is not None
        monkeypatch.setattr(Forkserver, "_receive", kill)
        assert server.refusal([*many, bad]) is None
    assert killed
