"""The arrays that a run declares: one file each in its attempt, with a checksum in the record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.util.atomic import write_atomic
from retable.util.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from retable.runs.records import Record

FOLDER = "artifacts"
# Types of numbers as safetensors call them, and torch (and NumPy, but for the second set).
_TYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{"BOOL": "bool", "C64": "complex64", "BF16": "bfloat16"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz"},
    **{"F8_E5M2": "float8_e5m2", "F8_E5M2FNUZ": "float8_e5m2fnuz"},
}
_NOT_OF_NUMPY = {name for name in _TYPES.values() if name.startswith(("bfloat", "float8"))}

ArtifactFile = Callable[["Record", str], Path]
"""Gives the file of an artefact by its run's record and its name; it need not be there."""


def file_of(attempt: Path, name: str) -> Path:
    """File of an artefact in its attempt's folder."""
    return attempt / FOLDER / f"{name}.safetensors"


def write_artifacts(attempt: Path, artifacts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    """Write ``artifacts/<name>.safetensors`` of an attempt.

    Args:
        attempt: the attempt's folder.
        artifacts: arrays by name of the file and name in it.

    Returns:
        SHA-256 by name of the file, over names, types, shapes and bytes of its arrays.
    """
    if not artifacts:
        return {}
    from safetensors.torch import save

    from retable.training.tested import tensors_sha256

    (attempt / FOLDER).mkdir(exist_ok=True)
    for name, arrays in artifacts.items():
        write_atomic(file_of(attempt, name), save(dict(arrays)))
    return {name: tensors_sha256(arrays) for name, arrays in sorted(artifacts.items())}


def read_artifacts(attempt: Path, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Read what :func:`write_artifacts` has written; whether it is that, is for the caller.

    Args:
        attempt: the attempt's folder.
        names: of the files.

    Raises:
        UserError: where a file cannot be read.
    """
    return {name: read_file(file_of(attempt, name)) for name in names}


def read_file(file: Path) -> dict[str, Tensor]:
    """Arrays of one artefact by name; whether they are those that were recorded, is not asked.

    Raises:
        UserError: where the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None


def read_recorded(file: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Arrays of one artefact by name, which are those that were recorded.

    For pages, which have many to read and no other use for torch: it is loaded only for the
    types that NumPy does not have, which come as float64.

    Args:
        file: of the artefact.
        sha256: what the record says of it.

    Raises:
        UserError: where the file cannot be read, or holds other arrays.
    """
    import numpy as np
    from safetensors import SafetensorError, deserialize

    try:
        content = file.read_bytes()
        parts = dict(deserialize(content))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    digest = hashlib.sha256()
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in sorted(parts.items()):
        # As `training.tested.tensors_sha256` of the tensors, whose names of types are torch's.
        dtype, shape = _TYPES.get(part["dtype"], part["dtype"]), tuple(part["shape"])
        digest.update(f"{name} torch.{dtype} {shape}\n".encode())
        digest.update(part["data"])
        if dtype not in _NOT_OF_NUMPY:
            arrays[name] = np.frombuffer(part["data"], dtype).reshape(shape)
    if digest.hexdigest() != sha256:
        raise UserError(f"{file}: holds other arrays than the record of its run says")
    if len(arrays) < len(parts):
        arrays |= {n: t.double().numpy() for n, t in read_file(file).items() if n not in arrays}
    return arrays


def is_recorded(file: Path, sha256: str) -> bool:
    """Whether a file is there, and holds the arrays that were recorded."""
    try:
        return bool(read_recorded(file, sha256))
    except UserError:
        return False
