"""The hypergrid's module in the harness: what a run records, that it repeats and can be resumed."""

from __future__ import annotations

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.subtb.hypergrid import HyperGrid, noise_floor
from retable.papers.subtb.module import GridGFlowNet
from retable.training.checkpointing import find_resume
from retable.training.execute import Context, Interrupted, execute
from retable.util.errors import UserError

IDENTITY = {"key": "k", "fingerprint": "f", "device": "cpu"}
TINY = ("data.updates=6", "trainer.max_epochs=3", "model.widths=[16,16]", "model.window=150")
SETTINGS = {
    "subtb": (),
    "pooled": ("model.weighting=pooled", "model.lam=1.9"),
    "truncated": ("model.max_length=4", "model.form=matrix"),
    "tb": ("model.objective=tb", "model.epsilon=0.1"),
    "db": ("model.objective=db", "model.temperature=2.0", "model.learned_pb=false"),
    "walk": ("model.n_dims=3", "model.height=9", "model.objective=modified_db"),
    "table": ("model.network=table",),
}


def config(*overrides, experiment="subtb/hypergrid_smoke", seed=0):
    with hydra_ready():
        made = compose([f"experiment={experiment}", f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


def attempt(cfg, folder, previous=(), should_stop=None):
    folder.mkdir(parents=True)
    resume = find_resume(previous, IDENTITY, pytest.fail)
    return execute(cfg, Context(folder, IDENTITY, resume, should_stop))


def numbers(outcome):
    return {(r.metric, r.step): r.value for r in outcome.results}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_is_the_run_that_was_not_stopped(name, tmp_path):
    cfg = config(*TINY, *SETTINGS[name])
    whole = attempt(cfg, tmp_path / "whole")
    left = [2]

    def stop():
        left[0] -= 1
        return left[0] <= 0

    with pytest.raises(Interrupted):
        attempt(cfg, tmp_path / "1", should_stop=stop)
    resumed = attempt(cfg, tmp_path / "2", [tmp_path / "1"])
    assert resumed.history == whole.history
    assert len(whole.history) == 3
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.results == whole.results


def test_seeds_differ(tmp_path):
    one, two = (attempt(config(*TINY, seed=s), tmp_path / f"{s}") for s in (0, 1))
    assert one.weights_sha256 != two.weights_sha256


def test_what_a_run_records(tmp_path):
    outcome = attempt(config(*TINY, "model.threshold=1.9", "model.window=1000"), tmp_path / "run")
    found = numbers(outcome)
    assert {name for name, _ in found} == {
        "curve/l1_exact",
        "curve/l1_histogram",
        "curve/mode_cells",
        "test/l1_exact",
        "test/l1_exact_mean",
        "test/l1_histogram",
        "test/log_l1_area",
        "test/log_z_error",
        "test/mode_cells",
        "test/mode_corners",
        "test/noise_floor",
        "test/reached",
        "test/states_found",
        "test/trajectories_to_threshold",
    }
    assert [row["val/trajectories"] for row in outcome.history] == [96, 192, 288]
    assert found["curve/l1_exact", 100] == found["test/l1_exact", None]
    assert found["test/l1_exact_mean", None] == pytest.approx(found["test/l1_exact", None] / 64)
    # Three epochs: a third of them is over at 35 %, none at 30 %.
    assert ("curve/l1_exact", 30) not in found
    assert found["curve/l1_exact", 35] == outcome.history[0]["val/l1_exact"]
    assert found["test/reached", None] == 1
    assert found["test/trajectories_to_threshold", None] == 96
    # Of the 288 objects that there are, not of the whole window.
    floor = noise_floor(HyperGrid(2, 8, 1e-3).target(), 288)
    assert found["test/noise_floor", None] == pytest.approx(floor)


def test_a_threshold_that_is_not_reached_gives_all_trajectories_and_says_so(tmp_path):
    found = numbers(attempt(config(*TINY, "model.threshold=0.01"), tmp_path / "run"))
    assert found["test/reached", None] == 0
    assert found["test/trajectories_to_threshold", None] == 288


def test_the_histogram_holds_the_last_objects_drawn():
    module = GridGFlowNet(seed=0, height=4, window=10)
    everything = torch.randint(0, 16, (7, 4), generator=torch.Generator().manual_seed(0))
    for objects in everything:
        module._remember(objects)
    last = everything.flatten()[-10:]
    expected = last.bincount(minlength=16).double() / 10
    assert torch.equal(module.histogram(), expected)
    assert module.found.nonzero().flatten().tolist() == everything.unique().tolist()
    module._remember(torch.arange(16))
    assert sorted(module.window.tolist()) == list(range(6, 16))


def test_a_histogram_that_is_not_full_counts_what_there_is():
    module = GridGFlowNet(seed=0, height=4, window=10)
    module._remember(torch.tensor([3, 3, 5]))
    assert module.histogram()[[3, 5]].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_modes_by_cells_and_by_corners():
    module = GridGFlowNet(seed=0, height=20)
    modes = module.grid.mode_cells()
    assert len(modes) == 16
    corners = module.grid.corner(modes)
    module._remember(modes[corners == 0][:3])
    assert (module.measure()["mode_cells"], module.measure()["mode_corners"]) == (3, 1)
    module._remember(modes)
    assert (module.measure()["mode_cells"], module.measure()["mode_corners"]) == (16, 4)


def test_log_z_of_tb_learns_with_a_rate_of_its_own():
    module = GridGFlowNet(
        seed=0,
        objective="tb",
        lr_log_z=0.25,
        optimizer=lambda groups: torch.optim.Adam(groups, lr=1e-3),
    )
    groups = module.configure_optimizers().param_groups
    assert [g["lr"] for g in groups] == [1e-3, 0.25]
    assert groups[1]["params"] == [module.log_z]
    n_parameters = sum(p.numel() for g in groups for p in g["params"])
    assert n_parameters == sum(p.numel() for p in module.parameters())


def test_other_objectives_have_no_log_z():
    module = GridGFlowNet(seed=0, objective="db")
    assert not hasattr(module, "log_z")
    assert module.log_partition() == module.policy.log_flow_at_start()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.weighting=batch", "'within', 'pooled', 'geometric'"),
        ("model.max_length=3", "model.form=matrix"),
        ("model.lam=-0.5", "model.lam: -0.5"),
        ("model.height=9000", "at most"),
        ("model.widths=[]", "widths"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(override, message, tmp_path):
    with pytest.raises((UserError, ValueError), match=message.replace(".", r"\.")):
        attempt(config(*TINY, override), tmp_path / "run")
