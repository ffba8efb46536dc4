"""Rehearsal of settings: each is built at full size, each distinct network counted and stepped."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map_only

from retable.data.base import PaperDataModule
from retable.data.fetch import DataUnavailable
from retable.launch.preflight import Begun, begun_with, is_of_loading, misfit_of, refusal_of
from retable.launch.rehearsal.batches import Batches, small
from retable.launch.rehearsal.count import StepCount, count_step, time_step
from retable.launch.rehearsal.equal import with_few
from retable.launch.rehearsal.fake import NUMPY, UNKNOWN, Faked, faked, why_not
from retable.launch.rehearsal.records import Rehearsed
from retable.launch.rehearsal.small_run import TooLong, at_most, finite_or_not, small_checkpoints
from retable.papers.base import PaperModule
from retable.training.execute import Context, Diverged, build, build_data, execute
from retable.training.start import Start
from retable.util.errors import UserError, brief

TIMED_S = 0.3
"""How long steps are timed that cannot be counted."""

MOST_S = 60.0
"""Processor time that a small step and a small test may take."""

MOST_UNCOUNTED_S = 0.5
"""The same where a step cannot be counted: such methods make their own data, and all of it."""

_OPTIMIZERS = ("optimizer", "scheduler")


@dataclass(frozen=True)
class Setting:
    """A setting to rehearse.

    Attributes:
        key: of the setting.
        name: for people.
        config: of one of its runs, validated.
    """

    key: str
    name: str
    config: dict[str, Any]


@dataclass(frozen=True)
class _Known:
    """What is known already.

    Attributes:
        stepped: what was left of small steps and tests.
        batches: by their data, with the data module that gave them.
        begun: what runs begin with that start from others, without content, by the others' models.
        mode: of all tensors without content.
    """

    stepped: dict[str, str] = field(default_factory=dict)
    batches: dict[str, tuple[PaperDataModule, Any]] = field(default_factory=dict)
    begun: dict[str, Begun] = field(default_factory=dict)
    mode: Faked = field(default_factory=Faked)

    def first_batch(self, config: dict[str, Any]) -> tuple[PaperDataModule, Any]:
        """A training batch with its data, set up unless known by name; it is read once."""
        data = json.dumps([config["data"], config["paths"]], sort_keys=True)
        if data not in self.batches:
            self.batches.clear()  # one at a time, since it may be all data there is
            node = build_data(config["data"], config["seed"], config["paths"])
            self.batches[data] = node, Batches(node).first()
        return self.batches[data]


class _Cannot(Exception):
    """What keeps a setting from being rehearsed that is no fault of it."""


def rehearse(
    settings: Iterable[Setting], say: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[Setting, Rehearsed]]:
    """Rehearse settings one after another; what they share is rehearsed once.

    A training step is counted once for all settings that :func:`step_of` gives the same text for,
    and a small step and a small test are done once for those that differ in the optimiser alone.
    Of settings that differ in the optimiser's numbers or in an image set's content one network is
    built. A setting in trouble does not keep the others from being rehearsed.

    Args:
        settings: to rehearse.
        say: told of each network before it is rehearsed.
    """
    counted: dict[str, Rehearsed] = {}
    steps: dict[str, str] = {}
    known = _Known()
    for setting in settings:
        config = setting.config
        torch.set_num_threads(config["device"]["threads"])  # as in a run
        try:
            batches = Batches(build_data(config["data"], config["seed"], config["paths"]))
            asked = _asked(config, batches)
            if asked not in steps:
                built = _built(config, known)
                step = step_of(config, built)
                if step not in counted:
                    say(f"rehearsing {setting.name}")
                    counted[step] = _network(config, built, len(counted) + 1, known)
                steps[asked] = step
            yield setting, _with_steps(counted[steps[asked]], config, batches)
        except Exception as error:
            yield setting, _trouble(error)


def _trouble(error: Exception, network: int = 0) -> Rehearsed:
    # Hydra wraps what a constructor raises.
    if type(error).__name__ == "InstantiationException" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status: Literal["left", "failed"] = "left" if _no_fault(error) else "failed"
    plain = isinstance(error, _Cannot | UserError | ValueError)
    said = str(error) if plain else f"{type(error).__name__}: {error}"
    # A refusal of the harness is as long as a launch shows it: its end says what to do.
    most = 600 if isinstance(error, UserError) else 300
    return Rehearsed(status, network, reason=brief(said, most))


def _no_fault(error: Exception) -> bool:
    return isinstance(error, _Cannot) or type(error).__name__ == "DataUnavailable"


@dataclass(frozen=True)
class _Built:
    """Data and module of a setting; ``mode`` is that of their tensors where these are fake."""

    data: PaperDataModule
    module: PaperModule
    mode: Faked | None


def _built(config: dict[str, Any], known: _Known) -> _Built:
    """Data and module at full size, without content where its construction allows that."""
    with faked(known.mode) as mode:
        try:
            return _Built(*_with_start(config, known.begun), mode)
        except (*UNKNOWN, RuntimeError):
            pass
    return _Built(*_with_start(config, {}), None)


def _with_start(
    config: dict[str, Any], known: dict[str, Begun]
) -> tuple[PaperDataModule, PaperModule]:
    data, module = build(config)
    own = module.state_dict(keep_vars=True)  # only names and shapes are looked at
    _refuse_lazy(own)
    begun = _begun(config, known)
    if begun is not None:
        _refuse_lazy(begun.weights)
        start = Start(dict(begun.weights))  # others take them, too
        try:
            data.take_start(start)
            module.take_start(start)
        except Exception as error:
            if misfit := misfit_of(begun, own, error):
                raise UserError(refusal_of(begun, module, misfit)) from error
            if is_of_loading(error):
                raise
            what = "run" if begun.key == "start.run" else "file"
            reason = f"takes more than weights from the {what} it starts from"
            raise _Cannot(f"{reason} ({type(error).__name__}: {error})") from error
    return data, module


def _refuse_lazy(weights: dict[str, Tensor]) -> None:
    """Leave a network whose sizes only a batch will tell, as a run's first step does."""
    if lazy := [name for name, weight in weights.items() if is_lazy(weight)]:
        raise _Cannot(f"has lazy layers, whose sizes are not known before a batch ({lazy[0]})")


def _begun(config: dict[str, Any], known: dict[str, Begun]) -> Begun | None:
    """Weights of a file, or those that the run above begins with, for those it will leave."""
    above = config.get("start")
    if above is None:
        return None
    if above["run"] is None:
        with unset_fake_temporarily():
            return begun_with(config)
    model = json.dumps([above["run"][name] for name in ("experiment", "model")], sort_keys=True)
    if model not in known:
        known[model] = begun_with(config)
    return known[model]


def step_of(config: dict[str, Any], built: _Built, *, optimizer: bool = True) -> str:
    """What a training step of a setting depends on, as a text: its network and its optimiser.

    Of options that are floating-point numbers, and of all numbers of a scheduler, only whether they
    are zero: a rate, a weight or a probability changes neither the network nor its step, unless it
    switches something off, and no more does the epoch at which a rate falls. Of an image set that
    is known by name, only the shape of its batches.

    Args:
        config: of a run.
        built: from it.
        optimizer: whether the optimiser counts.
    """
    weights = built.module.state_dict(keep_vars=True)
    shapes = {name: [*value.shape, str(value.dtype)] for name, value in weights.items()}
    model = {n: v for n, v in config["model"].items() if optimizer or n not in _OPTIMIZERS}
    if "scheduler" in model:
        model["scheduler"] = _without_amounts(model["scheduler"], (int, float))
    parts = _common(config, Batches(built.data)) | {"model": model, "weights": shapes}
    return json.dumps(_without_amounts(parts), sort_keys=True)


def _asked(config: dict[str, Any], batches: Batches) -> str:
    """What settings have in common whose networks and steps are equal, told before one is built.

    Unlike in :func:`step_of` every option of the network counts as it is, since a number among them
    may give it other shapes.
    """
    model = config["model"]
    shared = {n: _without_amounts(model[n]) for n in _OPTIMIZERS if n in model}
    return json.dumps(_common(config, batches) | {"model": {**model, **shared}}, sort_keys=True)


def _common(config: dict[str, Any], batches: Batches) -> dict[str, Any]:
    options = config["trainer"]
    return {
        "data": batches.shape() or config["data"],
        "start": config.get("start"),
        "stages": config["stages"],
        "tested": config.get("tested"),
        "trainer": [options.get(n) for n in ("precision", "accumulate_grad_batches")],
        "clips": options.get("gradient_clip_val") is not None,
    }


def _without_amounts(value: Any, kinds: tuple[type, ...] = (float,)) -> Any:
    if isinstance(value, dict):
        return {name: _without_amounts(part, kinds) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_amounts(part, kinds) for part in value]
    amount = isinstance(value, kinds) and not isinstance(value, bool)
    return f"float {bool(value)}" if amount else value


def _network(config: dict[str, Any], built: _Built, number: int, known: _Known) -> Rehearsed:
    """Count a step of a setting, and do a small one and a small test of its network."""
    parameters = sum(weight.numel() for weight in built.module.parameters())
    fits = "fit" in config["stages"]
    if not parameters and not fits:
        return Rehearsed("left", number, reason="has no network: its test does all the work")
    try:
        counts, step_s, why = (
            _measured(config, built, known) if fits else (None, None, "only tests")
        )
        network = step_of(config, built, optimizer=False)
        if network not in known.stepped:
            most_s = MOST_UNCOUNTED_S if fits and counts is None else MOST_S
            known.stepped[network] = _step_once(with_few(config, built.module), most_s)
        reason = "; ".join(text for text in (why, known.stepped[network]) if text)
        found = Rehearsed("done", number, parameters, reason=reason, step_s=step_s)
        return found if counts is None else replace(found, **asdict(counts))
    except Exception as error:
        return replace(_trouble(error, number), parameters=parameters)


_Measured = tuple[StepCount | None, float | None, str]


def _measured(config: dict[str, Any], built: _Built, known: _Known) -> _Measured:
    """Counts of a step, or seconds of one and why there are no counts."""
    data, batch = known.first_batch(config)
    try:
        return _stepped(config, built, batch)
    except Exception as error:
        if _no_fault(error):
            raise
        # It may look at more than its batch, at the labels of all images, say.
        return _stepped(config, _built(config, known), batch, data)


def _stepped(
    config: dict[str, Any], built: _Built, batch: Any, data: PaperDataModule | None = None
) -> _Measured:
    with faked(built.mode) as mode:
        own, module = (built.data, built.module) if built.mode else _with_start(config, {})
        fake = tree_map_only(Tensor, mode.from_tensor, batch)
        try:
            return count_step(module, data or own, fake, config["trainer"]), None, ""
        except RuntimeError as error:  # of its own, or what a step without content cannot do
            why = why_not(error)
    if why == NUMPY and not module.automatic_optimization:
        raise _Cannot(f"{why}, in a loop of its own: one step may be a whole fit")
    return None, _timed(config, batch, data), f"timed, not counted: {why}"


def _timed(config: dict[str, Any], batch: Any, data: PaperDataModule | None) -> float:
    own, module = _with_start(config, {})
    return time_step(module, data or own, batch, config["trainer"], TIMED_S)


def _step_once(config: dict[str, Any], most_s: float) -> str:
    """A step, a validation and a test of few items, all that a run does; what was left of it."""
    few = small(config)
    try:
        return _run_small(few, most_s)
    except UserError:  # some cannot be tested before a later epoch: all, then, of a step each
        return _run_small(few | {"callbacks": config.get("callbacks")}, most_s)


def _run_small(few: dict[str, Any], most_s: float) -> str:
    start = Start(begun.weights) if (begun := _begun(few, {})) else None
    with tempfile.TemporaryDirectory(prefix="retable-rehearsal-") as folder:
        try:
            with at_most(most_s), finite_or_not(), small_checkpoints(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an empty loader, say: the run itself says that
                execute(few, Context(Path(folder), start=start))
        except Diverged:  # that a metric of so few items is not finite says nothing
            return ""
        except DataUnavailable:  # of which a step could be counted without it
            return "its data is not here, for a small step and a test"
        except TooLong:
            return f"its validation or test, which are not of few items, left after {most_s:g} s"
    return ""


def _with_steps(found: Rehearsed, config: dict[str, Any], batches: Batches) -> Rehearsed:
    if found.status != "done" or "fit" not in config["stages"]:
        return found
    options = config["trainer"]
    steps = options["max_epochs"] * batches.per_epoch(options.get("limit_train_batches"))
    return replace(found, steps=steps)
