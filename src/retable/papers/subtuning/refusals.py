"""What the options of this paper's models cannot mean together, beyond what their classes refuse.

Asked before anything is launched; nothing that computes imports it (docs/modules.md).
"""

from __future__ import annotations

from typing import Any

from retable.util.errors import UserError

_HERE = "retable.papers.subtuning."
BLOCKS = {
    "resnet8": 3,
    "resnet20": 9,
    "resnet26": 12,
    "resnet56": 27,
    "resnet18": 8,
    "resnet50": 16,
}
"""Blocks of the networks that two tasks can share."""
CLASSES = {"cifar10": 10, "cifar100": 100, "flowers102": 102, "caltech101": 102, "dmlab": 6}


def refuse(run: dict[str, Any]) -> None:
    """Refuse a run that would train or measure something else than its options say.

    Raises:
        UserError: with the option, and what would do.
    """
    model, data = run["model"], run["data"]
    kind = str(model["_target_"]).removeprefix(_HERE)
    if kind == "module_latency.Latency":
        _refuse_windows(model)
        return
    _refuse_classes(model, data)
    _refuse_sides(model, data)
    if kind in ("module_search.Search", "module_active.ActiveLearning"):
        _refuse_own_batches(model, data)
    elif kind == "module_head2toe.Head2Toe":
        _refuse_augmentation(data)
    else:
        _refuse_no_batch(data)
    if kind == "module_search.Search" and model["eps"] >= 1:
        raise UserError(
            f"model.eps: {model['eps']:g}, but accuracies are shares: one point is 0.01"
        )
    if kind in ("module.FineTune", "module_active.ActiveLearning"):
        _refuse_blocks(model, run["start"])


def _refuse_windows(model: dict[str, Any]) -> None:
    windows, network = model["windows"], model["network"]
    if network not in BLOCKS:
        raise UserError(f"model.network: {network}; two tasks share a ResNet: {', '.join(BLOCKS)}")
    most = BLOCKS[network]
    if not windows or len({*windows}) < len(windows) or not all(1 <= n <= most for n in windows):
        raise UserError(
            f"model.windows: {windows}; numbers of neighbouring blocks, each once, from 1 to the"
            f" {most} of {network}"
        )


def _refuse_classes(model: dict[str, Any], data: dict[str, Any]) -> None:
    target = str(data["_target_"])
    names = {
        f"{_HERE}data.CorruptedImages": "cifar10",
        f"{_HERE}data.Generated": "cifar10",
        f"{_HERE}data.CoarseImages": None,
    }
    name = names.get(target, data.get("dataset"))
    n = 20 if target == f"{_HERE}data.CoarseImages" else CLASSES.get(str(name))
    if n is not None and model.get("n_classes", n) != n:
        raise UserError(f"model.n_classes: {model['n_classes']}, but the data has {n}")


def _refuse_sides(model: dict[str, Any], data: dict[str, Any]) -> None:
    augment, target = data.get("augment"), str(data["_target_"])
    if not isinstance(augment, dict) or model.get("size") is not None:
        return
    if augment["_target_"] != f"{_HERE}augment.ResizedCropFlip":
        return
    cifar = target.startswith(f"{_HERE}data.") or data.get("dataset") in ("cifar10", "cifar100")
    side = data["size"] if target == f"{_HERE}vtab.Vtab" else 32 if cifar else None
    if side is not None and augment["size"] != side:
        raise UserError(
            f"data.augment.size: {augment['size']}, but images are tested at {side}; set it to"
            f" {side}, or resize all of them by model.size"
        )


def _refuse_own_batches(model: dict[str, Any], data: dict[str, Any]) -> None:
    if data["batch_size"] != model["batch_size"]:
        raise UserError(
            f"data.batch_size: {data['batch_size']}, but these trainings have batches of"
            f" model.batch_size, {model['batch_size']}; set both to the same"
        )
    if data.get("drop_last"):
        raise UserError(
            "data.drop_last: these trainings keep a last batch that is not full; leave it out"
        )


def _refuse_augmentation(data: dict[str, Any]) -> None:
    if data.get("augment", "none") != "none":
        raise UserError("data.augment: Head2Toe sees every image once, as it is; leave it out")


def _refuse_no_batch(data: dict[str, Any]) -> None:
    n = data.get("n_train")
    if data.get("drop_last") and n is not None and n < data["batch_size"]:
        raise UserError(
            f"data.drop_last: {n} images are no full batch of {data['batch_size']}, so that nothing"
            " would be trained"
        )


def _refuse_blocks(model: dict[str, Any], start: dict[str, Any] | None) -> None:
    blocks = model["blocks"]
    if isinstance(blocks, list) and len({*blocks}) < len(blocks):
        raise UserError(f"model.blocks: {blocks} has a block twice")
    if blocks == "found" and (start is None or start["run"] is None):
        raise UserError("model.blocks: 'found' is the set of a search; give start.run")
    if model.get("budgets") == []:
        raise UserError("model.budgets: is empty; numbers of labels that are bought in each turn")
    for name in ("rank", "reinitialised"):
        if blocks == "none" and model.get(name):
            raise UserError(f"model.{name}: is for blocks that are tuned, and none is")
    if model.get("reinitialised") and model["batch_norm"] == "eval":
        raise UserError(
            "model.batch_norm: 'eval' keeps the statistics 0 and 1 of a block that is drawn anew"
            " (model.reinitialised); 'train' estimates them"
        )
