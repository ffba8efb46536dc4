"""What the options of this paper's models cannot mean together, beyond what their classes refuse.

Asked before anything is launched; nothing that computes imports it (docs/modules.md).
"""

from __future__ import annotations

from typing import Any

from retable.util.errors import UserError, nearest

_HERE = "retable.papers.igb."
_ADULT, _DIGITS = {"income": 2, "married": 2, "hours": 1}, {"left": 10, "right": 10, "sum": 1}
_SCENES = {"segmentation": 13, "depth": 1, "normals": 3}
_MOLECULES: dict[str, int] = dict.fromkeys(
    ("mu", "alpha", "eps_HOMO", "eps_LUMO", "R2", "ZPVE", "U0", "U", "H", "G", "cv"), 1
)
_QM9PACK = "1f5206f94917b60fda99a595227f5cde4093a37d56da39e5dadf68188a0a5aa3"
OUTPUTS: dict[str, dict[str, int]] = {
    "data_adult.AdultTasks": _ADULT,
    "data_adult.GeneratedTasks": _ADULT,
    "data_digits.MultiDigits": _DIGITS,
    "data_digits.MultiMnist": _DIGITS,
    "data_nyuv2.Nyuv2": _SCENES,
    "data_nyuv2.GeneratedScenes": _SCENES,
    "data_qm9.Qm9": _MOLECULES,
    "data_qm9.GeneratedMolecules": _MOLECULES,
    "module_toy.Steps": {"first": 1, "second": 1},
}
"""Tasks of a data set in their order, with the outputs that their kinds take."""
ONE_ORDER = {"model.tasks", "model.base"}
"""Of the tasks any order but the data's is refused below; base values are looked up by name."""
READ_BY = {
    "base_epoch": ("losses", ("igbv1", "igbv2"), 1),
    "density": ("losses", ("igbv2",), "tanh"),
    "loss_rate": ("losses", ("uw", "uw_si"), 0.025),
    "cagrad_c": ("gradients", ("cagrad",), 0.4),
    "nash_every": ("gradients", ("nash",), 1),
}
"""Option: what reads it, and its default."""


def refuse(run: dict[str, Any]) -> None:
    """Refuse a run that would train or measure something else than its options say.

    Raises:
        UserError: with the option, and what would do.
    """
    model, data = run["model"], run["data"]
    own = _tasks(data)
    if model["_target_"] == f"{_HERE}step_times.StepTimes":
        _refuse_names(model["tasks"], own)
        if model["rounds"] % 2 == 0:
            raise UserError(f"model.rounds: {model['rounds']}; odd, so that one is the median")
        return
    _refuse_tasks(model, own)
    _refuse_unread(model)
    if "scheduler" in model:
        _refuse_rate(model)
    _refuse_precision(model, run["trainer"]["precision"])
    epochs = run["trainer"]["max_epochs"]
    if model["losses"].startswith("igb") and epochs and model["base_epoch"] + 1 >= epochs:
        raise UserError(
            f"model.base_epoch: IGB begins after epoch {model['base_epoch']}, counted from 0, and"
            f" there are {epochs} (trainer.max_epochs): it never would"
        )
    if data.get("source") == "gdb9" and data.get("checksum", _QM9PACK) == _QM9PACK:
        raise UserError(
            "data.checksum: is that of qm9pack's arrays, and gdb9 has other bonds and positions;"
            " with data.checksum=null retable prepare says that of your files"
        )


def _tasks(data: dict[str, Any]) -> dict[str, int] | None:
    """Outputs by task of a data set that is known, in its order."""
    name = str(data["_target_"]).removeprefix(_HERE)
    if name == "data_regression.HeteroscaledRegression":
        own = {f"t{i}": 1 for i in range(data["n_tasks"])}
    else:
        own = OUTPUTS.get(name)
    chosen = data.get("tasks")
    if own is None or chosen is None:
        return own
    return {task: own[task] for task in chosen if task in own}


def _refuse_names(names: list[str], own: dict[str, int] | None) -> None:
    for task in names:
        if own is not None and task not in own:
            raise UserError(f"model.tasks: the data has no task '{task}'{nearest(task, own)}")
    if len({*names}) < len(names):
        raise UserError(f"model.tasks: {names} has a task twice")


def _refuse_tasks(model: dict[str, Any], own: dict[str, int] | None) -> None:
    """Heads and draws follow from the order of the tasks, which is the data's (``ONE_ORDER``)."""
    tasks: dict[str, int] = model["tasks"]
    if own is None:
        if [*tasks] != sorted(tasks):
            raise UserError(
                f"model.tasks: in alphabetical order, {', '.join(sorted(tasks))}, for data of your"
                " own: the order is no part of a run's key"
            )
        return
    _refuse_names([*tasks], own)
    if missing := [task for task in own if task not in tasks]:
        raise UserError(
            f"model.tasks: the data has {', '.join(missing)} too; leave out of data.tasks what is"
            " left out here"
        )
    for task, n in tasks.items():
        if n != own[task]:
            raise UserError(
                f"model.tasks.{task}: {n}, and the data's has {own[task]} (classes; 1 for a number)"
            )
    if [*tasks] != [*own]:
        raise UserError(f"model.tasks: not in the data's order, which is {', '.join(own)}")
    by_task = model["_target_"] == f"{_HERE}module_qm9.Molecules"
    for name in model["base"] if by_task else ():
        if name not in tasks:
            raise UserError(f"model.base.{name}: is no task{nearest(name, tasks)}")


def _refuse_unread(model: dict[str, Any]) -> None:
    for option, (reader, readers, default) in READ_BY.items():
        if model[option] != default and model[reader] not in readers:
            raise UserError(
                f"model.{option}: {model[option]} is read by model.{reader}={' or '.join(readers)}"
                f" alone, and this is {model[reader]}; leave it out"
            )


def _refuse_rate(model: dict[str, Any]) -> None:
    scheduler = model["scheduler"] or {}
    plateau = str(scheduler.get("_target_")).endswith(".ReduceLROnPlateau")
    if plateau and model["reward"] == "rate" and model["losses"] == "igbv2":
        raise UserError(
            "model.reward: 'rate' needs the first rate, which ReduceLROnPlateau does not keep, so"
            " that the reward would be constant; take 'constant', or another scheduler"
        )


def _refuse_precision(model: dict[str, Any], precision: str) -> None:
    if precision == "16-mixed":
        raise UserError("trainer.precision: 16-mixed is not possible, as no loss is scaled here")
    if precision == "bf16-mixed" and (model["gradients"] != "none" or model["losses"] == "igbv2"):
        raise UserError(
            "trainer.precision: bf16-mixed would compute the balance of gradients, and the agent of"
            " IGBv2, in bfloat16 too; take 32-true"
        )
