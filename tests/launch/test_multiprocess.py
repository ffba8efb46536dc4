"""Runs in several processes on this machine: the same numbers, and one end for all of them."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.launch import multiprocess
from retable.launch.worker import Exit
from retable.runs import frozen
from retable.runs.lease import is_held
from retable.runs.records import Status
from retable.util.errors import UserError
from support.job import (
    LAUNCHED,
)
from support.kill import ADAM, MOMENTUM
from support.ranks import (
    NUMBERS,
    WEIGHTS,
    begun,
    done,
    ended,
    engine,
    in_one_and_in_several,
    largest_difference,
    log_of,
    wait_for,
)
from support.runs import freeze, record_of

PLAIN = ["model.dropout=0.0", "model.norm=false", "data.train_size=600"]


@pytest.fixture(scope="module")
def server():
    with engine() as server:
        yield server


def children(pid):
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found |= set(map(int, path.read_text().split()))
    return sorted(found)


def first_of(server):
    """The first process of the one run that is going on."""

    def started():
        server.wait(0.01)
        return list(server.running)

    (pid,) = wait_for(started, "a process")
    return pid


def saved(run, epoch):
    pattern = f"attempts/*/checkpoints/epoch={epoch:06d}.ckpt"
    wait_for(lambda: list(run.folder.glob(pattern)), f"epoch {epoch}")


AVERAGED = "model._target_=retable.papers.digits.averaged.Averaged"
TESTED = "tested={last: {}, ema: {weights: ema}}"
STEPS = [
    "model.scheduler={_target_: torch.optim.lr_scheduler.StepLR,_partial_: true,step_size: 3}",
    "model.scheduler_interval=step",
]
SAM = (
    "model.optimizer={_target_: retable.papers.digits.sam.SAM,_partial_: true,"
    "base_optimizer: {_target_: torch.optim.SGD,_partial_: true,lr: 0.1}}"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "devices", "overrides"),
    [
        ("even batches", 2, [MOMENTUM, "data.batch_size=100"]),
        ("uneven ones", 2, [MOMENTUM, "data.batch_size=77", "data.test_batch_size=77"]),
        ("uneven ones, Adam", 2, [ADAM, "data.batch_size=77", "data.test_batch_size=77"]),
        # 600 = 5 * 119 + 5 * 1, and 300 = 299 + 1: two of three processes have nothing then.
        (
            "fewer items than processes",
            3,
            [ADAM, "data.batch_size=599", "data.test_batch_size=299"],
        ),
        (
            "two batches a step",
            2,
            [MOMENTUM, "data.batch_size=77", "trainer.accumulate_grad_batches=2"],
        ),
        ("a step by hand", 2, [ADAM, "data.batch_size=77", "model.manual=true"]),
        ("batch normalisation", 2, [MOMENTUM, "data.batch_size=77", "model.norm=true"]),
        (
            "an average and its statistics, a rate per step",
            2,
            [MOMENTUM, "data.batch_size=77", "model.norm=true", AVERAGED, *STEPS, TESTED],
        ),
        ("an optimiser around another", 2, [SAM, "data.batch_size=77"]),
    ],
)
def test_the_numbers_are_those_of_one_process(
    server, tmp_path, monkeypatch, name, devices, overrides
):
    (weights, expected), (others, found) = in_one_and_in_several(
        server, monkeypatch, tmp_path, *PLAIN, *overrides, devices=devices
    )
    assert 0 < largest_difference(weights, others) <= WEIGHTS, "0: it was not split at all"
    assert found == pytest.approx(expected, rel=NUMBERS, abs=1e-9)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(server, tmp_path, monkeypatch):
    """With dropout, drawn apart, and three processes: the order of a sum of three matters."""
    setting = [ADAM, "data.batch_size=77", "trainer.max_epochs=5", "model.sleep=0.1"]
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "undisturbed"))
    _, undisturbed = done(server, *setting, devices=3)
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "killed"))
    run = begun(server, *setting, devices=3)
    pid = first_of(server)
    others = wait_for(lambda: len(found := children(pid)) == 2 and found, "two others")
    saved(run, 2)
    os.kill(pid, signal.SIGKILL)
    assert ended(server) == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, others)), "the end of the others")
    server.start(run, LAUNCHED)
    assert ended(server) == Exit.DONE, log_of(run)
    record = record_of(run)
    assert record.resumed_from_epoch >= 2
    assert record.substance() == undisturbed.substance()


def alive(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.slow
@pytest.mark.parametrize("which", ["first", "other"])
def test_whoever_is_asked_to_stop_all_stop_at_the_end_of_the_epoch(server, which):
    run = begun(server, "trainer.max_epochs=500", "model.sleep=0.05")
    pid = first_of(server)
    saved(run, 2)
    (other,) = children(pid)
    os.kill(pid if which == "first" else other, signal.SIGTERM)
    assert ended(server) == Exit.INTERRUPTED, log_of(run)
    record = record_of(run, 1)
    assert record.status is Status.INTERRUPTED
    assert record.error.startswith("stopped after epoch ")
    assert not alive(other)
    assert not is_held(run.folder, run.config.launcher.lease_s)


def test_a_killed_process_fails_the_run_with_its_reason(server):
    run = begun(server, "trainer.max_epochs=500", "model.sleep=0.05")
    pid = first_of(server)
    saved(run, 1)
    (other,) = children(pid)
    os.kill(other, signal.SIGKILL)
    assert ended(server) == Exit.FAILED
    record = record_of(run, 1)
    assert record.status is Status.FAILED
    assert record.error == "process 1: killed by SIGKILL (out of memory, or by someone)"


def test_what_goes_wrong_elsewhere_is_what_the_record_says(server):
    run = begun(server, "model.fail=elsewhere", devices=3)
    assert ended(server) == Exit.FAILED
    said = r"process [12]: RuntimeError: asked to fail, but not in the first process"
    assert re.fullmatch(said, record_of(run, 1).error)


def test_what_goes_wrong_in_the_first_process_ends_the_others(server):
    run = begun(server, "model.fail=raise")
    pid = first_of(server)
    wait_for(lambda: children(pid) or server.busy == 0, "another")
    others = children(pid)
    assert ended(server) == Exit.FAILED
    assert record_of(run, 1).error == "RuntimeError: asked to <b>fail</b>"
    assert not any(map(alive, others))


def test_a_diverged_run_is_diverged_in_all(server):
    run = begun(server, "model.fail=diverge")
    assert ended(server) == Exit.DIVERGED
    assert record_of(run, 1).error == "train/loss is nan in epoch 0"


@pytest.mark.slow
def test_another_number_of_devices_starts_anew(server):
    """Checkpoints are gone on from bit for bit, which they could not be."""
    run = begun(server, "trainer.max_epochs=6", "model.sleep=0.1")
    pid = first_of(server)
    saved(run, 1)
    os.kill(pid, signal.SIGTERM)
    assert ended(server) == Exit.INTERRUPTED
    alone = freeze(
        "trainer.max_epochs=6", "model.sleep=0.1", "device.devices=1", experiment="digits/base"
    )
    assert alone.folder == run.folder
    (run.folder / frozen.FILE).unlink()
    frozen.write(alone)
    server.start(alone, LAUNCHED)
    assert ended(server) == Exit.DONE
    assert record_of(run).resumed_from_epoch is None


def test_an_old_announcement_is_not_followed(tmp_path):
    said = multiprocess.Announcement("job-0", "here", 1, 2, None)
    assert multiprocess.announced(tmp_path, "job-0") is None
    (tmp_path / multiprocess.ANNOUNCEMENT).write_text(json.dumps(said.__dict__))
    assert multiprocess.announced(tmp_path, "job-0") == said
    assert multiprocess.announced(tmp_path, "job-1") is None
    (tmp_path / multiprocess.ANNOUNCEMENT).write_text('{"nonce": "job-0"}')
    assert multiprocess.announced(tmp_path, "job-0") is None


def test_a_method_without_batches_is_refused_at_launch():
    with (
        hydra_ready(),
        pytest.raises(UserError, match=r"device\.devices: must be 1 here, a batch of .*RiskParity"),
    ):
        compose(["experiment=risk_parity/random_smoke", "seed=0", "device.devices=2"])


def test_one_process_is_alone(tmp_path):
    with (
        multiprocess.Leader(tmp_path, 1, lambda: True) as leader,
        leader.together(None, "cpu") as trainer,
    ):
        assert trainer == {"devices": 1}
        assert leader.should_stop()
    assert not list(tmp_path.iterdir())
    assert not torch.distributed.is_initialized()
