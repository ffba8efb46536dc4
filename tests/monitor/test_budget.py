"""Cells that fit into a budget of time: the cheapest first, and none left that would fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.launch.rehearsal import records as rehearsed
from retable.launch.rehearsal.records import Estimate, Rehearsed
from retable.monitor.budget import _share, choose, seconds_of, within
from retable.runs.records import Status
from retable.tables.grid import plan
from retable.util.errors import UserError
from support.chained import left
from support.records import plain_record
from support.runs import freeze


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28_800), ("90min", 5400), ("90 m", 5400), ("2d", 172_800), ("1.5h", 5400), ("10s", 10)],
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["8", "h", "0h", "-3h", "8 hours", "1e3h", "nan h", ""])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UserError, match=r"--within .*: expected a duration, such as 8h, 90min or"):
        seconds_of(text)


RUNS = "abcdef"
GROUPS = st.lists(st.frozensets(st.sampled_from(RUNS), max_size=4), max_size=7, unique=True)
COSTS = st.fixed_dictionaries({run: st.integers(0, 9) for run in RUNS})


@given(groups=GROUPS, cost=COSTS, budget=st.integers(0, 30))
def test_what_is_chosen_fits_and_nothing_that_is_left_would(groups, cost, budget):
    chosen = choose(groups, cost, budget)
    have = frozenset().union(*(groups[n] for n in chosen))
    spent = sum(cost[run] for run in have)
    assert spent <= budget
    assert len(set(chosen)) == len(chosen)
    for number, group in enumerate(groups):
        if number not in chosen:
            assert spent + sum(cost[run] for run in group - have) > budget
    so_far = frozenset()  # each was the cheapest to add
    for position, number in enumerate(chosen):
        others = [n for n in range(len(groups)) if n not in chosen[:position]]
        added = {n: sum(cost[run] for run in groups[n] - so_far) for n in others}
        assert added[number] == min(added.values())
        so_far |= groups[number]


def estimated(setting, seconds, device="this processor, 1 thread"):
    found = Rehearsed("done", 1)
    rehearsed.keep(setting, Estimate(setting.fingerprint, found, seconds, device, None))


def test_an_estimate_for_a_gpu_says_nothing_of_a_processor(monkeypatch):
    grid = plan("digits/accuracy", "smoke")
    [setting] = [setting for setting, _ in grid.settings()][:1]
    estimated(setting, 1.0, "A100 SXM")
    assert within([grid], 1e9).chosen == 0
    monkeypatch.setattr("retable.monitor.budget._on_gpu", lambda run: True)
    found = within([grid], 1e9)
    assert found.chosen == 1
    [(_, why)] = found.left
    command = "retable rehearse digits/accuracy --protocol smoke --device v100 (or a100 or h100)"
    assert str(why).endswith(f"try {command}")
    estimated(setting, 1.0)
    assert within([grid], 1e9).chosen == 0


def test_cells_by_past_cost_and_by_estimate(monkeypatch):
    grid = plan("digits/accuracy", overrides=["launcher.workers=2"])
    slow, fast = (grid.cells[row, "accuracy"].setting for row in ("slow", "fast"))
    monkeypatch.setattr("retable.monitor.budget.workers_of", lambda run: 2)
    nothing = within([grid], 1e9)
    assert nothing.chosen == 0
    assert {why for _, why in nothing.left} == {
        "nothing is known of the cost; try retable rehearse digits/accuracy"
    }
    assert nothing.as_text("8h").count("\n") == 2  # the reason once, whatever it is said of
    assert (
        nothing.as_text("8h")
        .splitlines()[1]
        .startswith(
            "left: 4 cells (slow, accuracy; slow, loss; fast, accuracy; ...): nothing is known"
        )
    )
    assert nothing.grids[0].cells == {}
    left(slow, wall_s=10.0)  # one of three seeds; two are left, two at once
    estimated(fast, 20.0)
    found = within([grid], 39.9)
    assert (found.chosen, found.spent_s) == (2, 10.0)  # both metrics of the one setting
    assert set(found.grids[0].cells) == {("slow", "accuracy"), ("slow", "loss")}
    assert found.left == [("fast, accuracy", 30.0), ("fast, loss", 30.0)]
    assert found.open_claims == {"digits/accuracy": ["C1"]}
    assert found.as_text("40s") == (
        "within 40s: 2 cells, about 10 s; 2 cells left\n"
        "left: fast, accuracy: 30 s\nleft: fast, loss: 30 s\n"
        "left: digits/accuracy: C1, whose cells are not all chosen"
    )
    whole = within([grid], 40.0)
    assert (whole.chosen, whole.spent_s, whole.left, whole.open_claims) == (4, 40.0, [], {})
    # On a cluster it is the time of what a run holds there.
    monkeypatch.setattr("retable.monitor.budget._share", lambda run: 3)
    assert within([grid], 60.0).spent_s == 60.0


@pytest.mark.parametrize(
    ("overrides", "share"),
    [
        (["cluster.cpus=4"], 4),
        (["cluster.cpus=4", "resources.cpus=2"], 2),
        (["cluster.cpus=1", "device.threads=3"], 3),
        (["device.accelerator=auto", "resources.gpus=2", "device.devices=2", "cluster.cpus=4"], 2),
    ],
)
def test_a_run_on_a_cluster_takes_of_the_budget_what_its_job_asks_for(overrides, share):
    run = freeze("launcher=slurm", "cluster=example", *overrides)
    assert _share(run) == share


def test_published_times_count_where_nothing_else_is_known(monkeypatch):
    grid = plan("digits/accuracy", "smoke", overrides=["launcher.workers=1"])
    slow, fast = (grid.cells[row, "accuracy"].setting for row in ("slow", "fast"))
    published = {
        run.key: plain_record(key=run.key, seed=0, wall_s=s)
        for run, s in ((slow, 50.0), (fast, 20.0))
    }
    monkeypatch.setattr("retable.tables.collect.from_results", lambda grid: published)
    estimated(slow, 3.0)
    found = within([grid], 5.0)
    assert (found.chosen, found.left) == (1, [("fast, accuracy", 20.0)])
    failed = Rehearsed("failed", 1, reason="no")
    rehearsed.keep(slow, Estimate(slow.fingerprint, failed, None, "this processor", None))
    assert within([grid], 1e9).chosen == 1  # what cannot be stepped is not begun


def test_what_a_cell_starts_from_counts_once_and_not_where_it_is_done(chained, monkeypatch):
    grid = chained
    parent = grid.cells["slow", "accuracy"].setting.parent
    for setting, _ in grid.settings():
        estimated(setting, 100.0 if setting.key == parent.key else 1.0)
    # Two seeds, and two runs at once: a second on the clock for each second of one seed.
    monkeypatch.setattr("retable.monitor.budget.workers_of", lambda run: 2)
    dear = within([grid], 100.9)
    assert (dear.chosen, dear.spent_s) == (0, 0.0)
    assert {seconds for _, seconds in dear.left} == {101.0}
    assert within([grid], 101.0).spent_s == 101.0
    assert within([grid], 102.0).spent_s == 102.0
    left(parent)
    left(parent.with_seed(1))
    assert within([grid], 1.0).chosen == 1
    assert within([grid], 2.0).chosen == 2


def test_runs_that_failed_are_to_do_and_stale_ones_are_done():
    grid = plan("digits/accuracy")
    setting = grid.cells["slow", "accuracy"].setting
    left(setting, fingerprint="0" * 64)
    left(setting.with_seed(1), Status.FAILED, error="no")
    estimated(grid.cells["fast", "accuracy"].setting, 1e9)
    found = within([grid], 1e6)
    assert found.chosen == 2  # what it took is known from the stale one
    assert found.spent_s > 0
