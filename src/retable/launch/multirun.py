"""Hydra multirun: from a sweep's overrides to frozen runs, each setting composed once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retable import records
from retable.compose import check_overrides, compose, hydra_ready, lenient, search_path
from retable.errors import UserError
from retable.launch.engine import Summary, launch
from retable.launch.frozen import FrozenRun, freeze

_last: Summary | None = None


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


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Jobs of a sweep as Hydra's own basic sweeper makes them: lists, globs and ranges."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    check_overrides(overrides)
    with hydra_ready():
        loader = GlobalHydra.instance().config_loader()
        # A first composition makes the loader's search path include the extra root.
        try:
            parser = OverridesParser.create(config_loader=loader)
            parsed = parser.parse_overrides([*search_path(), *lenient(overrides)])
            batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        except (HydraException, ValueError) as error:
            raise UserError(" ".join(str(error).split())) from None
    return [list(job) for batch in batches for job in batch]


def launch_jobs(jobs: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """Launch the jobs of a sweep; returns each one's results for a sweeper that optimises."""
    global _last
    runs = freeze_jobs(jobs)
    _last = launch(runs)
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

    from retable import locations

    freeze_jobs(expand(overrides))
    argv, sys.argv = sys.argv, ["retable", *search_path(), *lenient(overrides), "--multirun"]
    try:
        decorated = hydra.main(
            config_path=str(locations.conf_dir()), config_name="run", version_base="1.3"
        )(_not_called)
        decorated()
    finally:
        sys.argv = argv
    return _last or Summary()


def _not_called(_: object) -> None:
    raise AssertionError("jobs go through the launcher plugin")


def folder_of_runs(runs: Sequence[FrozenRun]) -> Path:
    """Where the runs of a sweep stand."""
    return Path(runs[0].config.paths.runs)
