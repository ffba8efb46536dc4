"""Hydra's multirun through retable's own engine.

``retable train -m experiment=... model.x=1,2 seed=0,1,2`` reaches
``retable.launch.dispatch.launch`` like every other command: composed, validated, frozen, and only
what has no record is run.
"""

# No postponed annotations here: Hydra executes this file before it is in sys.modules, and a
# dataclass with them looks itself up there.
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class RetableLauncherConfig:
    """Options of the launcher: none of its own, ``launcher`` of the run's config has them."""

    _target_: str = "hydra_plugins.retable_launcher.RetableLauncher"


class RetableLauncher(Launcher):
    """Hand all jobs of a sweep to the engine at once."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what composing the jobs needs."""
        self.hydra_context = hydra_context
        self.task_function = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Validate every job, then launch; nothing starts where one of them is wrong."""
        from retable.launch.hydra_sweep import launch_jobs

        outcomes = launch_jobs([list(overrides) for overrides in job_overrides])
        returns: list[JobReturn] = []
        for overrides, value in zip(job_overrides, outcomes, strict=True):
            job = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
            job.return_value = value
            returns.append(job)
        return returns


ConfigStore.instance().store(
    group="hydra/launcher", name="retable", node=RetableLauncherConfig, provider="retable"
)
