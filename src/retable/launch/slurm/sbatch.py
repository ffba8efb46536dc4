"""sbatch scripts: the templates of ``slurm/`` filled with a plan and a cluster's profile."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retable.config.schema import ClusterConfig, PathsConfig
from retable.launch.slurm.job_arrays import ArrayPlan
from retable.launch.slurm.open_jobs import comment
from retable.launch.slurm.submission import Submission
from retable.runs import snapshot
from retable.util import paths
from retable.util.errors import UserError, brief

OURS = frozenset(
    {
        "array",
        "chdir",
        "comment",
        "cpus-per-task",
        "dependency",
        "error",
        "export",
        "input",
        "job-name",
        "kill-on-invalid-dep",
        "mem",
        "no-requeue",
        "ntasks",
        "open-mode",
        "output",
        "parsable",
        "quiet",
        "requeue",
        "signal",
        "test-only",
        "time",
        "wait",
        "wrap",
    }
)
"""Options of sbatch that the scripts depend on; a profile may not change them."""
_FIELDS = ("partition", "account", "qos", "constraint")
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


@dataclass(frozen=True)
class CodeSource:
    """Where jobs take the code from.

    Attributes:
        path: folder to put first on the module path.
        extra: the extra root; None where there is none.
    """

    path: Path
    extra: Path | None

    @classmethod
    def of(cls, copy: Path | None) -> CodeSource:
        """A snapshot's, or without one the code that is running now."""
        if copy is None:
            return cls(paths.PACKAGE.parent, paths.extra_root())
        # As the forkserver finds them, which does the runs of a local launch from a copy.
        own = copy / snapshot.EXTRA
        return cls(copy, own if own.is_dir() else paths.extra_root())


def array_script(
    submission: Submission,
    number: int,
    plan: ArrayPlan,
    cluster: ClusterConfig,
    source: CodeSource,
) -> str:
    """The script of an array, whose tasks stand in the submission's folder."""
    header, needs = submission.header, plan.needs
    return _filled(
        "array",
        **_common(submission, cluster, header.label, str(number)),
        about=plan.about,
        tasks=len(plan.tasks),
        throttle=cluster.throttle,
        array=number,
        signal_s=header.signal_s,
        minutes=needs.minutes,
        at_once=plan.at_once,
        node=needs.node,
        devices=needs.devices,
        gpus=needs.gpus,
        gpu_type=cluster.gpu_type or "",
        cpus=plan.cpus,
        memory_mb=plan.memory_mb,
        source=str(source.path),
        extra=str(source.extra) if source.extra else None,
    )


def chore_script(
    submission: Submission,
    name: str,
    cluster: ClusterConfig,
    directories: PathsConfig,
    arguments: Sequence[str],
) -> str:
    """The script of what is done before (``prepare``) or behind (``publish``) the arrays.

    It runs from the checkout, as the command that it is for would; a snapshot has no configs.

    Args:
        submission: its folder.
        name: of the template.
        cluster: the profile.
        directories: the runs' directories, which the command is to use too.
        arguments: of the command.
    """
    extra = paths.extra_root()
    given = {
        "PYTHONPATH": str(paths.PACKAGE.parent),
        "RETABLE_EXTRA": str(extra) if extra else None,
        "RETABLE_RUNS": str(Path(directories.runs).absolute()),
        "RETABLE_CACHE": str(Path(directories.cache).absolute()),
        "RETABLE_MIRROR": directories.mirror and str(Path(directories.mirror).absolute()),
    }
    return _filled(
        name,
        **_common(submission, cluster, submission.header.label, name),
        environment={key: value for key, value in given.items() if value},
        arguments=list(arguments),
        minutes=cluster.minutes,
        cpus=cluster.cpus,
        memory_mb=round(cluster.memory_gb * 1000),
    )


def check(cluster: ClusterConfig, folder: Path) -> None:
    """Refuse what cannot be said in a script.

    Raises:
        UserError: for an option that the scripts need for themselves, or a path that sbatch would
            read otherwise.
    """
    for name in cluster.options:
        if name in OURS or name in _FIELDS:
            where = f"it is cluster.{name}" if name in _FIELDS else "jobs depend on how it is set"
            raise UserError(f"cluster {cluster.name}: options.{name}: not here; {where}")
    for path in (folder, Path.cwd(), Path(sys.executable)):
        text = str(path.absolute())
        if "\\" in text or not text.isprintable():
            raise UserError(
                f"{brief(repr(text))}: sbatch cannot be given a path with a backslash or a line"
                " break; choose another folder"
            )


def _common(
    submission: Submission, cluster: ClusterConfig, label: str, what: str
) -> dict[str, Any]:
    number = what.isdecimal()
    plain = re.sub(r"[^\w.+-]+", "-", label, flags=re.ASCII).strip("-")[:60]
    folder = submission.folder.absolute()
    return {
        "label": " ".join(label.split()),
        "name": plain if number else f"{plain}-{what}",
        "comment": comment(submission.folder.name, what),
        "log": str(folder / "log").replace("%", "%%"),
        "folder": str(folder),
        "cluster": cluster.name,
        "profile": _profile(cluster),
        "setup": cluster.setup,
        "cwd": str(Path.cwd()),
        "python": sys.executable,
    }


def _profile(cluster: ClusterConfig) -> list[str]:
    given: dict[str, Any] = {name: getattr(cluster, name) for name in _FIELDS}
    given.update(cluster.options)
    return [
        f"--{name}" if value is True else f"--{name}={_option(value)}"
        for name, value in given.items()
        if value is not None and value is not False
    ]


def _option(value: object) -> str:
    """A value as sbatch reads it in a script, where it takes quotes and blanks apart itself."""
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _filled(template: str, /, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.slurm_dir()),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - shell, not HTML; see the filters
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: Mapping[str, Any] = {"option": _option, "shell": shlex.quote}
    environment.filters.update(filters)
    return environment.get_template(f"{template}.sbatch").render(values)
