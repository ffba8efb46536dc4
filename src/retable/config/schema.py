"""The schema of a run. Every field says whether it is part of the run's identity.

A *keyed* field may change the numbers and enters the run's key; an *unkeyed* one (paths, logging,
launching, device) may not. What the schema does not know is refused.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from retable.config.types import (
    Folder,
    Line,
    Option,
    PaperName,
    Project,
    Seed,
    Sha256,
    Slug,
    WeightsFile,
    Word,
)
from retable.util import paths
from retable.util.errors import UserError

REQUIRED: Any = ...


def keyed(default: Any, description: str, *, neutral: Any = REQUIRED) -> Any:
    """Field that enters the key, except at its neutral value: fields added later orphan no record.

    Args:
        default: value where none is given.
        description: what it means.
        neutral: the value that means "as before there was the field"; the first default where it
            is left out. It is pinned for ever (``tests/golden_keys.json``): a default that is
            changed later is another setting and enters the key, so the change names here what the
            default was.
    """
    known = default if neutral is REQUIRED else neutral
    kept = {} if known is REQUIRED else {"neutral": known}
    return Field(default, description=description, json_schema_extra={"keyed": True, **kept})


def unkeyed(default: Any, description: str) -> Any:
    """Field that changes where or how a run is done, not what comes out."""
    return Field(default, description=description, json_schema_extra={"keyed": False})


Node = dict[str, Any]


class Section(BaseModel):
    """Part of a config; unknown fields are refused and numbers are not guessed from text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TrainerConfig(Section):
    """Settings of Lightning's Trainer, as far as they may change numbers."""

    max_epochs: PositiveInt | None = keyed(None, "epochs to train; needed by a fit stage")
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"] = keyed(
        "32-true", "floating-point precision"
    )
    deterministic: bool = keyed(True, "only algorithms that give the same bits twice")
    gradient_clip_val: PositiveFloat | None = keyed(None, "bound on the gradient")
    gradient_clip_algorithm: Literal["norm", "value"] | None = keyed(None, "what is bounded")
    accumulate_grad_batches: PositiveInt = keyed(1, "batches per optimiser step")
    check_val_every_n_epoch: PositiveInt = keyed(1, "epochs between validations")
    limit_train_batches: PositiveInt | None = keyed(None, "batches per training epoch, all if null")
    limit_val_batches: NonNegativeInt | None = keyed(None, "batches per validation, all if null")
    limit_test_batches: PositiveInt | None = keyed(None, "batches of the test, all if null")
    checkpoint_every_n_epochs: PositiveInt = unkeyed(1, "epochs between checkpoints")


class BestEpoch(Section):
    """Choice of the epoch whose weights are tested, by a validation metric."""

    monitor: str = keyed(REQUIRED, "metric, val/...")
    mode: Literal["min", "max"] = keyed(REQUIRED, "which is better")
    ties: Literal["earlier", "later"] = keyed("earlier", "which of equally good epochs is tested")


class DeviceConfig(Section):
    """Where the run computes; recorded, not part of its identity."""

    accelerator: Literal["auto", "cpu", "gpu"] = unkeyed("cpu", "device type")
    threads: PositiveInt = unkeyed(1, "CPU threads of one run")
    devices: PositiveInt = unkeyed(1, "devices of one run; a batch is split over them")


class ResourcesConfig(Section):
    """Resources that one run needs of a cluster; null leaves it to the cluster's profile."""

    gpus: NonNegativeInt = unkeyed(0, "GPUs of one run")
    cpus: PositiveInt | None = unkeyed(None, "cores of one run; at least device.threads")
    memory_gb: PositiveFloat | None = unkeyed(None, "memory of one run")
    minutes: PositiveInt | None = unkeyed(None, "time limit of a job")


class PathsConfig(Section):
    """Every directory the project writes to or reads data from."""

    runs: Folder = unkeyed(REQUIRED, "folder of all runs")
    cache: Folder = unkeyed(REQUIRED, "folder of decoded and downloaded data")
    mirror: Folder | None = unkeyed(None, "folder with data sets in the hub's layout")


class LoggerConfig(Section):
    """Where metrics go besides the run's own history."""

    name: Literal["none", "wandb"] = unkeyed(REQUIRED, "kind of logger")
    project: Project = unkeyed("retable", "project in W&B")
    entity: Word | None = unkeyed(None, "user or team in W&B; null: the default of the login")
    mode: Literal["online", "offline", "auto"] = unkeyed(
        "auto", "auto: offline where there is no login or no network"
    )
    wait_s: PositiveFloat = unkeyed(30.0, "seconds a run with its result waits for W&B at most")


class LauncherConfig(Section):
    """Settings of the launcher that starts the runs."""

    name: Literal["local", "slurm"] = unkeyed(REQUIRED, "kind of launcher")
    workers: PositiveInt | None = unkeyed(
        None, "runs at once; if null all cores / threads, in a job of a cluster one"
    )
    alone: bool = unkeyed(False, "measure times: start a run only when nothing else runs here")
    snapshot: bool = unkeyed(False, "run from a copy of the source made at launch")
    grace_s: PositiveFloat = unkeyed(20.0, "seconds a stopped run has to reach an epoch's end")
    lease_s: PositiveFloat = unkeyed(60.0, "seconds without heartbeat after which a lease is dead")
    runs_per_job: PositiveInt = unkeyed(1, "runs that a job of a cluster does, sharing one import")
    concurrent_per_gpu: PositiveInt = unkeyed(1, "runs at once on one GPU, in a job of a cluster")
    max_attempts: PositiveInt = unkeyed(
        10, "attempts in a row without a new epoch after which a job of a cluster gives a run up"
    )


class ClusterConfig(Section):
    """Profile of a SLURM cluster: what its jobs ask for unless ``resources`` says otherwise."""

    name: Slug = unkeyed(REQUIRED, "name of the profile")
    partition: Word | None = unkeyed(None, "the cluster's default one if null")
    account: Word | None = unkeyed(None, "who pays")
    qos: Word | None = unkeyed(None, "quality of service")
    constraint: Line | None = unkeyed(None, "features that a node must have")
    gpu_type: Word | None = unkeyed(None, "kind of GPU, any if null")
    cpus: PositiveInt = unkeyed(1, "cores of one run; at least device.threads")
    alone: Literal["node", "cores"] = unkeyed("node", "what runs that measure time have alone")
    memory_gb: PositiveFloat = unkeyed(4.0, "memory of one run")
    minutes: PositiveInt = unkeyed(60, "time limit of a job")
    throttle: PositiveInt | None = unkeyed(None, "jobs of one array at once, no limit if null")
    max_array: PositiveInt | None = unkeyed(None, "jobs in one array; the cluster is asked if null")
    signal_s: PositiveInt = unkeyed(90, "seconds before the time limit at which a job is told")
    setup: list[Line] = unkeyed([], "shell lines before Python starts, such as module load ...")
    options: dict[Option, Line | int | bool] = unkeyed({}, "further options of sbatch, by name")


class StartConfig(Section):
    """Where the run begins: with what another one has left, or with the weights of a file.

    An experiment names that run (:mod:`retable.config.start`); here it stands by value, so that the
    key has all of it and a frozen run needs no files that it was composed from. Of weights the key
    has the checksum: where they lie says nothing of what they are.
    """

    run: SettingConfig | None = keyed(None, "run that is started from; it has the same seed")
    file: WeightsFile | None = unkeyed(
        None, "file of weights: below the mirror, hub:... or torchvision:..."
    )
    sha256: Sha256 | None = keyed(None, "checksum of that file")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.run is None) == (self.file is None):
            raise ValueError("is either {run: ...} or {file: ..., sha256: ...}")
        if (self.file is None) != (self.sha256 is None):
            raise ValueError("needs the file's sha256 (sha256sum prints it), and nothing else does")
        return self


class SettingConfig(Section):
    """One experiment with its overrides, for any seed."""

    paper: PaperName = keyed(REQUIRED, "paper the run belongs to")
    experiment: str | None = unkeyed(None, "name of the experiment's config")
    protocol: Slug = unkeyed("custom", "paper, reduced, smoke or one that the paper declares")
    stages: list[Literal["fit", "test"]] = keyed(["fit", "test"], "what the run does, in order")
    start: StartConfig | None = keyed(None, "run or file whose weights this one begins with")
    data: Node = keyed(REQUIRED, "the data module to build")
    model: Node = keyed(REQUIRED, "the paper module to build")
    trainer: TrainerConfig = keyed(TrainerConfig(), "options of the Trainer")
    callbacks: dict[Slug, Node] = keyed({}, "Lightning callbacks to build, by name")
    best_epoch: BestEpoch | None = keyed(None, "test the best epoch's weights, not the last's")
    tested: dict[Slug, dict[Literal["epoch", "weights"], Slug]] = keyed(
        {}, "result row: epoch (last, best) and kept weights of the module that it tests"
    )
    diverged_above: dict[str, float] = keyed({}, "metric: bound above which a run has diverged")
    device: DeviceConfig = unkeyed(DeviceConfig(), "where to compute")
    resources: ResourcesConfig = unkeyed(ResourcesConfig(), "what it needs of a cluster")

    @model_validator(mode="after")
    def _contradictions(self) -> Self:
        trainer, fits = self.trainer, "fit" in self.stages
        if self.stages not in (["fit"], ["test"], ["fit", "test"]):
            raise ValueError("stages: must be [fit], [test] or [fit, test]")
        if fits and trainer.max_epochs is None:
            raise ValueError("trainer.max_epochs: is needed where stages has 'fit'")
        for name, given in (
            ("trainer.max_epochs", trainer.max_epochs is not None),
            ("best_epoch", self.best_epoch is not None),
            ("callbacks", bool(self.callbacks)),
            ("tested", bool(self.tested)),
        ):
            if given and not fits:
                raise ValueError(f"{name}: contradicts stages, which has no 'fit'")
        if self.tested and "test" not in self.stages:
            raise ValueError("tested: contradicts stages, which has no 'test'")
        if trainer.gradient_clip_algorithm and trainer.gradient_clip_val is None:
            raise ValueError("trainer.gradient_clip_algorithm: needs gradient_clip_val")
        if self.best_epoch is not None:
            if not self.best_epoch.monitor.startswith("val/"):
                raise ValueError(
                    f"best_epoch.monitor: '{self.best_epoch.monitor}' is not a validation metric"
                    " (val/...)"
                )
            if trainer.limit_val_batches == 0:
                raise ValueError("best_epoch: contradicts trainer.limit_val_batches=0")
        epochs = {row: which.get("epoch", "last") for row, which in self.tested.items()}
        for row, epoch in epochs.items():
            if epoch not in ("last", "best"):
                raise ValueError(f"tested.{row}.epoch: '{epoch}' is neither last nor best")
            if epoch == "best" and self.best_epoch is None:
                raise ValueError(f"tested.{row}.epoch: best needs best_epoch")
        if epochs and self.best_epoch is not None and "best" not in epochs.values():
            raise ValueError("best_epoch: no row of tested has epoch=best; add one or leave it out")
        return self


class RunConfig(SettingConfig):
    """One experiment with one seed, and how and where it is done."""

    seed: Seed = keyed(REQUIRED, "seed; all others are derived from it")
    paths: PathsConfig = unkeyed(REQUIRED, "directories")
    logger: LoggerConfig = unkeyed(REQUIRED, "logging")
    launcher: LauncherConfig = unkeyed(REQUIRED, "launching")
    cluster: ClusterConfig | None = unkeyed(None, "profile of the cluster, for launcher=slurm")
    progress: bool = unkeyed(True, "show progress")

    @model_validator(mode="after")
    def _of_a_cluster(self) -> Self:
        device, slurm = self.device, self.launcher.name == "slurm"
        if slurm and self.cluster is None:
            names = ", ".join(paths.config_names("cluster"))
            raise ValueError(f"launcher: slurm needs cluster=<profile>, of conf/cluster/ ({names})")
        if slurm and device.accelerator == "gpu" and self.resources.gpus == 0:
            raise ValueError("device.accelerator: gpu needs resources.gpus=1 on a cluster")
        if slurm and device.accelerator == "cpu" and self.resources.gpus:
            raise ValueError(
                "resources.gpus: contradicts device.accelerator=cpu; set device.accelerator=auto"
            )
        if self.resources.gpus not in (0, device.devices) and slurm:
            raise ValueError("resources.gpus: must be 0 or equal device.devices")
        return self


StartConfig.model_rebuild()


def is_keyed(model: type[BaseModel], field: str) -> bool:
    """Whether a field of a section is part of the identity."""
    extra = model.model_fields[field].json_schema_extra
    if not isinstance(extra, dict) or "keyed" not in extra:
        raise UserError(f"{model.__name__}.{field} declares neither keyed nor unkeyed")
    return bool(extra["keyed"])


def keyed_part(config: RunConfig) -> Node:
    """The part of a config that its key is made from, without fields at their neutral values."""
    return _keyed_part(config)


def _keyed_part(section: BaseModel) -> Node:
    out: Node = {}
    for name, neutral in _keyed_fields(type(section)):
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            # A section that is always there is neutral where all its fields are, whatever its
            # default; one that may be missing says something by being there.
            part = _keyed_part(value)
            if part or not isinstance(neutral, BaseModel):
                out[name] = part
        elif neutral is REQUIRED or value != neutral:
            out[name] = value
    return out


def neutral_of(model: type[BaseModel], field: str) -> Any:
    """Value of a keyed field that the key leaves out; ``REQUIRED`` where every value enters."""
    extra = model.model_fields[field].json_schema_extra
    return extra.get("neutral", REQUIRED) if isinstance(extra, dict) else REQUIRED


def with_neutral(values: Any, model: type[BaseModel] = RunConfig) -> Any:
    """Values that were written by other code, with the fields that it did not know.

    A default may have changed since; what is missing there had its neutral value. Anything but a
    mapping is returned as it is.
    """
    if not isinstance(values, dict):
        return values
    out: Node = dict(values)
    for name, neutral in _keyed_fields(model):
        section = sections(model).get(name)
        if section is not None and name in out:
            out[name] = with_neutral(out[name], section)
        elif name not in out and neutral is not REQUIRED and not isinstance(neutral, BaseModel):
            out[name] = neutral
        elif name not in out and section is not None and isinstance(neutral, BaseModel):
            out[name] = with_neutral({}, section)
    return out


@cache
def _keyed_fields(model: type[BaseModel]) -> list[tuple[str, Any]]:
    """Keyed fields of a section with their neutral values."""
    return [(name, neutral_of(model, name)) for name in model.model_fields if is_keyed(model, name)]


def sections(model: type[BaseModel] = RunConfig) -> dict[str, type[BaseModel]]:
    """Fields of the schema that are sections themselves."""
    found: dict[str, type[BaseModel]] = {}
    for name, info in model.model_fields.items():
        kinds = getattr(info.annotation, "__args__", (info.annotation,))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found
