"""How runs become jobs: what they ask for, how many at once, what comes first."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.config.schema import DeviceConfig, ResourcesConfig
from retable.launch.slurm import job_arrays
from retable.launch.slurm.client import Partition, Shape
from retable.launch.slurm.job_arrays import Needs, arrange
from retable.runs.frozen import FrozenRun
from retable.util.errors import UserError
from support.runs import freeze

LOW = Partition("low", True, 1440, [Shape(2, 8000, {"": 2}), Shape(16, 64000, {})])
GPU = Partition("gpu", False, None, [Shape(8, 32000, {"": 4, "a100": 4})])


@pytest.fixture(scope="module")
def base():
    run = freeze("launcher=slurm", "cluster=dev")
    return run.config


def runs_of(base, n=1, *, launcher=None, cluster=None, threads=1, devices=1, gpus=0, **resources):
    device = DeviceConfig(accelerator="auto" if gpus else "cpu", threads=threads, devices=devices)
    config = base.model_copy(
        update={
            "device": device,
            "resources": ResourcesConfig(gpus=gpus, **resources),
            "launcher": base.launcher.model_copy(update=launcher or {}),
            "cluster": base.cluster.model_copy(update=cluster or {}),
        }
    )
    first = FrozenRun(config, "k", "f")
    return [first.with_seed(seed) for seed in range(1, n + 1)]


def unknown(run):
    return None


def test_a_run_asks_for_what_it_says_and_else_for_what_its_profile_does(base):
    profile = {"cpus": 3, "memory_gb": 6.0, "minutes": 100}
    [run] = runs_of(base, cluster=profile)
    assert Needs.of(run) == Needs(1, 0, 3, 6000, 100)
    [run] = runs_of(base, cluster=profile, gpus=1, cpus=4, memory_gb=1.5, minutes=7)
    assert Needs.of(run) == Needs(1, 1, 4, 1500, 7)
    [run] = runs_of(base, cluster=profile, threads=5)
    assert Needs.of(run).cpus == 5


def test_what_a_run_on_several_devices_asks_for_is_shared_among_its_processes(base):
    [run] = runs_of(base, devices=4, gpus=4, cpus=10, memory_gb=9)
    assert Needs.of(run) == Needs(4, 4, 3, 2250, base.cluster.minutes)
    [run] = runs_of(base, devices=4, cpus=4, threads=2)
    assert Needs.of(run).cpus == 2  # each process has its threads


@pytest.mark.parametrize(
    ("launcher", "gpus", "devices", "n", "sizes", "at_once"),
    [
        ({}, 0, 1, 5, [1, 1, 1, 1, 1], 1),
        ({"runs_per_job": 2}, 0, 1, 5, [2, 2, 1], 1),
        ({"runs_per_job": 4, "workers": 2}, 0, 1, 5, [4, 1], 2),
        ({"workers": 4}, 0, 1, 5, [4, 1], 4),  # a job of one run could not have four at once
        ({"workers": 4}, 0, 1, 3, [3], 3),
        ({"workers": 4}, 1, 1, 3, [1, 1, 1], 1),  # workers are for CPUs
        ({"concurrent_per_gpu": 4, "runs_per_job": 8}, 1, 1, 9, [8, 1], 4),
        ({"concurrent_per_gpu": 4}, 0, 1, 2, [1, 1], 1),
        ({"workers": 3, "runs_per_job": 2}, 0, 2, 4, [2, 2], 1),
    ],
)
def test_how_many_runs_a_job_has_and_has_at_once(base, launcher, gpus, devices, n, sizes, at_once):
    [array] = arrange(runs_of(base, n, launcher=launcher, gpus=gpus, devices=devices), unknown, 99)
    assert [len(task) for task in array.tasks] == sizes
    assert array.at_once == at_once
    assert array.cpus == array.needs.cpus * at_once
    assert array.memory_mb == array.needs.memory_mb * at_once


def test_runs_that_measure_time_are_in_jobs_of_their_own_one_at_a_time(base):
    several = {"workers": 2, "runs_per_job": 4}
    timed = runs_of(base, 3, launcher=several | {"alone": True})
    others = runs_of(base, 5, launcher=several)
    one, two = sorted(arrange([*timed, *others], unknown, 99), key=lambda a: a.needs.alone)
    assert [(len(task), one.at_once) for task in one.tasks] == [(4, 2), (1, 2)]
    assert [(len(task), two.at_once) for task in two.tasks] == [(3, 1)]
    assert two.tasks == [timed]
    assert "nodes of its own" in two.about
    [run] = runs_of(base, launcher={"alone": True}, cluster={"alone": "cores"})
    [array] = arrange([run], unknown, 99)
    assert (array.needs.alone, array.needs.node) == (True, False)
    assert "one run at a time" in array.about


@given(
    st.lists(st.sampled_from([1.0, 2.0, 5.0, 40.0, 300.0]), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 7),
    st.data(),
)
def test_every_run_is_in_one_job_and_what_takes_longest_comes_first(base, costs, per, most, data):
    runs: list[FrozenRun] = []
    for gpus in (0, 1):
        runs += runs_of(base, len(costs), gpus=gpus, launcher={"runs_per_job": per})
    cost = {id(run): data.draw(st.sampled_from(costs)) for run in runs}
    arrays = arrange(runs, lambda run: cost[id(run)], most)
    placed = [run for array in arrays for task in array.tasks for run in task]
    assert Counter(map(id, placed)) == Counter(map(id, runs))
    assert all(len(array.tasks) <= most for array in arrays)
    assert all(len(task) <= per for array in arrays for task in array.tasks)
    firsts = [cost[id(array.tasks[0][0])] for array in arrays]
    assert firsts == sorted(firsts, reverse=True)
    for array in arrays:
        own = [cost[id(run)] for task in array.tasks for run in task]
        assert own == sorted(own, reverse=True)
        assert {Needs.of(run) for task in array.tasks for run in task} == {array.needs}
        assert array.expected_s == pytest.approx(sum(own))


def test_without_a_record_runs_keep_their_order_and_no_time_is_told(base):
    runs = runs_of(base, 4)
    [array] = arrange(runs, unknown, 99)
    assert [task[0] for task in array.tasks] == runs
    assert array.expected_s is None
    assert "unknown" in job_arrays.as_text([array], base.cluster)


def test_the_plan_names_arrays_with_the_biggest_cost_first(base):
    short = runs_of(base, 10, minutes=10)
    long = runs_of(base, 2, minutes=600, gpus=1)
    # The longest run comes first in the queue, the biggest sum first in the plan.
    arrays = arrange([*short, *long], lambda run: 7200.0 if run in long else 3600.0, 99)
    assert [array.runs for array in arrays] == [2, 10]
    lines = job_arrays.as_text(arrays, base.cluster).splitlines()
    assert lines == [
        "12 runs in 12 jobs of 2 arrays on dev (partition low), expected: 14 h of runs",
        "    array 1: 10 runs, 10 h of runs; a job: 1 core, 1 GB, 10 min",
        "    array 0: 2 runs, 4 h of runs; a job: 1 GPU, 1 core, 1 GB, 10.0 h",
    ]


def checked(base, partitions, n=1, **about):
    job_arrays.check(arrange(runs_of(base, n, **about), unknown, 99), partitions)


def test_what_fits_is_let_through(base):
    checked(base, [LOW, GPU], gpus=1, cpus=2)
    checked(base, [LOW, GPU], cpus=16, memory_gb=64, minutes=1440)
    checked(base, [LOW, GPU], cluster={"partition": "low,gpu", "gpu_type": "a100"}, gpus=1)
    checked(base, [LOW, GPU], cluster={"partition": "gpu"}, minutes=10**6)
    # A process per device; the whole run need not fit on one node.
    checked(base, [GPU], cluster={"partition": "gpu"}, gpus=8, devices=8, cpus=32)
    # Nobody has written how much memory the nodes have.
    checked(base, [Partition("low", True, None, [Shape(4, 1, {})])], memory_gb=500)
    # No default: only SLURM knows where the job goes.
    checked(base, [GPU], cluster={"partition": None}, cpus=1000)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"cluster": {"partition": "lwo"}}, "partition: there is no 'lwo'; did you mean 'low'"),
        ({"cluster": {"partition": "low,gp"}}, "there is no 'gp'; did you mean 'gpu'"),
        ({"minutes": 1441}, "resources: minutes: 1441 is above the time limit .* low, 1440"),
        ({"cluster": {"minutes": 2000}}, "cluster dev: minutes: 2000 is above"),
        ({"cluster": {"signal_s": 600}, "minutes": 10}, "signal_s: 600 s before .* 10 min"),
        ({"cpus": 17}, r"resources\.cpus .* asks for 17 cores; no node .* more than 16"),
        ({"memory_gb": 65}, "asks for 65 GB; no node of partition low has more than 64"),
        ({"gpus": 3, "devices": 1}, "asks for 3 GPUs; no node of partition low has more than 2"),
        (
            {"gpus": 1, "cluster": {"gpu_type": "a100"}},
            "asks for 1 a100 GPUs; no node of partition low has more than 0",
        ),
        ({"gpus": 1, "cpus": 4}, "no node of partition low has all of 1 GPU, 4 cores"),
        (
            {"n": 9, "launcher": {"workers": 9}, "cpus": 2},
            r"asks for 18 cores \(9 runs at once\); no node",
        ),
    ],
)
def test_what_could_never_start_is_refused_by_name(base, about, words):
    with pytest.raises(UserError, match=words):
        checked(base, [LOW, GPU], **about)


def test_what_starts_from_another_run_comes_in_an_array_behind_it():
    on = ("launcher=slurm", "cluster=dev")
    child = freeze(*on, experiment="digits/tuned")
    parent, other = child.parent, freeze(*on, seed=7)
    first, second = arrange([child, other, parent], unknown, 100)
    assert (first.level, [t[0].key for t in first.tasks]) == (0, [other.key, parent.key])
    assert (second.level, [t[0].key for t in second.tasks]) == (1, [child.key])
    assert "after the runs that they start from" in second.about
    # However long it takes, it cannot come first.
    times = {child.key: 1e6, parent.key: 1.0}
    assert [a.level for a in arrange([child, parent], lambda r: times[r.key], 100)] == [0, 1]
    # A parent that is done needs no waiting; one that is in the queue already does.
    assert [a.level for a in arrange([child, other], unknown, 100)] == [0]
    assert [a.level for a in arrange([child, other], unknown, 100, [parent])] == [0, 1]
