"""Options that would train something else than they say, refused before anything is launched."""

from __future__ import annotations

import importlib

import pytest

from retable.papers.igb import data_qm9, refusals
from retable.util.errors import UserError
from support.training import config

SMOKE, MOLECULES, SCENES = "igb/smoke", "igb/smoke_qm9", "igb/smoke_nyuv2"
QM9 = "igb/qm9"


@pytest.mark.parametrize(
    ("experiment", "overrides", "said"),
    [
        # Of a mapping in another order the key is the same, and the numbers are not.
        (SMOKE, ["~model.tasks.income", "+model.tasks.income=2"], "income, married, hours"),
        (
            "igb/toy",
            ["~model.tasks.first", "+model.tasks.first=1"],
            "order, which is first, second",
        ),
        (SMOKE, ["model.tasks.married=1"], r"tasks\.married: 1, and the data's has 2"),
        (SMOKE, ["+model.tasks.age=2"], "no task 'age'"),
        (SMOKE, ["~model.tasks.hours"], "the data has hours too"),
        (SMOKE, ["+data.tasks=[income]"], "no task 'married'"),
        ("igb/noisy", ["+data.n_tasks=5"], "no task 't5'"),
        (SCENES, ["model.tasks.segmentation=20"], r"segmentation: 20, and the data's has 13"),
        ("igb/times", ["model.tasks=[t0,zz]"], "no task 'zz'"),
        ("igb/times", ["model.tasks=[t0,t0]"], "has a task twice"),
        ("igb/times", ["+model.rounds=2"], "rounds: 2; odd"),
        (MOLECULES, ["+model.base.foo=3"], r"base\.foo: is no task"),
        (QM9, ["model.losses=igbv2", "+model.reward=rate"], "would be constant"),
        (QM9, ["+data.source=gdb9"], "is that of qm9pack's arrays"),
        (SMOKE, ["trainer.max_epochs=2", "+model.losses=igbv1"], "there are 2"),
        (SMOKE, ["+model.losses=igbv2", "+model.base_epoch=7"], "it never would"),
        (SMOKE, ["trainer.precision=16-mixed"], "no loss is scaled"),
        (SMOKE, ["trainer.precision=bf16-mixed", "+model.gradients=mgda"], "in bfloat16 too"),
        (SMOKE, ["+model.cagrad_c=0.9"], "gradients=cagrad alone, and this is none"),
        (SMOKE, ["+model.nash_every=2", "+model.gradients=mgda"], "gradients=nash alone"),
        (SMOKE, ["+model.loss_rate=0.1"], "losses=uw or uw_si alone"),
        (SMOKE, ["+model.density=gaussian", "+model.losses=igbv1"], "losses=igbv2 alone"),
        (SMOKE, ["+model.base_epoch=2"], "losses=igbv1 or igbv2 alone"),
    ],
)
def test_refused(experiment, overrides, said):
    with pytest.raises(UserError, match=said):
        config(*overrides, experiment=experiment)


def test_of_data_of_ones_own_the_tasks_are_in_alphabetical_order():
    """Their order is no part of the key here, and that of the data is not known."""
    data = {"_target_": "mine.Data"}
    model = {"_target_": "retable.papers.igb.module_adult.AdultNet", "losses": "ls"}
    with pytest.raises(UserError, match="in alphabetical order, a, b, for data of your own"):
        refusals.refuse({"model": model | {"tasks": {"b": 1, "a": 1}}, "data": data})


def test_what_is_meant_is_taken():
    one = ["~model.tasks.married", "~model.tasks.hours", "+data.tasks=[income]"]
    config(*one, experiment=SMOKE)
    config("+model.losses=igbv2", "+model.base_epoch=6", experiment=SMOKE)
    config("trainer.precision=bf16-mixed", "+model.losses=uw", experiment=SMOKE)
    config("+data.source=gdb9", "+data.checksum=null", experiment=QM9)


@pytest.mark.parametrize("name", sorted(refusals.OUTPUTS))
def test_the_tasks_it_knows_are_those_of_the_data(name, tmp_path):
    module, _, cls = name.partition(".")
    made = getattr(importlib.import_module(f"retable.papers.igb.{module}"), cls)
    known = refusals.OUTPUTS[name]
    if module == "data_nyuv2":
        from retable.papers.igb.module_nyuv2 import LARGER_IS_BETTER

        assert [*known] == [*LARGER_IS_BETTER]
        assert known["segmentation"] == importlib.import_module(made.__module__).N_CLASSES
        return
    kinds = made.kinds(object.__new__(made))
    outputs = {task: int(kind.partition(":")[2] or 1) for task, kind in kinds.items()}
    assert [*outputs.items()] == [*known.items()]


def test_the_checksum_is_that_of_the_class():
    assert refusals._QM9PACK == data_qm9.QM9PACK_SHA256
