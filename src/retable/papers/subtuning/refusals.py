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
GREEDY = {"rule": "patience", "direction": "forward", "eps": 0.01}
"""Defaults of options that only a greedy search reads; configs of other searches may name them."""
SEVERITY = 5
"""Default of ``data.severity``, which images without a corruption may name too."""

_SEARCH, _ACTIVE = "module_search.Search", "module_active.ActiveLearning"


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
    _refuse_severity(data)
    if kind in (_SEARCH, _ACTIVE):
        _refuse_own_batches(model, data)
        _refuse_own_rates(model, run["trainer"])
    elif kind == "module_head2toe.Head2Toe":
        _refuse_augmentation(data)
        _refuse_fits(run["trainer"])
    else:
        _refuse_no_batch(data)
    if kind == _SEARCH:
        _refuse_greedy(model)
    if kind in ("module.FineTune", _ACTIVE):
        _refuse_blocks(model, run["start"])
    if kind == "module.FineTune":
        _refuse_variants(model)
    if kind == "module_first.FirstPicks" and (run["start"] is None or run["start"]["run"] is None):
        raise UserError("start.run: the first picks are those of a search; give its experiment")
    # Auto-RGN has 'eval' by default, so that on a ViT nobody has asked for it.
    if kind in ("module.FineTune", "module_first.FirstPicks", _SEARCH):
        _refuse_batch_norm(model)


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


def _refuse_severity(data: dict[str, Any]) -> None:
    if data.get("corruption") != "none":
        return
    if data["_target_"] == f"{_HERE}benchmark.BenchmarkImages":
        raise UserError(
            "data.corruption: 'none' has no file in the benchmark; name a corruption, or take"
            " experiment=subtuning/reduced for images as they are"
        )
    severity = data.get("severity", SEVERITY)
    if severity != SEVERITY:
        raise UserError(
            f"data.severity: {severity}, but data.corruption is 'none'; name a corruption,"
            " or leave it out"
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


def _refuse_own_rates(model: dict[str, Any], trainer: dict[str, Any]) -> None:
    """The run's epochs are whole trainings here, and a rate that falls over them is a mistake.

    Any other length that is not a training's may be meant.
    """
    length, epochs = (model["scheduler"] or {}).get("T_max"), model["epochs"]
    if length is not None and length == trainer["max_epochs"] != epochs:
        raise UserError(
            f"model.scheduler.T_max: {length} is trainer.max_epochs, but these trainings have"
            f" model.epochs, {epochs}; set it to ${{model.epochs}}"
        )


def _refuse_greedy(model: dict[str, Any]) -> None:
    if model["eps"] >= 1:
        raise UserError(
            f"model.eps: {model['eps']:g}, but accuracies are shares: one point is 0.01"
        )
    for name, default in GREEDY.items():
        if model["sets"] != "greedy" and model[name] != default:
            raise UserError(
                f"model.{name}: {model[name]}, but only a greedy search reads it, and model.sets is"
                f" {model['sets']}; leave it out, or set it to {default}"
            )


def _refuse_augmentation(data: dict[str, Any]) -> None:
    if data.get("augment", "none") != "none":
        raise UserError("data.augment: Head2Toe sees every image once, as it is; leave it out")


def _refuse_fits(trainer: dict[str, Any]) -> None:
    n = trainer["max_epochs"]
    if n is not None and n > 1:
        raise UserError(
            f"trainer.max_epochs: {n}, but Head2Toe fits its heads in one epoch, and any further"
            " one would fit the same again; set it to 1"
        )


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
        if _none(blocks) and model.get(name):
            raise UserError(f"model.{name}: is for blocks that are tuned, and none is")
    if model.get("reinitialised") and model["batch_norm"] == "eval":
        raise UserError(
            "model.batch_norm: 'eval' keeps the statistics 0 and 1 of a block that is drawn anew"
            " (model.reinitialised); 'train' estimates them"
        )


def _none(blocks: Any) -> bool:
    return blocks in ("none", [])


def _refuse_variants(model: dict[str, Any]) -> None:
    blocks, network, rank = model["blocks"], model["network"], model["rank"]
    # Its one stage is all of its blocks, which nobody means who names a stage.
    if network.startswith("vit") and isinstance(blocks, str) and blocks.startswith("stage"):
        raise UserError(
            f"model.blocks: {blocks}, but {network} has no stages; give numbers of blocks, or 'all'"
        )
    if rank is not None and model["reinitialised"]:
        raise UserError(
            f"model.rank: {rank}, but LoRA keeps attention as it is, which model.reinitialised has"
            " drawn at random; leave one of the two out"
        )
    if model["siamese"] and _none(blocks) and not model["stem"]:
        raise UserError(
            "model.siamese: is for a tuned network beside the frozen one, and nothing of it is"
            f" tuned (model.blocks: {blocks}); leave it out, or tune blocks"
        )


def _refuse_batch_norm(model: dict[str, Any]) -> None:
    if model["batch_norm"] != "eval":
        return
    if model["network"].startswith("vit"):
        raise UserError(
            f"model.batch_norm: 'eval', but {model['network']} has no batch norm; leave it out"
        )
