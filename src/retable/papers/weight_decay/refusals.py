"""What the options of these papers' models cannot mean together.

Asked before anything is launched; nothing that computes imports it (docs/modules.md).
"""

from __future__ import annotations

from typing import Any

from retable.util.errors import UserError

_HERE = "retable.papers.weight_decay."
_FOLLOWED = ("lr", "min_lr", "warmup", "horizon", "decay_on", "net")
"""Options of a language model that has its rates from another run, and has to share with it."""


def refuse(run: dict[str, Any]) -> None:
    """Refuse a run that would train something else than its options say.

    Raises:
        UserError: with the option, and what would do.
    """
    model, target = run["model"], run["model"]["_target_"]
    _refuse_share(model, run["start"])
    if target == f"{_HERE}language.LanguageModel":
        _refuse_rates(model)
        if model["match"]:
            _refuse_following(model, run["start"])
    elif target == f"{_HERE}vision.Classifier":
        _refuse_sgd(model)
        _refuse_preprocess(run["data"].get("preprocess"))
        every = run["trainer"]["accumulate_grad_batches"]
        if every != 1:
            raise UserError(
                f"trainer.accumulate_grad_batches: {every}, but the average of the weights is taken"
                " after every batch, which has to be a step; leave it at 1"
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


def _refuse_rates(model: dict[str, Any]) -> None:
    lr, min_lr = model["lr"], model["min_lr"]
    if min_lr is not None and min_lr > lr:
        raise UserError(f"model.min_lr: {min_lr:g} is above model.lr, {lr:g}")
    optimizer = model["optimizer"] or {}
    for option, own in (("lr", "model.lr"), ("weight_decay", "model.decay")):
        if option in optimizer:
            raise UserError(f"model.optimizer.{option}: is set by {own}; give that")


def _refuse_following(model: dict[str, Any], start: dict[str, Any] | None) -> None:
    if start is None or start["run"] is None:
        raise UserError("model.match: there is no run whose rates to match; give start.run")
    parent = start["run"]["model"]
    for name in _FOLLOWED:
        if parent.get(name) != model[name]:
            raise UserError(
                f"model.{name}: differs from that of the run whose rates are matched (start.run);"
                " it has to be the same there"
            )


def _refuse_sgd(model: dict[str, Any]) -> None:
    optimizer, scheduler = model["optimizer"] or {}, model["scheduler"] or {}
    rates: dict[str, float] = optimizer.get("rates") or {}
    for name, rate in rates.items():
        if not rate > 0:
            raise UserError(f"model.optimizer.rates.{name}: has to be above 0, not {rate:g}")
    if scheduler.get("_target_") != f"{_HERE}sgd.OneDrop":
        return
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
