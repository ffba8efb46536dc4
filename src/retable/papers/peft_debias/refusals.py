"""What the options of this paper's models cannot mean together, beyond what their classes refuse.

Asked before anything is launched; nothing that computes imports it (docs/modules.md).
"""

from __future__ import annotations

from typing import Any

from retable.util.errors import UserError

_HERE = "retable.papers.peft_debias."
PATCHES = ("adapter", "prefix_flat", "prompt_input", "lora")
_OF_PATCH = ("patch_size", "alpha", "adapter_reads")
_STILL = ("torch.optim.Adam", "torch.optim.AdamW", "torch.optim.SGD")
"""Optimisers that leave a weight alone whose gradient is 0, without decay."""
POSITIONS = {"tiny": 64, "small": 256, "minilm": 512, "bert": 512}


def refuse(run: dict[str, Any]) -> None:
    """Refuse a run that would train something else than its options say.

    Raises:
        UserError: with the option, and what would do.
    """
    model, data, start = run["model"], run["data"], run["start"]
    parent = start["run"]["model"] if start is not None and start["run"] is not None else None
    patch = model.get("patch", model.get("trained"))
    _refuse_unread(model, patch)
    if "patch" in model:
        _refuse_class_weights(model["class_weights"])
        if parent is not None:
            _refuse_other_patch(model, patch, parent)
    elif "trained" in model and parent is not None and parent.get("trained", "all") != "all":
        raise UserError(
            f"start.run: has trained {parent['trained']} already; a patch begins at one that is"
            " not debiased"
        )
    optimizer = (model.get("optimizer") or {}).get("_target_")
    if patch == "sft" and optimizer is not None and optimizer not in _STILL:
        raise UserError(
            f"model.optimizer._target_: {optimizer} may move weights that the sparse patch holds;"
            f" one of {', '.join(_STILL)} does not"
        )
    rewind, epochs = model.get("sft_rewind"), run["trainer"]["max_epochs"]
    if rewind is not None and epochs is not None and rewind >= epochs:
        raise UserError(
            f"model.sft_rewind: {rewind}, after which the patch is trained, and there are {epochs}"
            " epochs (trainer.max_epochs)"
        )
    scheduler = model.get("scheduler") or {}
    if scheduler.get("_target_") == f"{_HERE}pretrained.LinearDecay" and scheduler["total"] < 1:
        raise UserError(f"model.scheduler.total: {scheduler['total']}; steps, 1 or more")
    most = POSITIONS[model["network"]]
    if data.get("max_length", 0) > most:
        raise UserError(
            f"data.max_length: {data['max_length']}; network {model['network']} has {most}"
            " positions"
        )


def _refuse_unread(model: dict[str, Any], patch: str | None) -> None:
    readers = {
        "patch_size": (PATCHES, None),
        "alpha": (("lora",), None),
        "adapter_reads": (("adapter",), "normed"),
        "sft_share": (("sft",), 0.01),
    }
    for option, (kinds, default) in readers.items():
        if model.get(option, default) != default and patch not in kinds:
            name = "patch" if "patch" in model else "trained"
            raise UserError(
                f"model.{option}: {model[option]} has no effect with model.{name}={patch}; leave it"
                " out"
            )


def _refuse_class_weights(weights: list[float] | None) -> None:
    if weights is not None and (min(weights) < 0 or max(weights) == 0):
        raise UserError(f"model.class_weights: {weights}; 0 or more each, some of them above 0")


def _refuse_other_patch(model: dict[str, Any], patch: str | None, parent: dict[str, Any]) -> None:
    """What a patch computes follows from options too that no weight has."""
    if "patch" not in parent and "trained" not in parent:
        return
    theirs = parent.get("patch", parent.get("trained"))
    theirs = "none" if theirs == "all" else theirs
    name = "patch" if "patch" in parent else "trained"
    if patch != theirs:
        raise UserError(
            f"model.patch: {patch}, but the run that this one starts from has {theirs}"
            f" (its model.{name}; start.run.overrides=['model.{name}=...'] sets it)"
        )
    for option in _OF_PATCH if patch in PATCHES else ():
        if model[option] != parent[option]:
            raise UserError(
                f"model.{option}: {model[option]}, but the patch was trained with {parent[option]}"
                " (start.run); it would be another one"
            )
