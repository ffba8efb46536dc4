"""Take the trained network out of a run's folder."""

from __future__ import annotations

import os
from pathlib import Path

from retable.runs.lookup import Recorded, refreeze
from retable.runs.records import Status
from retable.runs.starts import last_checkpoint, tested_weights
from retable.util.atomic import beside
from retable.util.errors import UserError


def export(recorded: Recorded, file: Path) -> str:
    """Write the network that a finished run has tested, as its paper exports it.

    Args:
        recorded: a run that is done and whose folder is here, with its checkpoints.
        file: to be written; it may not exist yet.

    Returns:
        What was written, in words.

    Raises:
        UserError: where there is nothing to export, or the weights are not the recorded ones.
    """
    record = recorded.record
    if record.status is not Status.DONE:
        raise UserError(f"{recorded.where}: is {record.status.value}; only a done run is exported")
    if recorded.folder is None:
        raise UserError(f"run {record.key[:12]}: is published only, its weights are not here")
    if file.exists():
        raise UserError(f"{file}: exists already")
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: no such folder")
    import torch

    from retable.papers.base import PaperModule
    from retable.training.execute import build
    from retable.training.tested import weights_sha256

    config = refreeze(record, recorded.folder.parents[1]).config.model_dump(mode="json")
    data, module = build(config)
    if type(module).export is PaperModule.export:
        raise UserError(
            f"{record.paper}: its networks have no form for export; a module has one where it"
            " defines export(file, data)"
        )
    found = last_checkpoint(recorded.folder, record, lambda _: None)
    if found is None:
        raise UserError(f"{recorded.folder}: has no checkpoint of the trained network any more")
    module.load_state_dict(tested_weights(found, config["tested"]))
    if weights_sha256(module) != record.weights_sha256:
        raise UserError(f"{recorded.folder}: its checkpoint's weights are not the recorded ones")
    module.eval()
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    with torch.no_grad():
        first = min(config["tested"].items(), default=("", {}))[1]
        module.finish_weights(first.get("weights"), data)
    module.eval()
    try:
        with beside(file) as temporary:
            said = module.export(temporary, data)
            # Some libraries write files that only their owner can read.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(file)
    except ValueError as error:
        raise UserError(f"{recorded.where}: {error}") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror or error})") from None
    # What goes in has to be what the network was trained on.
    options = ", ".join(f"{k}={v}" for k, v in record.config["data"].items() if k != "_target_")
    return f"{said}; made for inputs of {record.config['data']['_target_']}({options})"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
