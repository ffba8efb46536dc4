"""Rehearsals of settings: what they share, and what keeps one from being rehearsed."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from retable.cli import workflow
from retable.data.fetch import sha256_of
from retable.launch.preflight import first_refusal
from retable.launch.rehearsal import batches, count
from retable.launch.rehearsal import rehearse as module
from retable.launch.rehearsal.rehearse import Setting, rehearse
from retable.launch.rehearsal.small_run import TooLong, at_most
from retable.monitor.rehearsals import rehearse_tables
from retable.papers.base import PaperModule
from retable.tables import spec
from retable.training.execute import build
from retable.util import paths
from support.runs import freeze

STEPS_TO_A_FIXED_POINT = {"free_steps", "nudged_steps", "turns", "draws", "points"}


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


def choices(value, *path):
    """What a config chooses, by place; of numbers the kind, since most change a size alone."""
    if isinstance(value, dict):
        return {one for name, part in value.items() for one in choices(part, *path, name)}
    if isinstance(value, list):
        return {one for part in value for one in choices(part, *path)}
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {(*path, type(value) if number else value)}


def few_that_choose_all(settings):
    """Keys of settings, as few as are soon found, that choose what all of them choose."""
    parts = ("model", "data", "stages", "start", "tested")
    left = {one.key: choices({n: one.config[n] for n in parts}) for one in settings}
    found = set()
    while most := max(left, key=lambda key: len(left[key]), default=None):
        new = left.pop(most)
        left = {key: own - new for key, own in left.items()}
        if new:
            found.add(most)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_settings_of_every_paper_can_be_rehearsed(cached_once, tmp_path, monkeypatch, every):
    """Every one, or few that choose for their paper all that there is to choose."""
    monkeypatch.delenv("RETABLE_EXTRA")
    monkeypatch.setattr(module, "TIMED_S", 0.0)  # two steps of each tell whether it can be timed
    monkeypatch.setattr(batches, "ITEMS", 2)
    # Networks that differ in floating-point numbers alone are built once. Of those of a class that
    # have the same weights, and optimisers of a class, one is counted, whatever else is chosen.
    # Real steps of every experiment are test_shipped_configs'; here it is one of each pair of
    # module and data.
    step_of, asked = module.step_of, module._asked

    def by_class(config, built, *, optimizer=True):
        classes = [config["model"]["_target_"]]
        classes += [(config["model"].get(n) or {}).get("_target_") for n in module._OPTIMIZERS]
        return step_of(config | {"model": {"classes": classes}}, built, optimizer=optimizer)

    monkeypatch.setattr(module, "step_of", by_class)
    monkeypatch.setattr(
        module,
        "_asked",
        lambda config, *given: asked(
            config | {"model": module._without_amounts(config["model"])}, *given
        ),
    )
    step_once, stepped = module._step_once, {}

    def once(config, most_s):
        kind = json.dumps(
            [config["model"]["_target_"], config["data"]["_target_"], config["stages"]]
        )
        if "attack" in config["model"]:  # a test is a hundred passes
            narrow = config["model"]["net"] | {"width": 8}
            config = config | {"model": config["model"] | {"net": narrow}}
        if kind not in stepped:
            stepped[kind] = step_once(config, most_s)
        return stepped[kind]

    monkeypatch.setattr(module, "_step_once", once)
    if not every:  # whole steps of large networks, of which test_count times a small one
        monkeypatch.setattr(module, "_timed", lambda *_: 1.0)
    count_step, twice = module.count_step, set()

    def counted(own, *given):
        """A second step, with the optimiser's state, of one network of each pair of classes."""
        pair = type(own), getattr(own._optimizer, "func", None)
        with pytest.MonkeyPatch.context() as patch:
            if pair in twice:
                first = lambda self: (len(self.found) + 1) * self.every - 1  # noqa: E731
                patch.setattr(count._Count, "_next", first)
            found = count_step(own, *given)
        twice.add(pair)
        return found

    monkeypatch.setattr(module, "count_step", counted)

    def shortened(settings, say):
        """Of networks with hundreds of equal steps to a fixed point one an experiment, of a few."""
        first, papers = {}, {}
        for setting in settings:
            papers.setdefault(setting.config["paper"], []).append(setting)
        alone = set().union(*(few_that_choose_all(own) for own in papers.values()))
        for setting in settings:
            steps = STEPS_TO_A_FIXED_POINT & setting.config["model"].keys()
            few = {name: min(setting.config["model"][name], 2) for name in steps}
            config = setting.config | {"model": setting.config["model"] | few}
            kept = every or setting.key in alone
            group = config["experiment"] if steps else setting.key if kept else config["paper"]
            first.setdefault(group, []).append(replace(setting, config=config))
        found = {one.key: result for one, result in rehearse([f[0] for f in first.values()], say)}
        for same in first.values():
            for setting in same:
                yield setting, found[same[0].key]

    monkeypatch.setattr(module, "rehearse", shortened)
    names = paths.config_names("table")
    papers = sorted({n.partition("/")[0] for n in names if "paper" in spec.load(n).protocols()})
    assert len(papers) >= 5
    grids = [grid for paper in papers for grid in workflow.plan(paper)]
    # What is found is remembered in a place of this test's own.
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "runs"))
    found = rehearse_tables(grids, "a100", 0.3, print, print)
    assert [(line.name, line.found.reason) for line in found.failed] == []
    settings = {setting.setting_key for grid in grids for setting, _ in grid.settings()}
    assert sum(line.settings for line in found.lines) == len(settings)


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
