"""Diagnosis of this machine: what works, what does not, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retable.runs.code_roots import State, changed_files, extra_targets, roots_of
from retable.runs.provenance import checkout, cpu_flags, cpu_model, gpu
from retable.tracking.wandb_mode import Inquiry
from retable.util import paths
from retable.util.errors import UserError
from retable.util.text import counted

_NEEDED_GB = 5
_BF16 = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}
"""What makes bf16 worth its while on a processor, by the system's word for it."""
_PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "wandb", "datasets")


@dataclass(frozen=True)
class Check:
    """One finding; ``missing`` is something optional that is not there."""

    what: str
    state: Literal["ok", "missing", "broken"]
    finding: str
    remedy: str = ""


def examine() -> list[Check]:
    """All checks, in the order in which they matter."""
    return [
        _versions(),
        _extras(),
        _configs(),
        *_code(),
        _device(),
        _bf16(),
        _slurm(),
        _wandb(),
        _mirror(),
        _disk(),
    ]


def _versions() -> Check:
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return Check("versions", "ok", f"Python {platform.python_version()}, {found}")


def _extras() -> Check:
    absent: list[str] = []
    for extra in importlib.metadata.metadata("retable").get_all("Provides-Extra") or []:
        for text in importlib.metadata.requires("retable") or []:
            if f'extra == "{extra}"' in text.replace("'", '"'):
                name = text.split(">")[0].split("<")[0].split("=")[0].split(";")[0].strip()
                try:
                    importlib.metadata.version(name)
                except importlib.metadata.PackageNotFoundError:
                    absent.append(extra)
    if absent:
        return Check(
            "extras", "missing", f"not installed: {', '.join(absent)}", "uv sync --all-extras"
        )
    return Check("extras", "ok", "the packages of every paper are installed")


def _configs() -> Check:
    from retable.tables import spec

    names = paths.config_names("table")
    for name in names:
        try:
            spec.load(name)
        except UserError as error:
            return Check("tables", "broken", str(error), "mend the file")
    counts = Counter(str(_conf_of(name)) for name in names)
    confs = map(str, paths.conf_dirs())
    places = [f"{counted(counts[conf], 'table file')} in {conf}" for conf in confs]
    return Check("tables", "ok", "; ".join(places))


def _conf_of(name: str) -> Path:
    """The ``conf/`` that a table is read from; where two have it, the project's own."""
    file = paths.config_file("table", name)
    return next(conf for conf in paths.conf_dirs() if file and file.is_relative_to(conf))


def _code() -> list[Check]:
    """Where code lies that records name, and whether its commit would say which it was."""
    found = [_state("retable", paths.project_root(), checkout(), _version)]
    if paths.extra_root() is None:
        return found
    try:
        roots = roots_of(extra_targets())
    except UserError as error:
        return [*found, Check("code", "broken", str(error), "mend the file")]
    return [*found, *(_state(r.name, r.folder, r.state(), r.version) for r in roots)]


def _state(name: str, folder: Path, state: State, version: Callable[[], str | None]) -> Check:
    where = f"{name} in {folder}"
    if state.commit is None:
        if (number := version()) is not None:
            return Check("code", "ok", f"{where}: version {number}, in no repository")
        remedy = "git init, add and commit, so that records can name a commit"
        return Check("code", "missing", f"{where}: in no repository, or not added to it", remedy)
    finding = f"{where}: commit {state.commit[:12]}"
    if not (changed := changed_files(state.changes)):
        return Check("code", "ok", finding)
    return Check(
        "code",
        "ok",
        f"{finding} with local changes in {counted(len(changed), 'file')}",
        "commit them before a run that is to be published",
    )


def _version() -> str | None:
    return importlib.metadata.version("retable")


def _device() -> Check:
    cores = len(os.sched_getaffinity(0))
    name, driver = gpu()
    if name is None:
        return Check(
            "device",
            "ok",
            f"{cores} cores of {cpu_model()}; no GPU",
            "experiments that ask for one need a machine that has it",
        )
    return Check("device", "ok", f"{cores} cores of {cpu_model()}; {name}, driver {driver}")


def _bf16() -> Check:
    flags = cpu_flags()
    there = [name for flag, name in _BF16.items() if flag in flags]
    if there:
        return Check(
            "bf16",
            "ok",
            f"the processor has {' and '.join(there)}",
            "small conv nets train faster on it with trainer.precision=bf16-mixed"
            " model.channels_last=true; that is another setting, with numbers of its own",
        )
    names = " nor ".join(_BF16.values())
    return Check("bf16", "ok", f"the processor has neither {names}: bf16 would be no faster")


def _slurm() -> Check:
    if shutil.which("sinfo") is None:
        return Check("slurm", "missing", "no sinfo on the PATH", "runs go to this machine")
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%P"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check("slurm", "broken", "sinfo does not answer", "is slurmctld up?")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "sinfo failed"
        return Check("slurm", "missing", reason, "is SLURM_CONF set and slurmctld up?")
    return Check("slurm", "ok", f"partitions {', '.join(done.stdout.split())}")


def _wandb() -> Check:
    found = Inquiry(online=False).answer()
    if found.missing:
        return Check("wandb", "broken", found.missing, "uv sync; only logger=wandb needs it")
    if found.login:
        return Check("wandb", "ok", f"a login for {found.host} is there")
    why = "wandb login; logger.mode=offline needs none"
    return Check("wandb", "missing", f"no login for {found.host}", why)


def _mirror() -> Check:
    value = os.environ.get("RETABLE_MIRROR")
    if not value:
        return Check(
            "mirror", "missing", "RETABLE_MIRROR is not set", "data is fetched from its source"
        )
    folder = Path(value)
    if not folder.is_dir():
        return Check(
            "mirror", "broken", f"RETABLE_MIRROR={value} is not a folder", "correct it or unset it"
        )
    return Check("mirror", "ok", f"{sum(p.is_dir() for p in folder.iterdir())} folders in {value}")


def _disk() -> Check:
    folder = paths.runs_folder().absolute()
    existing = next(p for p in [folder, *folder.parents] if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if not os.access(existing, os.W_OK):
        return Check("disk", "broken", f"{folder} cannot be written", "set RETABLE_RUNS")
    if free < _NEEDED_GB:
        return Check("disk", "broken", f"{free:.1f} GB free at {folder}", "retable needs some room")
    return Check("disk", "ok", f"{free:.0f} GB free at {folder}")
