"""The schema: every field keyed or unkeyed, and what each does to the key."""

from __future__ import annotations

from typing import Any

import pytest

from retable.config.schema import (
    RunConfig,
    Section,
    TrainerConfig,
    is_keyed,
    keyed,
    keyed_part,
    sections,
    with_neutral,
)
from retable.runs.identity import canonical_json, run_key
from retable.util.errors import UserError

BASE: dict[str, Any] = {
    "paper": "digits",
    "experiment": "digits/base",
    "protocol": "paper",
    "seed": 3,
    "stages": ["fit", "test"],
    "data": {"_target_": "a.B", "batch_size": 100},
    "model": {"_target_": "a.C", "hidden": 32, "optimizer": {"_target_": "a.D", "lr": 0.1}},
    "trainer": {"max_epochs": 4, "gradient_clip_val": 1.0},
    "best_epoch": {"monitor": "val/accuracy", "mode": "max"},
    "device": {},
    "resources": {},
    "cluster": {"name": "mine"},
    "paths": {"runs": "runs", "cache": "cache"},
    "logger": {"name": "none"},
    "launcher": {"name": "local"},
}
ABOVE = {
    "paper": "digits",
    "data": {"_target_": "a.B"},
    "model": {"_target_": "a.C"},
    "trainer": {"max_epochs": 1},
}
# Another valid value of each field; a field without one here is a field without a test.
OTHER: dict[str, Any] = {
    "paper": "other",
    "experiment": "digits/other",
    "protocol": "smoke",
    "seed": 4,
    "stages": ["fit"],
    "data": {"_target_": "a.B", "batch_size": 50},
    "model": {"_target_": "a.C"},
    "start": {"run": ABOVE},
    "start.run": ABOVE,
    "start.file": "weights/other.pt",
    "start.sha256": "1" * 64,
    "callbacks": {"stop": {"_target_": "a.E"}},
    "best_epoch": None,
    "tested": {"a": {"epoch": "best"}},
    "diverged_above": {"val/loss": 9.0},
    "progress": False,
    "trainer.max_epochs": 5,
    "trainer.precision": "64-true",
    "trainer.deterministic": False,
    "trainer.gradient_clip_val": 2.0,
    "trainer.gradient_clip_algorithm": "value",
    "trainer.accumulate_grad_batches": 2,
    "trainer.check_val_every_n_epoch": 2,
    "trainer.limit_train_batches": 1,
    "trainer.limit_val_batches": 1,
    "trainer.limit_test_batches": 1,
    "trainer.checkpoint_every_n_epochs": 2,
    "best_epoch.monitor": "val/loss",
    "best_epoch.mode": "min",
    "best_epoch.ties": "later",
    "device.accelerator": "gpu",
    "device.threads": 2,
    "paths.runs": "elsewhere",
    "paths.cache": "elsewhere",
    "paths.mirror": "elsewhere",
    "logger.project": "other",
    "logger.entity": "team",
    "logger.mode": "offline",
    "logger.wait_s": 5.0,
    "launcher.workers": 2,
    "launcher.snapshot": True,
    "launcher.alone": True,
    "launcher.grace_s": 1.0,
    "launcher.lease_s": 1.0,
    "launcher.name": "slurm",
    "launcher.runs_per_job": 2,
    "launcher.concurrent_per_gpu": 2,
    "launcher.max_attempts": 2,
    "device.devices": 2,
    "resources.gpus": 1,
    "resources.cpus": 2,
    "resources.memory_gb": 0.5,
    "resources.minutes": 5,
    "cluster.alone": "cores",
    "cluster.name": "other",
    "cluster.partition": "gpu,long",
    "cluster.account": "grant-1",
    "cluster.qos": "high",
    "cluster.constraint": "a100|h100",
    "cluster.gpu_type": "a100",
    "cluster.cpus": 2,
    "cluster.memory_gb": 0.5,
    "cluster.minutes": 5,
    "cluster.throttle": 5,
    "cluster.max_array": 5,
    "cluster.signal_s": 5,
    "cluster.setup": ["module load cuda"],
    "cluster.options": {"mail-type": "END", "nice": 5, "exclusive": True},
}
ONLY_ONE_VALUE = {"logger.name"}


def fields() -> list[tuple[type[Section], str, str]]:
    found = []
    for prefix, model in [("", RunConfig), *((f"{n}.", s) for n, s in sections().items())]:
        for name in model.model_fields:
            if prefix or name not in sections() or name in {"best_epoch", "start"}:
                found.append((model, name, prefix + name))
    return found


def config(**changes: Any) -> RunConfig:
    values = {k: dict(v) if isinstance(v, dict) else v for k, v in BASE.items()}
    for place, value in changes.items():
        section, _, name = place.rpartition(".")
        (values.setdefault(section, {}) if section else values)[name] = value
    return RunConfig.model_validate(values)


def test_every_field_of_every_section_is_declared():
    for model, name, _ in fields():
        is_keyed(model, name)
        assert model.model_fields[name].description
    for name in sections():
        is_keyed(RunConfig, name)


def test_what_is_keyed_is_pinned():
    """A keyed field that became unkeyed would take one run's numbers for another's."""
    unkeyed = {place for model, name, place in fields() if not is_keyed(model, name)}
    unkeyed |= {name for name in sections() if not is_keyed(RunConfig, name)}
    assert {place.partition(".")[0] for place in unkeyed} == {
        "experiment",
        "protocol",
        "device",
        "paths",
        "logger",
        "launcher",
        "resources",
        "cluster",
        "progress",
        "trainer",
        "start",
    }
    assert {p for p in unkeyed if p.startswith(("trainer", "start"))} == {
        "trainer.checkpoint_every_n_epochs",
        "start.file",
    }


def test_a_field_that_declares_nothing_is_refused():
    class Careless(Section):
        x: int = 3

    with pytest.raises(UserError, match=r"Careless\.x declares neither keyed nor unkeyed"):
        is_keyed(Careless, "x")


@pytest.mark.parametrize("place", [place for _, _, place in fields()])
def test_keyed_fields_change_the_key_and_unkeyed_do_not(place):
    if place in ONLY_ONE_VALUE:
        return
    model, name = next((m, n) for m, n, p in fields() if p == place)
    # Neither of these two is there without the other.
    file = {"start": {"file": "weights/a.pt", "sha256": "0" * 64}}
    before = file if place in {"start.file", "start.sha256"} else {}
    key = run_key(config(**before))
    changed = run_key(config(**{**before, place: OTHER[place]})) != key
    assert changed == is_keyed(model, name)


def test_order_of_keys_does_not_matter():
    turned = {k: dict(reversed(v.items())) if isinstance(v, dict) else v for k, v in BASE.items()}
    assert run_key(RunConfig.model_validate(dict(reversed(turned.items())))) == run_key(config())


def test_a_new_keyed_field_at_its_default_leaves_the_key_alone():
    class Later(RunConfig):
        warmup: int = keyed(0, "added later")

    old = config()
    assert run_key(Later.model_validate(old.model_dump())) == run_key(old)
    changed = Later.model_validate({**old.model_dump(), "warmup": 1})
    assert run_key(changed) != run_key(old)


def test_a_changed_default_changes_the_key_and_the_neutral_value_stays_out():
    class Before(RunConfig):
        warmup: int = keyed(0, "added later")

    class After(RunConfig):
        warmup: int = keyed(5, "with another default", neutral=0)

    plain = config().model_dump()
    before, after = run_key(Before.model_validate(plain)), run_key(After.model_validate(plain))
    assert before == run_key(config())
    assert after != before
    assert keyed_part(After.model_validate(plain))["warmup"] == 5
    # Who asks for what there was before has the run that there was before, and the other way round.
    assert run_key(After.model_validate({**plain, "warmup": 0})) == before
    assert run_key(Before.model_validate({**plain, "warmup": 5})) == after


def test_a_changed_default_inside_a_section_changes_the_key_of_every_run():
    class Trainer(TrainerConfig):
        precision: str = keyed("bf16-mixed", "with another default", neutral="32-true")

    class After(RunConfig):
        trainer: Trainer = keyed(Trainer(), "options of the Trainer")

    fit, test = config().model_dump(), only_test().model_dump()
    for values, old in ((fit, config()), (test, only_test())):
        values["trainer"].pop("precision")
        assert run_key(After.model_validate(values)) != run_key(old)
        values["trainer"]["precision"] = "32-true"
        assert run_key(After.model_validate(values)) == run_key(old)


def only_test(**changes: Any) -> RunConfig:
    return config(stages=["test"], trainer={}, best_epoch=None, **changes)


def test_a_section_is_left_out_where_its_keyed_part_is_empty():
    assert "trainer" not in keyed_part(only_test())
    saved = {"trainer.checkpoint_every_n_epochs": 2}  # unkeyed: of where the run is kept
    assert run_key(only_test(**saved)) == run_key(only_test())
    assert run_key(config(**saved)) == run_key(config())


def test_a_section_that_may_be_missing_says_something_by_being_there():
    class Start(Section):
        load: str = keyed("all", "what is taken over")

    class Later(RunConfig):
        start: Start | None = keyed(None, "added later")

    plain = config().model_dump()
    assert run_key(Later.model_validate(plain)) == run_key(config())
    assert run_key(Later.model_validate({**plain, "start": {}})) != run_key(config())


def test_what_older_code_left_out_of_a_config_was_neutral():
    class Trainer(TrainerConfig):
        warmup: int = keyed(5, "added later", neutral=0)

    class After(RunConfig):
        trainer: Trainer = keyed(Trainer(), "options of the Trainer")
        swa: bool = keyed(True, "added later", neutral=False)

    for old in (config(), only_test()):
        written = old.model_dump()
        assert run_key(After.model_validate(written)) != run_key(old)
        assert run_key(After.model_validate(with_neutral(written, After))) == run_key(old)
        assert with_neutral(written) == written
        del written["trainer"]
    assert with_neutral({"seed": 3}, After)["trainer"]["warmup"] == 0


def test_defaults_are_left_out_and_the_rest_is_in():
    part = keyed_part(config(**{"trainer.precision": "32-true"}))
    assert part["trainer"] == {"max_epochs": 4, "gradient_clip_val": 1.0}
    assert "paths" not in part
    assert part["seed"] == 3


def test_one_and_one_point_zero_agree_where_a_float_is_meant():
    ones = [
        config(**{"trainer.gradient_clip_val": x, "diverged_above": {"a": x}}) for x in (1, 1.0)
    ]
    assert run_key(ones[0]) == run_key(ones[1])


def test_canonical_json_has_one_spelling_and_no_nan():
    assert canonical_json({"b": [1, None], "a": True}) == '{"a":true,"b":[1,null]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ["test", "fit"]}, "stages: must be"),
        ({"stages": []}, "stages: must be"),
        ({"stages": ["test"]}, "trainer.max_epochs: contradicts stages"),
        ({"stages": ["test"], "trainer.max_epochs": None}, "best_epoch: contradicts stages"),
        ({"trainer.max_epochs": None}, "trainer.max_epochs: is needed"),
        ({"trainer.gradient_clip_val": None, "trainer.gradient_clip_algorithm": "norm"},
         "gradient_clip_algorithm: needs gradient_clip_val"),
        ({"best_epoch.monitor": "test/accuracy"}, "is not a validation metric"),
        ({"trainer.limit_val_batches": 0}, "best_epoch: contradicts trainer.limit_val_batches=0"),
        ({"seed": -1}, "seed"), ({"seed": 1.0}, "seed"), ({"seed": True}, "seed"),
        ({"seed": "1"}, "seed"), ({"seed": 2**63}, "seed"), ({"seed": None}, "seed"),
        ({"paper": "../x"}, "one word"), ({"paper": "é"}, "one word"), ({"paper": ""}, "one word"),
        ({"paper": "x" * 65}, "one word"), ({"protocol": "a/b"}, "one word"),
        ({"paths.runs": "a\0"}, "cannot have"), ({"paths.cache": "x" * 256}, "too long"),
        ({"paths.mirror": "\udcff"}, "valid string"), ({"paths.runs": "x/" * 1600}, "too long"),
        ({"paths.runs": ""}, "runs"), ({"diverged_above": {"a": float("inf")}}, "finite"),
        ({"launcher.workers": 0}, "workers"), ({"device.threads": 1.5}, "threads"),
        ({"cluster": None, "launcher.name": "slurm"}, "cluster=<profile>, of conf/cluster/ (dev,"),
        ({"launcher.name": "slurm", "device.accelerator": "gpu"}, "gpu needs resources.gpus=1"),
        ({"launcher.name": "slurm", "resources.gpus": 1}, "contradicts device.accelerator=cpu"),
        ({"launcher.name": "slurm", "resources.gpus": 2, "device.accelerator": "auto"},
         "must be 0 or equal device.devices"),
        ({"cluster.name": "../x"}, "one word"), ({"cluster.partition": "low; rm"}, "one word"),
        ({"cluster.account": "a b"}, "one word"), ({"cluster.gpu_type": "$(x)"}, "one word"),
        ({"cluster.setup": ["a\nb"]}, "one line"), ({"cluster.constraint": ""}, "one line"),
        ({"cluster.options": {"--exclude": "n1"}}, "long name of an option"),
        ({"cluster.options": {"a b": "n1"}}, "long name of an option"),
        ({"cluster.options": {"exclude": "n1\n#SBATCH --x"}}, "one line"),
        ({"cluster.minutes": 0}, "minutes"), ({"resources.gpus": -1}, "gpus"),
    ],
)  # fmt: skip
def test_contradictions_and_values_out_of_range(changes, message):
    with pytest.raises(ValueError) as caught:
        config(**changes)
    assert message in str(caught.value)
