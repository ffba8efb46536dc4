"""What the options of these papers' models cannot mean together.

Asked before anything is launched; nothing that computes imports it (docs/modules.md).
"""

from __future__ import annotations

from typing import Any

from retable.data.image_sets import SETS
from retable.util.errors import UserError

_HERE = "retable.papers.weight_decay."
_FOLLOWED = {
    "model": ("lr", "min_lr", "warmup", "horizon", "decay_on", "net", "optimizer"),
    "trainer": (
        "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "precision",
    ),
}  # fmt: skip
"""Options of a language model that has its rates from another run, and has to share with it."""

_LANGUAGE = (f"{_HERE}language.LanguageModel", f"{_HERE}layers.LayerwiseModel")

_EVALUATED = ("eval_sequences", "eval_batch_size")
"""Options of a text that change nothing in a training."""

_COUPLED = ("Adam", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad")
"""Optimisers that adapt to a gradient to which decay is added."""


def refuse(run: dict[str, Any]) -> None:
    """Refuse a run that would train something else than its options say.

    Raises:
        UserError: with the option, and what would do.
    """
    model, target = run["model"], run["model"]["_target_"]
    _refuse_decay_of_matched(model)
    _refuse_share(model, run["start"])
    _refuse_missed(run)
    if target in _LANGUAGE:
        _refuse_rates(model)
        _refuse_adam(model)
        _refuse_parts(run)
        _refuse_longer(run)
        _refuse_following(run)
        _refuse_seen_again(run)
    elif target == f"{_HERE}vision.Classifier":
        _refuse_sgd(model)
        _refuse_sphere(model)
        _refuse_preprocess(run["data"].get("preprocess"))
        _refuse_pool(run["data"])
        _refuse_batches(run)
        _refuse_no_drop(run)
        _refuse_few_images(run)


def _refuse_decay_of_matched(model: dict[str, Any]) -> None:
    """A matched run has initial weights of its own, and the rate alone from the other."""
    for option in ("decay", "l2", "snapshot") if model.get("match") else ():
        if model.get(option):
            raise UserError(
                f"model.{option}: {model[option]:g}, and model.match takes the rates of a run that"
                " has decay and has none itself; leave it out"
            )


def _refuse_share(model: dict[str, Any], start: dict[str, Any] | None) -> None:
    share = model.get("snapshot")
    if share is None:
        return
    if start is None or start["run"] is None:
        raise UserError(
            f"model.snapshot: {share:g} of the run that this one starts from, and it starts from"
            " none; give start.run"
        )
    if abs(100 * share - round(100 * share)) > 1e-9:
        raise UserError(
            f"model.snapshot: {share:g} is no whole number of per cent; the nearest is"
            f" {round(100 * share) / 100:g}"
        )
    percent, kept = round(100 * share), start["run"]["model"].get("snapshots") or []
    if percent not in kept:
        near = min(kept, key=lambda one: abs(one - percent), default=None)
        nearest = "" if near is None else f"; the nearest is {near / 100:g}"
        have = ", ".join(f"{one} %" for one in sorted(kept)) or "none"
        raise UserError(
            f"model.snapshot: the run that this one starts from keeps nothing at {percent} % of its"
            f" epochs; kept (its model.snapshots): {have}{nearest}"
        )


def _refuse_missed(run: dict[str, Any]) -> None:
    """A snapshot that no epoch's end would be."""
    n_epochs = run["trainer"]["max_epochs"]
    if "fit" not in run["stages"] or n_epochs is None:
        return
    for percent in run["model"].get("snapshots") or []:
        if percent * n_epochs % 100:
            near = max(1, round(percent * n_epochs / 100))
            raise UserError(
                f"model.snapshots: {percent} % of {n_epochs} epochs is no whole number;"
                f" the nearest is {100 * near / n_epochs:g} % (epoch {near})"
            )


def _refuse_longer(run: dict[str, Any]) -> None:
    """Sequences longer than the network takes, and more epochs than the run followed has."""
    limit, context = run["model"]["net"].get("context"), run["data"].get("context")
    if limit is not None and context is not None and context > limit:
        raise UserError(
            f"data.context: {context}, and model.net.context is {limit}; {limit} at most"
        )
    if not run["model"]["match"] or run["start"] is None or run["start"]["run"] is None:
        return
    own, theirs = (one["trainer"]["max_epochs"] for one in (run, run["start"]["run"]))
    if own is not None and theirs is not None and own > theirs:
        raise UserError(
            f"trainer.max_epochs: {own}, and the run whose rates are matched (start.run) has"
            f" {theirs}; {theirs} at most"
        )


def _refuse_rates(model: dict[str, Any]) -> None:
    lr, min_lr = model["lr"], model["min_lr"]
    if min_lr is not None and min_lr > lr:
        raise UserError(f"model.min_lr: {min_lr:g} is above model.lr, {lr:g}")
    optimizer = model["optimizer"] or {}
    for option, own in (("lr", "model.lr"), ("weight_decay", "model.decay")):
        if option in optimizer:
            raise UserError(f"model.optimizer.{option}: is set by {own}; give that")


def _refuse_adam(model: dict[str, Any]) -> None:
    optimizer = model["optimizer"] or {}
    module, _, name = str(optimizer.get("_target_")).rpartition(".")
    coupled = module == "torch.optim" and name in _COUPLED
    if coupled and model["decay"] and not optimizer.get("decoupled_weight_decay"):
        raise UserError(
            f"model.decay: {model['decay']:g}, which torch.optim.{name} adds to the gradient; give"
            " torch.optim.AdamW as model.optimizer, or a penalty as model.l2"
        )


def _refuse_parts(run: dict[str, Any]) -> None:
    """A step of fewer batches than the others has a gradient that is that much too small."""
    every, iterations = run["trainer"]["accumulate_grad_batches"], run["data"].get("iterations")
    if "fit" in run["stages"] and iterations is not None and iterations % every:
        near = max(1, round(iterations / every)) * every
        raise UserError(
            f"trainer.accumulate_grad_batches: {every} does not divide data.iterations,"
            f" {iterations}, so that an epoch's last step would have fewer batches; the nearest"
            f" number of batches that it divides is {near}"
        )


def _refuse_following(run: dict[str, Any]) -> None:
    model, start = run["model"], run["start"]
    if not model["match"]:
        if not model["match_rest"]:
            raise UserError("model.match_rest: false says how rates are matched; give model.match")
        return
    if start is None or start["run"] is None:
        raise UserError("model.match: there is no run whose rates to match; give start.run")
    parent = start["run"]
    if parent.get("start") is not None:
        raise UserError(
            "start.run: starts from another run itself, so that its norms belong to weights that"
            " the matched run does not begin with; give one that starts from none"
        )
    if model["_target_"] == _LANGUAGE[1] != parent["model"]["_target_"]:
        raise UserError(
            f"start.run: is a run of {parent['model']['_target_']}, which does not leave the norm"
            f" of each weight; give one of {_LANGUAGE[1]}"
        )
    data = [name for name in sorted(run["data"]) if name not in _EVALUATED]
    for part, names in {**_FOLLOWED, "data": data}.items():
        for name in names:
            theirs, own = parent[part].get(name), run[part].get(name)
            if theirs != own:
                key, own, theirs = _first_difference(f"{part}.{name}", own, theirs)
                raise UserError(
                    f"{key}: is {own}, and {theirs} in the run whose rates are matched (start.run);"
                    f" it has to be the same there, as with start.run.same=[{key}]"
                )


def _first_difference(key: str, own: Any, theirs: Any) -> tuple[str, Any, Any]:
    """The key of the first value that differs, as far inside as there are keys, and both values."""
    while isinstance(own, dict) and isinstance(theirs, dict):
        ours: dict[str, Any] = own
        others: dict[str, Any] = theirs
        name = next(n for n in {**ours, **others} if ours.get(n) != others.get(n))
        key, own, theirs = f"{key}.{name}", ours.get(name), others.get(name)
    return key, own, theirs


def _refuse_seen_again(run: dict[str, Any]) -> None:
    """What goes on from the weights of a run would begin with that run's batches."""
    start = run["start"]
    if "fit" not in run["stages"] or run["model"]["match"]:
        return
    mine = _drawn(run["data"])
    while start is not None and start["run"] is not None:
        if _drawn(start["run"]["data"]) == mine and "stream" in mine:
            stream = mine["stream"]
            raise UserError(
                f"data.stream: {stream}, as that of the run that this one starts from, whose"
                f" batches it would see again; give another number, such as {stream + 1}, and"
                " differs: [data.stream] in start.run"
            )
        start = start["run"].get("start")


def _drawn(data: dict[str, Any]) -> dict[str, Any]:
    """What decides on the sequences that are drawn."""
    return {k: v for k, v in data.items() if k not in (*_EVALUATED, "batch_size", "iterations")}


def _refuse_sgd(model: dict[str, Any]) -> None:
    optimizer, scheduler = model["optimizer"] or {}, model["scheduler"] or {}
    rates: dict[str, float] = optimizer.get("rates") or {}
    for name, rate in rates.items():
        if not rate > 0:
            raise UserError(f"model.optimizer.rates.{name}: has to be above 0, not {rate:g}")
    if scheduler.get("_target_") != f"{_HERE}sgd.OneDrop":
        return
    for name in ("at", "rate"):
        if name not in scheduler:
            raise UserError(f"model.scheduler.{name}: is missing; OneDrop needs it")
    if model["scheduler_interval"] != "epoch":
        raise UserError(
            f"model.scheduler_interval: {model['scheduler_interval']}, but OneDrop counts epochs;"
            " leave it at 'epoch'"
        )
    before, after = rates.get(optimizer.get("rate", "")), scheduler["rate"]
    if not after > 0:
        raise UserError(f"model.scheduler.rate: has to be above 0, not {after:g}")
    if before is not None and after > before:
        raise UserError(f"model.scheduler.rate: {after:g} is above the rate before, {before:g}")


def _refuse_sphere(model: dict[str, Any]) -> None:
    if model["radius"] is None:
        if model["projected"] != "step":
            raise UserError(
                f"model.projected: {model['projected']}, but nothing is projected; give"
                " model.radius"
            )
        return
    optimizer, net = model["optimizer"] or {}, model["net"]
    for name in ("decay", "product"):
        if optimizer.get(name):
            raise UserError(
                f"model.optimizer.{name}: {optimizer[name]:g}, but model.radius fixes the norm;"
                " leave one of the two out"
            )
    if net["_target_"].startswith("retable.nets.") and not net.get("scale_invariant"):
        raise UserError(
            "model.radius: is for a network whose function does not depend on the norm of its"
            " weights; give retable.nets.preact_resnet.PreActResNet with scale_invariant=true"
        )


def _refuse_batches(run: dict[str, Any]) -> None:
    every, n_train = run["trainer"]["accumulate_grad_batches"], run["data"].get("n_train")
    if every != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches: {every}, but the average of the weights is taken"
            " after every batch, which has to be a step; leave it at 1"
        )
    size, whole = run["data"].get("batch_size"), run["data"].get("drop_last", True)
    if whole and n_train is not None and size is not None and size > n_train:
        raise UserError(
            f"data.batch_size: {size}, more than data.n_train, {n_train}, so that there is no full"
            f" batch; {n_train} at most, or data.drop_last=false"
        )


def _refuse_preprocess(node: Any) -> None:
    if not isinstance(node, dict) or node["_target_"] != f"{_HERE}images.Normalise":
        return  # one of another kind, or by name
    mean, std = node["mean"], node["std"]
    if len(mean) != len(std):
        raise UserError(
            f"data.preprocess.std: {len(std)} values, and mean has {len(mean)}; one of each per"
            " channel"
        )
    if min(std) <= 0:
        raise UserError(f"data.preprocess.std: has to be above 0, not {min(std):g}")


def _refuse_pool(data: dict[str, Any]) -> None:
    """Squares that leave a border of the images out."""
    node = data.get("preprocess")
    known = SETS.get(str(data.get("dataset")))
    shape = data.get("shape") or (known and known.shape)
    if not isinstance(node, dict) or node["_target_"] != f"{_HERE}images.Normalise" or not shape:
        return
    pool, sides = node.get("pool", 1), shape[:2]
    if any(side % pool for side in sides):
        fit = [n for n in range(1, min(sides) + 1) if not any(side % n for side in sides)]
        near = min(fit, key=lambda n: abs(n - pool))
        raise UserError(
            f"data.preprocess.pool: {pool} does not divide images of {sides[0]} x {sides[1]}; the"
            f" nearest that does is {near}"
        )


def _refuse_no_drop(run: dict[str, Any]) -> None:
    """A drop of the rate that would come after the end."""
    scheduler, n_epochs = run["model"]["scheduler"] or {}, run["trainer"]["max_epochs"]
    drops = scheduler.get("_target_") == f"{_HERE}sgd.OneDrop"
    if drops and "fit" in run["stages"] and n_epochs is not None and scheduler["at"] >= n_epochs:
        near = f"{n_epochs - 1} at most" if n_epochs > 1 else "set model.scheduler to null"
        raise UserError(
            f"model.scheduler.at: {scheduler['at']}, but trainer.max_epochs is {n_epochs}; {near}"
        )


def _refuse_few_images(run: dict[str, Any]) -> None:
    """Fewer images than are asked for: not even one class may have so many."""
    wanted, n_train = run["model"].get("hessian_images", 0), run["data"].get("n_train")
    if n_train is not None and wanted > n_train:
        raise UserError(
            f"model.hessian_images: {wanted} of each class, but there are {n_train} images in all"
            " (data.n_train)"
        )
