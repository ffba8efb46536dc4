"""A composed config, printed before anything is launched."""

from __future__ import annotations

from collections.abc import Sequence

from retable.config.compose import check_overrides, hydra_ready, lenient, search_path
from retable.launch import hydra_sweep
from retable.launch.dispatch import warn
from retable.launch.redo import stale_among
from retable.runs import frozen, records
from retable.util.errors import UserError


def composed_text(overrides: Sequence[str], *, part: str = "job", multirun: bool = False) -> str:
    """The config that overrides compose, as YAML; of a multirun that of its first job.

    Args:
        overrides: as given on the command line.
        part: ``job``, all that the run is told, below its key and what there is of it; or
            ``hydra``, Hydra's own settings.
        multirun: whether keys may have several values.

    Raises:
        UserError: where they compose no valid run, and for another part.
    """
    if part not in ("job", "hydra"):
        raise UserError(f"--cfg: no '{part}'; valid: job, hydra")
    if multirun:
        jobs = hydra_sweep.expand(hydra_sweep.match_configs(overrides))
    else:
        check_overrides(overrides, sweep=False)
        jobs = [list(overrides)]
    [run] = hydra_sweep.freeze_jobs([jobs[0]])
    more = [f"# the first of {len(jobs)} jobs"] if len(jobs) > 1 else []
    if part == "hydra":
        return "\n".join([*more, _of_hydra(jobs[0])])
    record = records.read_run(run.folder, warn)
    state = "not run" if record is None else record.status.value
    state += ", stale: computed by other code than is here now" if stale_among([run]) else ""
    about = [f"# key: {run.key}", f"# folder: {run.folder}", f"# state: {state}"]
    return "\n".join([*more, *about, frozen.config_text(run.config)])


def _of_hydra(overrides: Sequence[str]) -> str:
    from hydra import compose
    from omegaconf import OmegaConf

    own = [text for text in overrides if not text.startswith("hydra.searchpath")]
    given = [*search_path(), *lenient(own)]
    with hydra_ready():
        return OmegaConf.to_yaml(compose("run", given, return_hydra_config=True).hydra).rstrip()
