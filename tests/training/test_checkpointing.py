"""A run that was stopped and resumed is the run that was not, bit for bit."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from retable.training.checkpointing import find_resume
from retable.training.execute import Context, Interrupted, execute
from support.training import IDENTITY, attempt, config, scheduler, stopped, substance

MOMENTUM = "model.optimizer={_target_: torch.optim.SGD,_partial_: true,lr: 0.05,momentum: 0.9}"
ADAM = "model.optimizer={_target_: torch.optim.Adam,_partial_: true,lr: 0.01}"


PLATEAU = [
    "model.optimizer={_target_: torch.optim.SGD,_partial_: true,lr: 0.9}",
    scheduler("ReduceLROnPlateau", patience=0, factor=0.3, threshold=0.7),
]
SETTINGS = {
    "momentum": [MOMENTUM],
    "adam_step": [ADAM, scheduler("StepLR", step_size=2, gamma=0.3)],
    "plateau_best": [*PLATEAU, "best_epoch={monitor: val/loss,mode: min}"],
    "plateau_on_train": [*PLATEAU, "model.scheduler_monitor=train/loss"],
    "manual": [ADAM, scheduler("ExponentialLR", gamma=0.5), "model.manual=true"],
    "accumulate": [
        MOMENTUM,
        scheduler("CosineAnnealingLR", T_max=4),
        "trainer.accumulate_grad_batches=2",
        "trainer.check_val_every_n_epoch=2",
        "best_epoch={monitor: val/accuracy,mode: max}",
    ],
    "early_stopping": [
        "trainer.max_epochs=8",
        "model.optimizer={_target_: torch.optim.SGD,_partial_: true,lr: 0.3}",
        "callbacks={stop: {_target_: pytorch_lightning.callbacks.EarlyStopping,"
        "monitor: val/loss,patience: 1,min_delta: 0.1}}",
    ],
    "no_validation": [ADAM, "trainer.limit_val_batches=0"],
    "clip_bf16": [ADAM, "trainer.gradient_clip_val=0.1", "trainer.precision=bf16-mixed"],
    "workers": [MOMENTUM, "data.num_workers=2"],
    "persistent": [MOMENTUM, "data.num_workers=2", "data.persistent_workers=true"],
}


QUICK = ("momentum", "plateau_best", "accumulate")
ONE_PROCESS = [n for n in SETTINGS if n not in ("workers", "persistent")]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ONE_PROCESS]
)
def test_resuming_changes_no_bit(name, tmp_path):
    cfg = config(*SETTINGS[name])
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    length = len(whole.history)
    assert [row["epoch"] for row in whole.history] == list(range(length))
    for stops in ([2], [1, 1]):
        if sum(stops) >= length:
            continue
        base = tmp_path / "-".join(map(str, stops))
        folders = stopped(cfg, base, stops)
        resumed, resume, told = attempt(cfg, base / "last", previous=folders)
        assert resume.epoch == sum(stops)
        assert not told
        assert substance(resumed) == substance(whole), stops


@pytest.mark.slow
@pytest.mark.parametrize("name", ["workers", "persistent"])
def test_resuming_with_loading_processes_changes_no_bit(name, tmp_path):
    alone, _, _ = attempt(config(MOMENTUM), tmp_path / "alone")
    cfg = config(*SETTINGS[name])
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    assert substance(whole) == substance(alone), "randomness per item depends on the workers"
    folders = stopped(cfg, tmp_path / "parts", [1, 1])
    resumed, _, _ = attempt(cfg, tmp_path / "last", previous=folders)
    assert substance(resumed) == substance(whole)


def test_schedulers_and_early_stopping_are_really_at_work(tmp_path):
    """Else the test above would hold for want of anything to lose."""
    plateau, _, _ = attempt(config(*SETTINGS["plateau_best"]), tmp_path / "plateau")
    rates = [row["train/lr"] for row in plateau.history]
    assert len(set(rates)) >= 3, rates
    early, _, _ = attempt(config(*SETTINGS["early_stopping"]), tmp_path / "early")
    assert 2 < len(early.history) < 8


def test_a_run_stopped_at_the_epoch_where_early_stopping_ends_it_trains_no_more(tmp_path):
    cfg = config(*SETTINGS["early_stopping"])
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    last = len(whole.history)
    # It is asked to stop in its last epoch: its fit is over, and it is stopped in the test.
    folders = stopped(cfg, tmp_path / "parts", [last])
    resumed, resume, _ = attempt(cfg, tmp_path / "last", previous=folders)
    assert resume.fitted
    assert resume.epoch == last
    assert substance(resumed) == substance(whole)


def test_killed_between_fit_and_test_only_tests(tmp_path):
    cfg = config(*SETTINGS["accumulate"])
    told = []

    def on_epoch(rows, checkpoint, epoch):
        told.append((len(rows), epoch, checkpoint.name, checkpoint.exists()))

    whole, _, _ = attempt(cfg, tmp_path / "whole", on_epoch=on_epoch)
    assert told == [(n, n, f"epoch={n:06d}.ckpt", True) for n in (1, 2, 3, 4)]
    told.clear()
    resumed, resume, _ = attempt(
        cfg, tmp_path / "again", previous=[tmp_path / "whole"], on_epoch=on_epoch
    )
    assert resume.fitted
    assert not told, "an epoch was trained"
    assert substance(resumed) == substance(whole)


def test_a_checkpoint_carries_any_mapping_and_another_one_is_not_gone_on_from(tmp_path):
    cfg = config(MOMENTUM, "trainer.max_epochs=2")
    identity = {**IDENTITY, "start": {"weights": "abc", "seeds": [1, 2]}}
    folders = stopped(cfg, tmp_path / "parts", [1], identity=identity)
    assert find_resume(folders, identity, pytest.fail).epoch == 1
    other = {**identity, "start": {"weights": "abc", "seeds": [1, 3]}}
    assert find_resume(folders, other, pytest.fail) is None


def test_fewer_checkpoints_cost_epochs_but_no_bits(tmp_path):
    cfg = config(MOMENTUM, "trainer.checkpoint_every_n_epochs=3")
    saved = []
    whole, _, _ = attempt(
        cfg, tmp_path / "whole", on_epoch=lambda rows, *_: saved.append(len(rows))
    )
    assert saved == [3, 4]
    # Asked to stop it saves although it is not the third epoch.
    folders = stopped(cfg, tmp_path / "parts", [2])
    resumed, resume, _ = attempt(cfg, tmp_path / "last", previous=folders)
    assert resume.epoch == 2
    assert substance(resumed) == substance(whole)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run stopped after two epochs, for tests that only look."""
    base = tmp_path_factory.mktemp("short")
    cfg = config()
    return cfg, stopped(cfg, base, [2])[0], base


def test_checkpoints_of_another_identity_are_never_resumed(short):
    _, folder, _ = short
    for name in IDENTITY:
        assert find_resume([folder], {**IDENTITY, name: "other"}, pytest.fail) is None
    assert find_resume([folder], IDENTITY, pytest.fail).epoch == 2
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
        "epoch=000001.ckpt",
        "epoch=000002.ckpt",
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_a_broken_checkpoint_falls_back_to_the_one_before(short, tmp_path, damage):
    import shutil

    cfg, folder, base = short
    copy = base / damage / "7"
    shutil.copytree(folder, copy)
    newest = copy / "checkpoints" / "epoch=000002.ckpt"
    if damage == "foreign":
        torch.save({"state_dict": {}}, newest)
    else:
        newest.write_bytes(newest.read_bytes()[:1000] if damage == "truncated" else b"")
    outcome, resume, told = attempt(cfg, tmp_path / "a", previous=[copy])
    assert resume.epoch == 1
    assert len(told) == 1
    assert "epoch=000002.ckpt of attempt 7 cannot be read" in told[0]
    assert "falling back" in told[0]
    whole, _, _ = attempt(cfg, tmp_path / "b")
    assert substance(outcome) == substance(whole)


def test_newest_epoch_wins_whichever_attempt_has_it(short, tmp_path):
    cfg, folder, _ = short
    one = stopped(cfg, tmp_path, [1])[0]
    assert find_resume([one, folder], IDENTITY, pytest.fail).path.parents[1] == folder
    assert find_resume([], IDENTITY, pytest.fail) is None
    assert find_resume([tmp_path / "nothing"], IDENTITY, pytest.fail) is None


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    """Killed while the second checkpoint is being written."""
    cfg = config()
    real = torch.save

    def dies(content, file):
        if len(content["retable"]["history"]) == 2:
            file.write(b"half of")
            raise KeyError("killed")
        real(content, file)

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyError):
        attempt(cfg, tmp_path / "1")
    monkeypatch.undo()
    assert find_resume([tmp_path / "1"], IDENTITY, pytest.fail).epoch == 1


def test_sigterm_means_what_the_caller_said(tmp_path):
    """Lightning would end the process in the middle of an epoch."""
    stop = threading.Event()
    heard = []

    def handler(*_):
        heard.append(1)
        stop.set()

    def on_epoch(rows, checkpoint, epoch):
        # The first epoch is saved; the second one has yet to be trained.
        if len(rows) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, handler)
    cfg = config(MOMENTUM)
    (tmp_path / "1").mkdir()
    context = Context(tmp_path / "1", IDENTITY, None, stop.is_set, on_epoch)
    try:
        with pytest.raises(Interrupted, match="after epoch 1"):
            execute(cfg, context)
        assert heard == [1]
        assert signal.getsignal(signal.SIGTERM) is handler
        resumed, resume, _ = attempt(cfg, tmp_path / "2", previous=[tmp_path / "1"])
    finally:
        signal.signal(signal.SIGTERM, previous)
    whole, _, _ = attempt(cfg, tmp_path / "3")
    assert resume.epoch == 2
    assert substance(resumed) == substance(whole)
