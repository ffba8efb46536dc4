"""The arrays that a run declares: one file each in its attempt, with a checksum in the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from retable.util.atomic import write_atomic
from retable.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "artifacts"


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

    folder = attempt / FOLDER
    folder.mkdir(exist_ok=True)
    for name, arrays in artifacts.items():
        write_atomic(folder / f"{name}.safetensors", save(dict(arrays)))
    return {name: tensors_sha256(arrays) for name, arrays in sorted(artifacts.items())}


def read_artifacts(attempt: Path, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Read what :func:`write_artifacts` has written; whether it is that, is for the caller.

    Args:
        attempt: the attempt's folder.
        names: of the files.

    Raises:
        UserError: where a file cannot be read.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name in names:
        from safetensors import SafetensorError
        from safetensors.torch import load

        file = attempt / FOLDER / f"{name}.safetensors"
        try:
            found[name] = load(file.read_bytes())
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: cannot be read ({error})") from None
    return found
