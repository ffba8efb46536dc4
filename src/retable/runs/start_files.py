"""What a run leaves for others to start from, as one file: for where its checkpoints are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from retable.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from retable.training.start import Start

FILE = "start.safetensors"
"""In the attempt whose record is the run's, where it was restored from what is published."""


def packed(start: Start) -> bytes:
    """Weights, artefacts and history of a run as one file's bytes."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {f"weights/{n}": tensor for n, tensor in start.weights.items()}
    for artifact, arrays in start.artifacts.items():
        tensors |= {f"artifacts/{artifact}/{name}": array for name, array in arrays.items()}
    # Weights that share their memory are written twice.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(copies, metadata={"history": json.dumps(start.history)})


def read(file: Path) -> Start:
    """Read what :func:`packed` gave.

    Raises:
        UserError: where the file is broken; whether it is what was recorded, is for the caller.
    """
    from safetensors import SafetensorError, safe_open

    from retable.training.start import Start

    start = Start({})
    try:
        with safe_open(file, "pt") as content:
            for place in content.keys():  # noqa: SIM118 - not a mapping
                kind, _, name = place.partition("/")
                if kind == "weights":
                    start.weights[name] = content.get_tensor(place)
                else:
                    artifact, _, name = name.partition("/")
                    start.artifacts.setdefault(artifact, {})[name] = content.get_tensor(place)
            start.history.extend(json.loads((content.metadata() or {}).get("history", "[]")))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    return start
