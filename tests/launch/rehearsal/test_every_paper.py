"""Settings of every paper, rehearsed at full size; nightly of every protocol."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from retable.cli import workflow
from retable.launch.rehearsal import batches, count
from retable.launch.rehearsal import rehearse as module
from retable.launch.rehearsal.rehearse import rehearse
from retable.monitor.rehearsals import rehearse_tables
from retable.tables import grid, spec
from support.in_turn import PAPERS

STEPS_TO_A_FIXED_POINT = {"free_steps", "nudged_steps", "turns", "draws", "points"}


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


def rehearse_settings(paper, tmp_path, monkeypatch, *, every):
    """Rehearse a paper's tables; few settings that choose all there is to choose, or every one."""
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
        net = config["model"].get("net", {})
        if "attack" in config["model"] and "width" in net:  # a test is a hundred passes
            narrow = net | {"width": 8}
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
        first, alone = {}, few_that_choose_all(settings)
        for setting in settings:
            steps = STEPS_TO_A_FIXED_POINT & setting.config["model"].keys()
            own = {name: setting.config["model"][name] for name in steps}
            few = {name: n[:2] if isinstance(n, list) else min(n, 2) for name, n in own.items()}
            config = setting.config | {"model": setting.config["model"] | few}
            kept = every or setting.key in alone
            group = config["experiment"] if steps else setting.key if kept else config["paper"]
            first.setdefault(group, []).append(replace(setting, config=config))
        found = {one.key: result for one, result in rehearse([f[0] for f in first.values()], say)}
        for same in first.values():
            for setting in same:
                yield setting, found[same[0].key]

    monkeypatch.setattr(module, "rehearse", shortened)
    protocols = {p for name in grid.expand_names(paper) for p in spec.load(name).protocols()}
    grids = [
        one
        for protocol in (sorted(protocols) if every else ["paper"])
        for one in workflow.plan(paper, protocol)
    ]
    # What is found is remembered in a place of this test's own.
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "runs"))
    found = rehearse_tables(grids, "a100", 0.3, print, print)
    assert [(line.name, line.found.reason) for line in found.failed] == []
    settings = {setting.setting_key for one in grids for setting, _ in one.settings()}
    assert sum(line.settings for line in found.lines) == len(settings)


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_settings_of_every_paper_can_be_rehearsed(cached_once, tmp_path, monkeypatch, paper):
    """Few that choose all that there is to choose."""
    rehearse_settings(paper, tmp_path, monkeypatch, every=False)


@pytest.mark.nightly
@pytest.mark.parametrize("paper", PAPERS)
def test_every_setting_of_every_paper_can_be_rehearsed(cached_once, tmp_path, monkeypatch, paper):
    rehearse_settings(paper, tmp_path, monkeypatch, every=True)
