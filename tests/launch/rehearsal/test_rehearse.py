"""Rehearsals of settings: what they share, and what keeps one from being rehearsed."""

from __future__ import annotations

import os

import pytest
import torch
from retable.papers.digits.module import Perceptron
from safetensors.torch import save_file

from retable.data.fetch import DataUnavailable, sha256_of
from retable.launch.preflight import first_refusal
from retable.launch.rehearsal import rehearse as module
from retable.launch.rehearsal.rehearse import Setting, rehearse
from retable.launch.rehearsal.small_run import TooLong, at_most
from retable.papers.base import PaperModule
from retable.training.execute import build
from retable.util.errors import UserError
from support.runs import freeze


def rehearsed(*settings, experiment="digits/base"):
    """Findings about an experiment with overrides, and how many networks were rehearsed."""
    told = []
    runs = [freeze(*overrides, experiment=experiment) for overrides in settings]
    given = [
        Setting(str(n), str(n), run.config.model_dump(mode="json")) for n, run in enumerate(runs)
    ]
    found = [found for _, found in rehearse(given, told.append)]
    return found, len(told)


def test_a_setting_that_starts_from_a_file_takes_its_weights(tmp_path):
    weights = {name: w.clone() for name, w in _fresh().items()}
    save_file(weights, tmp_path / "a.safetensors")
    sha256 = sha256_of(tmp_path / "a.safetensors")

    def start(file):
        return [f"start={{file: {file}, sha256: {sha256}}}", f"paths.mirror={tmp_path}"]

    found, _ = rehearsed([], start("a.safetensors"), start("b.safetensors"))
    assert [one.status for one in found] == ["done", "done", "left"]
    assert found[0].flops == found[1].flops > 0
    assert found[2].reason.startswith("start.file: b.safetensors is neither in")
    save_file({"a": weights["net.0.bias"]}, tmp_path / "a.safetensors")
    sha256 = sha256_of(tmp_path / "a.safetensors")
    [misfit], _ = rehearsed(start("a.safetensors"))
    assert misfit.status == "failed"
    assert misfit.reason == (
        "start.file: Perceptron cannot take the weights of a.safetensors: there is no net.0.weight;"
        " valid: a (and 9 more); rename them in its take_start, or let it take what fits: see"
        " docs/chains.md"
    )


def test_weights_of_a_run_that_do_not_fit_are_told_as_a_launch_tells_it():
    start = "start={run: {experiment: digits/base}}"
    found, _ = rehearsed([start], [start, "model.hidden=64"])
    assert [one.status for one in found] == ["done", "failed"]
    config = freeze(start, "model.hidden=64", experiment="digits/base").config
    refused = first_refusal([config.model_dump(mode="json")])
    assert refused is not None
    assert found[1].reason == refused[1]
    assert found[1].reason.startswith("start.run: Perceptron cannot take the weights of digits/ba")


def test_lazy_layers_are_left_with_the_reason():
    lazy = "model._target_=retable.papers.digits.lazy.Lazy"
    why = "has lazy layers, whose sizes are not known before a batch (net.0.weight)"
    above = f"start={{run: {{experiment: digits/base, overrides: ['{lazy}']}}}}"
    found, _ = rehearsed([lazy], [above], [lazy, "start={run: {experiment: digits/base}}"])
    assert [(one.status, one.reason) for one in found] == [("left", why)] * 3


def _fresh():
    _, module = build(freeze(experiment="digits/base").config.model_dump(mode="json"))
    return module.state_dict()


@pytest.fixture
def small_steps(monkeypatch):
    """How often a small step and a small test were done."""
    calls = []
    step = module._step_once
    monkeypatch.setattr(module, "_step_once", lambda *given: calls.append(given) or step(*given))
    return calls


@pytest.mark.slow
def test_settings_share_what_their_differences_do_not_change(small_steps):
    found, networks = rehearsed(
        [],
        ["model.optimizer.lr=0.5", "trainer.max_epochs=7"],
        ["model.hidden=16"],
        ["model.optimizer._target_=torch.optim.Adam"],
        ["model.dropout=0.3"],
        ["model.dropout=0.5"],
        ["model.dropout=0.0"],
    )
    assert [one.status for one in found] == ["done"] * 7
    assert [one.network for one in found] == [1, 1, 2, 3, 4, 4, 5]
    assert networks == 5
    assert len(small_steps) == 4  # the optimiser is no part of the network
    base, longer, narrow, adam = found[:4]
    assert longer.steps * 4 == base.steps * 7
    assert narrow.flops < base.flops == adam.flops
    assert adam.peak_bytes > base.peak_bytes
    assert base.parameters == 64 * 32 + 32 + 2 * 32 + 32 * 10 + 10


def test_settings_share_what_the_numbers_of_a_scheduler_do_not_change():
    steps = "{{_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: {}}}"
    found, _ = rehearsed(*([f"model.scheduler={steps.format(n)}"] for n in (3, 5)), [])
    assert [one.network for one in found] == [1, 1, 2]
    assert found[0].flops == found[2].flops


@pytest.fixture
def builds(monkeypatch):
    """Widths of the networks that were built of whole runs, and of what they start from."""
    made = {"own": [], "above": []}
    for name, build_ in (("build", module.build), ("begun_with", module.begun_with)):

        def counted(config, name=name, build_=build_):
            of = config["model"] if name == "build" else config["start"]["run"]["model"]
            made["own" if name == "build" else "above"].append(of.get("hidden"))
            return build_(config)

        monkeypatch.setattr(module, name, counted)
    monkeypatch.setattr(module, "_step_once", lambda *_: "")
    return made


def test_one_network_is_built_of_settings_whose_optimizers_numbers_differ(builds):
    found, _ = rehearsed(
        [],
        ["model.optimizer.lr=0.5", "trainer.max_epochs=7"],
        ["model.dropout=0.3"],
        ["model.dropout=0.5"],
        ["model.hidden=16"],
    )
    assert [one.network for one in found] == [1, 1, 2, 2, 3]
    assert builds["own"] == [32, 32, 32, 16]  # another probability could mean another shape
    assert found[1].steps * 4 == found[0].steps * 7


def test_one_network_is_built_for_every_content_of_an_image_set(builds):
    found, _ = rehearsed([], ["data.n_validation=8000"], experiment="binary_connect/mnist")
    assert [one.network for one in found] == [1, 1]
    assert len(builds["own"]) == 1
    assert found[1].steps * 50 == found[0].steps * 52  # two thousand images more, of 50,000


def test_a_network_that_others_start_from_is_built_once(builds):
    def start(hidden):
        return f"start={{run: {{experiment: digits/base, overrides: ['model.hidden={hidden}']}}}}"

    found, _ = rehearsed(
        [start(64), "model.hidden=64"],
        [start(64), "model.hidden=64", "model.dropout=0.1"],
        [start(16), "model.hidden=64"],
        [start(64), "model.hidden=16"],
    )
    assert [one.status for one in found] == ["done", "done", "failed", "failed"]
    assert builds["above"] == [64, 16]


def test_a_setting_that_fails_is_told_and_keeps_no_other_from_being_rehearsed():
    found, _ = rehearsed(["model.fail=raise"], ["model.hidden=0"], [])
    assert [one.status for one in found] == ["failed", "failed", "done"]
    assert "told to" in found[0].reason or "RuntimeError" in found[0].reason
    assert found[2].flops


def test_a_step_finds_the_training_data_as_in_a_run(monkeypatch):
    step, found = Perceptron.training_step, []

    def weighed(self, batch, batch_idx):
        train = self.trainer.datamodule.train
        found.append(len(train))
        if self.hidden == 16:
            found[-1] = sum(torch.bincount(train.labels).tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Perceptron, "training_step", weighed)
    [by_size, by_values], _ = rehearsed([], ["model.hidden=16"])
    assert by_size.status == by_values.status == "done"
    assert by_size.flops > 0
    assert by_values.flops is None
    assert by_values.step_s > 0
    assert by_values.reason == "timed, not counted: its step depends on values"
    assert {*found} == {1200}


def test_a_step_that_does_the_whole_fit_at_once_is_left_by_what_it_says(monkeypatch):
    """Its batches after the first take no time, so that a median of them would be a false one."""

    def all_at_once(self, batch, batch_idx):
        if getattr(self.trainer.datamodule, "train", None) is None:
            raise DataUnavailable("works on all images at once, which are not set up")

    monkeypatch.setattr(Perceptron, "training_step", all_at_once)
    [found], _ = rehearsed([])
    assert (found.status, found.step_s) == ("left", None)
    assert found.reason == "works on all images at once, which are not set up"


def test_what_can_be_tested_after_a_later_epoch_alone_is_rehearsed_to_its_end(monkeypatch):
    begun, told = Perceptron.training_step, []

    def seen(self, batch, batch_idx):
        told.append(self.current_epoch)
        return begun(self, batch, batch_idx)

    def early(self):
        if told[-1] < self.hidden - 16:
            raise UserError(f"model.hidden: {self.hidden} is after epoch {told[-1]}")

    monkeypatch.setattr(Perceptron, "training_step", seen)
    monkeypatch.setattr(Perceptron, "on_test_start", early)
    options = ["trainer.max_epochs=3"]
    [first, last, never], _ = rehearsed(
        *([f"model.hidden={n}", *options] for n in (16, 18, 20)),
    )
    assert (first.status, last.status) == ("done", "done")
    assert last.reason == ""
    assert never.status == "failed"
    assert never.reason == "model.hidden: 20 is after epoch 2"


def test_a_metric_that_diverges_on_few_items_is_no_failure():
    found, _ = rehearsed(["model.fail=diverge"])
    assert found[0].status == "done"


def test_a_checkpoint_is_made_whole_and_written_without_its_tensors(monkeypatch):
    written = []
    save = torch.save

    def saving(content, file):
        save(content, file)
        file.flush()
        written.append((file.tell(), 512 * os.fstat(file.fileno()).st_blocks))

    monkeypatch.setattr(torch, "save", saving)
    found, _ = rehearsed(["model.hidden=20000"])
    assert found[0].status == "done"
    [(size, on_disk)] = written
    assert size > 4 * found[0].parameters > 5 * on_disk
    monkeypatch.setattr(PaperModule, "on_save_checkpoint", lambda _, kept: kept.update(a=lambda: 0))
    found, _ = rehearsed([])
    assert found[0].status == "failed"


def test_an_error_that_the_end_of_the_time_has_become_is_no_fault_of_the_run():
    def busy():
        try:
            while True:
                pass
        except TooLong as error:
            raise SystemError("returned a result with an exception set") from error

    with pytest.raises(TooLong) as caught, at_most(0.01):
        busy()
    assert isinstance(caught.value.__cause__, SystemError)
    with pytest.raises(SystemError), at_most(60):
        raise SystemError
