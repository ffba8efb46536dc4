"""Files of weights that runs start from: where they lie, having them, and reading them as data."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.config.schema import PathsConfig, StartConfig
from retable.data import fetch
from retable.data.fetch import DataUnavailable
from retable.util.errors import UserError, brief, nearest

if TYPE_CHECKING:
    from torch import Tensor


def have(
    start: StartConfig, paths: PathsConfig, say: Callable[[str], None] = lambda _: None
) -> Path:
    """The file that a run starts from: in the mirror or the cache, else fetched into the cache.

    Args:
        start: names the file and its checksum.
        paths: of the run.
        say: told of what is fetched.

    Raises:
        DataUnavailable: where it is in neither and cannot be fetched.
        UserError: where it has another checksum.
    """
    assert start.file is not None
    assert start.sha256 is not None
    name, url = located(start.file)
    cache, mirror = Path(paths.cache), Path(paths.mirror) if paths.mirror else None
    if url is not None:
        if not any(folder and (folder / name).is_file() for folder in (mirror, cache)):
            say(f"fetching {url}")
        return fetch.fetch(name, url, start.sha256, cache=cache, mirror=mirror)
    found = fetch.find(name, start.sha256, cache=cache, mirror=mirror)
    if found is None:
        looked = f"{mirror} nor in {cache}" if mirror else f"{cache}, and there is no mirror"
        raise DataUnavailable(
            f"start.file: {name} is neither in {looked}; set RETABLE_MIRROR to a folder that holds"
            f" {name}"
        )
    return found


def located(file: str) -> tuple[str, str | None]:
    """Name of a file below mirror and cache, and where it is fetched from, if that is known.

    Raises:
        UserError: where torchvision has no such weights.
    """
    scheme, colon, name = file.partition(":")
    if not colon:
        return file, None
    if scheme == "hub":
        from huggingface_hub import hf_hub_url

        name, _, revision = name.partition("@")
        owner, repository, *inside = name.split("/")
        return name, hf_hub_url(
            f"{owner}/{repository}", "/".join(inside), revision=revision or None
        )
    from torchvision.models import get_model_weights, get_weight, list_models

    try:
        url: str = get_weight(name).url
    except (KeyError, ValueError):
        known = {str(w) for model in list_models() for w in get_model_weights(model)}
        raise UserError(
            f"start.file: torchvision has no weights '{name}'{nearest(name, known)}"
        ) from None
    return f"torchvision/{url.rpartition('/')[2]}", url


def read(file: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, on the CPU; those of nested mappings are joined by dots.

    Nothing but tensors and plain values is loaded, so that no code of the file runs; what is not
    a tensor (an epoch, an optimiser's learning rate) is left out.

    Raises:
        UserError: where it holds something else, or no tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        packed = file.suffix == ".safetensors"
        content = load_file(file) if packed else torch.load(file, "cpu", weights_only=True)
    except (OSError, SafetensorError, EOFError) as error:
        raise UserError(f"{file}: cannot be read ({brief(str(error))})") from None
    except Exception as error:  # of the many kinds that reading a pickle or an archive raises
        reason = brief((str(error).strip() or repr(error)).splitlines()[0])
        raise UserError(
            f"{file}: does not hold tensors alone ({reason}); convert it to safetensors"
        ) from None
    found = dict(_tensors(content, ""))
    if not found:
        raise UserError(f"{file}: holds no tensors by name")
    return found


def _tensors(content: Any, above: str) -> Generator[tuple[str, Tensor]]:
    from torch import Tensor

    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, Tensor):
            yield f"{above}{name}", value.detach()
        else:
            yield from _tensors(value, f"{above}{name}.")
