"""Hydra multirun: from a sweep's overrides to frozen runs, each setting composed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retable import locations, records
from retable.compose import check_overrides, compose, hydra_ready, lenient, search_path
from retable.errors import UserError
from retable.launch.engine import Summary, check_together, launch
from retable.launch.frozen import FrozenRun, freeze

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

_summaries: list[Summary] = []


def freeze_jobs(jobs: Sequence[Sequence[str]]) -> list[FrozenRun]:
    """Compose, validate and freeze; jobs that differ in the seed alone share one composition."""
    settings: dict[tuple[str, ...], FrozenRun] = {}
    runs: list[FrozenRun] = []
    with hydra_ready():
        for job in jobs:
            plain = [text.removeprefix("++") for text in job if not text.startswith("hydra")]
            seed = next((t for t in reversed(plain) if t.startswith("seed=")), None)
            rest = tuple(t for t in plain if not t.startswith("seed="))
            value = seed.partition("=")[2] if seed else ""
            if rest not in settings or not value.isdigit():
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
            names = glob.filter(locations.config_names(group.lstrip("+")))
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
        raise UserError(f"override '{text}': {str(error).splitlines()[0]}") from None


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
            raise UserError(" ".join(str(error).split())) from None
    jobs = [list(job) for batch in batches for job in batch]
    if not jobs:
        raise UserError("nothing to run: a range among the overrides is empty")
    return jobs


def launch_jobs(jobs: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """Launch the jobs of a sweep; returns each one's results for a sweeper that optimises."""
    runs = freeze_jobs(jobs)
    _summaries.append(launch(runs))
    out: list[dict[str, float]] = []
    for run in runs:
        record = records.read_run(run.folder, lambda _: None)
        out.append({r.metric: r.value for r in record.results} if record else {})
    return out


def sweep(overrides: Sequence[str]) -> Summary:
    """Run a multirun through Hydra's sweeper and its launcher plugin.

    Everything that can be wrong is found before Hydra creates a folder.
    """
    import sys

    import hydra

    overrides = match_configs(overrides)
    check_together(freeze_jobs(expand(overrides)))
    _summaries.clear()
    argv, sys.argv = sys.argv, ["retable", *search_path(), *lenient(overrides), "--multirun"]
    try:
        decorated = hydra.main(
            config_path=str(locations.conf_dir()), config_name="run", version_base="1.3"
        )(_not_called)
        decorated()
    finally:
        sys.argv = argv
    # A sweeper may launch in several batches.
    return Summary.of(_summaries)


def _not_called(_: object) -> None:
    raise AssertionError("jobs go through the launcher plugin")
