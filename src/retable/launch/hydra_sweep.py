"""Hydra multirun: from a sweep's overrides to frozen runs, each setting composed once."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from retable.config.compose import check_overrides, compose, hydra_ready, lenient, search_path
from retable.config.compose_cache import planning
from retable.config.hydra_errors import in_words
from retable.launch.checks import check_together
from retable.launch.dispatch import launch
from retable.launch.summary import Summary
from retable.runs import records
from retable.runs.frozen import FrozenRun, freeze
from retable.runs.identity import targets_of
from retable.util import paths
from retable.util.errors import UserError, brief, nearest

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

    from retable.launch.slurm.submit import Orders

_summaries: list[Summary] = []
# Hydra's plugin is given no arguments of ours.
_options = {"wait": False, "again": False}
# What needs no validating; anything else, such as 007, is for the schema to judge.
_SEED = re.compile(r"0|[1-9][0-9]{0,17}")


def freeze_jobs(jobs: Sequence[Sequence[str]]) -> list[FrozenRun]:
    """Compose, validate and freeze; jobs that differ in the seed alone share one composition."""
    settings: dict[tuple[str, ...], FrozenRun] = {}
    runs: list[FrozenRun] = []
    with planning():
        for job in jobs:
            plain = [text.removeprefix("++") for text in job if not text.startswith("hydra")]
            seed = next((t for t in reversed(plain) if t.startswith("seed=")), None)
            rest = tuple(t for t in plain if not t.startswith("seed="))
            value = seed.partition("=")[2] if seed else ""
            if rest not in settings or not _SEED.fullmatch(value):
                settings[rest] = freeze(compose([*rest, seed] if seed else list(rest)))
                runs.append(settings[rest])
            else:
                runs.append(settings[rest].with_seed(int(value)))
    return runs


def match_configs(overrides: Sequence[str]) -> list[str]:
    """Replace globs by the names of the configs they match.

    Hydra's own look at one folder of one source: not at ``paper/name``, nor at the extra root.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob

    out: list[str] = []
    for text in overrides:
        group, _, value = text.partition("=")
        if value.startswith("glob("):
            glob = _parsed(OverridesParser.create(), [text])[0].value()
            assert isinstance(glob, Glob)
            names = glob.filter(paths.config_names(group.lstrip("+")))
            if not names:
                raise UserError(f"override '{text}': matches no {group}")
            text = f"{group}={','.join(names)}"
        out.append(text)
    return out


def _parsed(parser: OverridesParser, overrides: Sequence[str]) -> list[Override]:
    from hydra.errors import OverrideParseException

    try:
        return parser.parse_overrides(list(overrides))
    except OverrideParseException as error:
        text = error.override.removeprefix("++")
        raise UserError(f"override '{brief(text)}': {in_words(error)}") from None


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Jobs of a sweep as Hydra's own basic sweeper makes them: lists and ranges.

    Args:
        overrides: the sweep's, after :func:`match_configs`.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    check_overrides(overrides)
    with hydra_ready():
        loader = GlobalHydra.instance().config_loader()
        try:
            parser = OverridesParser.create(config_loader=loader)
            parsed = _parsed(parser, [*search_path(), *lenient(overrides)])
            batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        except (HydraException, ValueError) as error:
            raise UserError(in_words(error)) from None
    jobs = [list(job) for batch in batches for job in batch]
    if not jobs:
        raise UserError("nothing to run: a range among the overrides is empty")
    return jobs


def launch_jobs(jobs: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """Launch the jobs of a sweep; returns each one's results for a sweeper that optimises."""
    runs = freeze_jobs(jobs)
    orders = orders_of(runs, wait=_options["wait"])
    if _options["again"]:
        from retable.launch.redo import launch_anew

        _summaries.append(launch_anew(runs, orders))
    else:
        _summaries.append(launch(runs, orders=orders))
    out: list[dict[str, float]] = []
    for run in runs:
        record = records.read_run(run.folder, lambda _: None)
        out.append({r.metric: r.value for r in record.results} if record else {})
    return out


def orders_of(runs: Sequence[FrozenRun], *, wait: bool) -> Orders | None:
    """Orders to a cluster for a launch of runs that belong to no table; None where it is local."""
    if runs[0].config.launcher.name != "slurm":
        return None
    from retable.launch.slurm.submit import Orders

    names = dict.fromkeys(run.config.experiment or run.config.paper for run in runs)
    return Orders(label=", ".join(names), wait=wait)


def sweep(overrides: Sequence[str], *, wait: bool = False, again: bool = False) -> Summary:
    """Run a multirun through Hydra's sweeper and its launcher plugin.

    Everything that can be wrong is found before Hydra creates a folder.

    Args:
        overrides: as given on the command line.
        wait: on a cluster, follow until the runs have ended.
        again: redo those that are stale.
    """
    # As hydra.main does, but for its last step: that prints a traceback of whatever is wrong.
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    overrides = match_configs(overrides)
    runs = freeze_jobs(expand(overrides))
    if wait and runs[0].config.launcher.name != "slurm":
        raise UserError("--wait: is for launcher=slurm cluster=<profile>")
    check_together(runs)
    _summaries.clear()
    _options.update(wait=wait, again=again)
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2(
            "retable", create_config_search_path(str(paths.conf_dir()))
        )
        given = [*search_path(), *lenient(overrides)]
        _check_hydra(hydra, given)
        with _composed_once():
            hydra.multirun("run", _not_called, given, with_log_configuration=False)
    finally:
        GlobalHydra.instance().clear()
    # A sweeper may launch in several batches.
    return Summary.of(_summaries)


@contextmanager
def _composed_once() -> Generator[None]:
    """Keep Hydra's sweepers from composing every job only to see whether it can be composed.

    That takes a minute for a thousand jobs; they are all composed and validated here anyway,
    before the first is launched.
    """
    from hydra.plugins.sweeper import Sweeper

    def not_again(self: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        del self, batch

    usual = Sweeper.validate_batch_is_legal
    Sweeper.validate_batch_is_legal = not_again
    try:
        yield
    finally:
        Sweeper.validate_batch_is_legal = usual


def _check_hydra(hydra: Hydra, overrides: list[str]) -> None:
    """Refuse what a file sets of Hydra's (callbacks run code), and a sweeper that there is not."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext, RunMode
    from omegaconf import OmegaConf

    def settings(given: list[str]) -> tuple[Any, dict[str, Any]]:
        config = hydra.compose_config("run", given, run_mode=RunMode.MULTIRUN)
        content = OmegaConf.to_container(config.hydra, resolve=False)
        assert isinstance(content, dict)
        job = {k: content["job"][k] for k in ("chdir", "env_set", "env_copy", "config")}
        rest = {str(k): v for k, v in content.items() if k not in _OF_A_SWEEP}
        return config, {**rest, "job": job}

    try:
        _, own = settings(search_path())
        config, now = settings(overrides)
        changed = next((key for key in {**own, **now} if own.get(key) != now.get(key)), None)
        if changed is not None:
            raise UserError(f"hydra.{changed}: no config may change Hydra's own settings")
        sweeper = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
        if targets_of(list(sweeper.values()) if isinstance(sweeper, dict) else sweeper):
            raise UserError("hydra.sweeper: may not build anything (_target_)")
        size = sweeper.get("max_batch_size") if isinstance(sweeper, dict) else None
        if isinstance(size, int) and size < 1:
            raise UserError(f"hydra.sweeper.max_batch_size: {size} is not valid: at least 1")
        Plugins.instance().instantiate_sweeper(
            config=config,
            hydra_context=HydraContext(hydra.config_loader, Callbacks()),
            task_function=_not_called,
        )
    except UserError:
        raise
    except Exception as error:  # the jobs are right, so it is something about Hydra's settings
        first = next(iter(str(error).splitlines()), "")
        wrong = [text for text in overrides if re.match(r"[+~]*hydra[./]sweeper", text)]
        if "Could not find" in first:
            names = hydra.config_loader.get_group_options("hydra/sweeper")
            first = f"no such sweeper{nearest(wrong[-1].partition('=')[2] if wrong else '', names)}"
        elif isinstance(error, AttributeError | TypeError):  # of Hydra, about itself
            first = "cannot be set so"
        raise UserError(f"override '{brief(wrong[-1]) if wrong else 'hydra'}': {first}") from None


# Parts of Hydra's settings that a sweep is there to fill.
_OF_A_SWEEP = {"sweeper", "overrides", "runtime", "job", "mode", "verbose"}


def _not_called(_: object) -> None:
    raise AssertionError("jobs go through the launcher plugin")
