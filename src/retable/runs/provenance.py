"""Commit, local changes, packages and device of a launch, collected once for all its runs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from retable.runs import code_roots
from retable.runs.record_parts import CodeRoot
from retable.runs.records import Provenance, text_sha256
from retable.util import paths
from retable.util.atomic import write_atomic
from retable.util.errors import UserError

STORE = "_store"
_KERNELS = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables that have libraries choose other kernels, which compute other bits."""
_VECTOR = ("sse", "ssse", "avx", "amx", "fma", "f16c")


def git(*args: str) -> str | None:
    """Output of git for the checkout; None outside one (an installed copy) and where git fails."""
    root = paths.project_root()
    return code_roots.git_in(root, *args) if (root / ".git").exists() else None


@cache
def packages() -> str:
    """Installed distributions and versions, one a line, sorted; as this process first saw them."""
    found = [_name_and_version(one) for one in importlib.metadata.distributions()]
    names = {f"{name.lower()}=={version}" for name, version in found if name}
    return "".join(f"{name}\n" for name in sorted(names))


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    # Its `metadata` parses what follows too, a README of a hundred pages: ten times as slow.
    head = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
    split = [line.partition(": ") for line in reversed(head.splitlines())]
    fields = {name: value for name, _, value in split}  # the first of a name, as when parsed
    if "Name" in fields and "Version" in fields:
        return fields["Name"], fields["Version"]
    parsed = distribution.metadata
    return parsed["Name"] or "", parsed["Version"]


def cpu_model() -> str:
    """Name of the processor."""
    return _cpu_facts().get("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """What the processor can, in the words of the system, such as ``avx512_bf16``."""
    return frozenset(_cpu_facts().get("flags", "").split())


def cpu_id() -> str | None:
    """Generation of the processor and the vector instructions by which libraries choose kernels.

    Virtual machines give the same name to processors that compute other bits. None where the
    system does not say.
    """
    facts = _cpu_facts()
    parts = [facts.get(name) for name in ("vendor_id", "cpu family", "model", "stepping")]
    if None in parts:
        return None
    vector = sorted(flag for flag in cpu_flags() if flag.startswith(_VECTOR))
    return f"{'-'.join(map(str, parts))} {text_sha256(' '.join(vector))[:8]}"


def _cpu_facts() -> dict[str, str]:
    """Facts of the first processor, by the kernel's own names."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def gpu() -> tuple[str | None, str | None]:
    """Name and driver of the first NVIDIA GPU, asked without touching CUDA in this process."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if done.returncode != 0 or not done.stdout.strip():
        return None, None
    name, _, driver = done.stdout.splitlines()[0].partition(",")
    return name.strip(), driver.strip()


def keep(store: Path, text: str, suffix: str) -> str:
    """Store a text under its own hash, once; returns the hash."""
    digest = text_sha256(text)
    path = store / f"{digest}{suffix}"
    if not path.exists():
        store.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    return digest


def kept(runs: Path, dirty: str) -> str:
    """The changes that a record names by their hash.

    Raises:
        OSError: where they are not kept here.
    """
    return (runs / STORE / f"{dirty}.diff").read_text(encoding="utf-8", errors="replace")


def code(targets: Iterable[str]) -> list[code_roots.State]:
    """The code as it is now, of which nothing is written: the project's, then what is beside it.

    Args:
        targets: what the runs build.
    """
    return [checkout(), *(root.state() for root in code_roots.roots_of(targets))]


def refuse_changed(before: list[code_roots.State], targets: Iterable[str]) -> None:
    """Refuse to launch what was copied or loaded while its code or commit changed.

    Args:
        before: what :func:`code` was then.
        targets: as they were given then.

    Raises:
        UserError: records would name a commit that did not compute them.
    """
    if code(targets) != before:
        raise UserError(
            "the code or its commit changed while it was read: records would name what did not"
            " compute them; launch again"
        )


def checkout() -> code_roots.State:
    """The project's own code; of an installed copy, nothing."""
    root = paths.project_root()
    if not (root / ".git").exists():
        return code_roots.State()
    # Only what the code and configs are made of: results written by a sweep do not make it dirty.
    return code_roots.state_of(root, ("src", "conf", "pyproject.toml", "uv.lock"))


def collect(runs: Path, targets: Iterable[str] = ()) -> Provenance:
    """Provenance of everything launched from here, its long texts kept under ``runs``.

    Args:
        runs: folder of all runs.
        targets: what the runs build, by which code beside the project's is found.
    """
    store = runs / STORE
    own = checkout()
    roots: list[CodeRoot] = []
    for root in code_roots.roots_of(targets):
        state = root.state()
        roots.append(
            CodeRoot(
                name=root.name,
                commit=state.commit,
                dirty=keep(store, state.changes, ".diff") if state.changes else None,
                version=None if state.commit else root.version(),
            )
        )
    return replace(
        surroundings(runs),
        commit=own.commit,
        dirty=keep(store, own.changes, ".diff") if own.changes else None,
        roots=roots,
    )


def surroundings(runs: Path) -> Provenance:
    """What is collected of the interpreter, its packages and the machine, and nothing of code.

    Args:
        runs: folder of all runs.
    """
    accelerator, driver = gpu()
    return Provenance(
        commit=None,
        dirty=None,
        packages=keep(runs / STORE, packages(), ".txt"),
        python=platform.python_version(),
        torch=importlib.metadata.version("torch"),
        cpu=cpu_model(),
        cpu_id=cpu_id(),
        cores=os.cpu_count() or 1,
        accelerator=accelerator,
        driver=driver,
        kernels={name: os.environ[name] for name in _KERNELS if os.environ.get(name)},
    )
