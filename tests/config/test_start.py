"""The run that another one starts from: named in a file, whole in the key, refused where wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.config.schema import RunConfig, SettingConfig, keyed_part
from retable.runs.frozen import freeze as frozen_of
from retable.util.errors import UserError
from support.runs import freeze

TUNED = "digits/tuned"
EXPERIMENTS = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "experiment" / "digits"


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        freeze(*overrides, experiment=TUNED)
    return str(caught.value)


@pytest.fixture
def experiment():
    """Make an experiment that goes on from the smoke one, for one test."""
    made: list[Path] = []

    def write(name: str, start: str) -> str:
        file = EXPERIMENTS / f"{name}.yaml"
        head = "# @package _global_\ndefaults: [/experiment/digits/smoke]\n"
        file.write_text(f"{head}start: {start}\n", encoding="utf-8")
        made.append(file)
        return f"digits/{name}"

    yield write
    for file in made:
        file.unlink(missing_ok=True)


def test_the_parent_is_the_run_that_one_would_start_by_hand():
    run = freeze(experiment=TUNED, seed=3)
    assert run.parent is not None
    assert run.parent.key == freeze(seed=3).key
    assert run.parent.config.experiment == "digits/smoke"
    assert run.parent.parent is None
    longer = freeze("start.run.overrides=['trainer.max_epochs=5']", experiment=TUNED)
    assert longer.parent is not None
    assert longer.parent.key == freeze("trainer.max_epochs=5").key


def test_the_key_has_the_parent_by_value_and_not_its_seed():
    """A hash of it would be the same text for all seeds, where keys are made by seed."""
    run = freeze(experiment=TUNED)
    part = keyed_part(run.config)["start"]["run"]
    whole = keyed_part(freeze().config)
    assert part == {name: value for name, value in whole.items() if name != "seed"}
    assert run.key != freeze("start=null", experiment=TUNED).key
    for seed in (0, 1, 7):
        own = freeze(experiment=TUNED, seed=seed)
        assert run.with_seed(seed).key == own.key == run.keys([seed])[0]
        assert run.with_seed(seed).parent == own.parent


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    lr=st.floats(1e-4, 1.0), hidden=st.integers(1, 64), epochs=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_whatever_is_changed_in_the_parent_is_in_both_keys(lr, hidden, epochs, seed):
    changes = [f"model.optimizer.lr={lr}", f"model.hidden={hidden}", f"trainer.max_epochs={epochs}"]
    inside = ",".join(f"'{text}'" for text in changes)
    with planning():
        own = ["experiment=digits/tuned", f"seed={seed}"]
        run = frozen_of(compose([*own, f"start.run.overrides=[{inside}]"]))
        above = frozen_of(compose(["experiment=digits/smoke", f"seed={seed}", *changes]))
        assert run.parent == above
        plain = frozen_of(compose(own))
    same = (lr, hidden, epochs) == (0.1, 32, 1)
    assert (run.key == plain.key) is same


def test_what_is_said_of_the_machine_holds_for_the_whole_chain():
    run = freeze("device.threads=2", "paths.runs=elsewhere", experiment=TUNED)
    assert run.parent is not None
    assert run.parent.config.device.threads == 2
    assert run.parent.config.paths.runs == "elsewhere"
    assert run.parent.key == freeze().key


@pytest.mark.slow
def test_a_chain_of_three(experiment):
    last = freeze(experiment=experiment("last", "{run: {experiment: digits/tuned}}"))
    assert [run.config.experiment for run in last.chain] == ["digits/smoke", "digits/tuned"]
    assert [run.key for run in last.chain] == [freeze().key, freeze(experiment=TUNED).key]


def test_a_chain_that_leads_back_to_itself_is_refused(experiment):
    one = experiment("one", "{run: {experiment: digits/two}}")
    experiment("two", "{run: {experiment: digits/one}}")
    with pytest.raises(UserError) as caught:
        freeze(experiment=one)
    assert "goes in a circle: digits/two -> digits/one -> digits/two" in str(caught.value)


def test_an_experiment_may_start_from_itself_without_a_start(experiment):
    again = experiment("again", "{run: {experiment: digits/again, overrides: [start=null]}}")
    run = freeze(experiment=again)
    assert run.parent is not None
    assert run.parent.key == freeze().key


def test_an_override_that_a_shared_part_would_undo_is_refused():
    message = refusal("start.run.overrides=['model.hidden=8']", "start.run.same=[model]")
    assert message.startswith(
        "start.run.overrides: 'model.hidden=8' would be lost: start.run.same gives it this run's"
        " own ('model'); leave one of them out"
    )
    beside = freeze(
        "start.run.overrides=['model.hidden=8']", "start.run.same=[data]", experiment=TUNED
    )
    assert beside.parent is not None
    assert beside.parent.config.model["hidden"] == 8


def test_a_list_that_both_have_is_no_difference():
    """Of the composed config it may be a tuple."""
    run = freeze(experiment="weight_decay/smoke_flow")
    assert run.parent is not None
    assert list(run.parent.config.data["shape"]) == [8, 8, 3]


@pytest.mark.slow
def test_data_that_differs_is_refused_unless_somebody_says_so():
    message = refusal("data.noise=0.2")
    assert message.startswith(
        "data.noise: is 0.2 here and 0.1 in the run that this one starts from (digits/smoke); name"
        " it in start.run.same, and that run has this one's too, or in start.run.differs where it"
        " is meant (override 'data.noise=0.2')"
    )
    same = freeze("data.noise=0.2", "start.run.same=[data]", experiment=TUNED)
    assert same.parent is not None
    assert same.parent.key == freeze("data.noise=0.2").key
    apart = freeze("data.noise=0.2", "start.run.differs=[data.noise]", experiment=TUNED)
    assert apart.parent is not None
    assert apart.parent.key == freeze().key
    default = refusal("data.test_batch_size=100")
    assert "data.test_batch_size: is 100 here and left at its default in the run" in default


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["start=4"], "start: 4 is not valid: expected key: value pairs (override 'start=4')"),
        (["start.run.experimnt=x"], "start.run.experimnt: unknown key; did you mean 'experiment'?"),
        (
            ["start.run.experiment=digits/smok"],
            "start.run: override 'experiment=digits/smok': no experiment 'digits/smok'; did you"
            " mean 'digits/smoke'?",
        ),
        (
            ["start.run.overrides=['model.hiden=3']"],
            "start.run: model.hiden: retable.papers.digits.module.Perceptron has no argument"
            " 'hiden'; did you mean 'hidden'? (override 'model.hiden=3')",
        ),
        (
            ["start.run.overrides=['seed=3']"],
            "'seed=3' cannot be set here; both have the same seed",
        ),
        (
            ["start.run.overrides=['launcher=slurm']"],
            "'launcher=slurm' cannot be set here; it is the same for both",
        ),
        (
            ["start.run.same=[model.hidden]", "start.run.experiment=binary_connect/mnist_smoke"],
            "start.run.same: cannot be shared by binary_connect/mnist_smoke: model.hidden:",
        ),
        (
            ["start.run.same=[modle.hidden]"],
            "start.run.same: this run has no 'modle.hidden'; did you mean 'model'?",
        ),
        (["start.run.same=[seed]"], "start.run.same: 'seed' cannot be shared"),
        (["start.run.same=[start]"], "start.run.same: 'start' cannot be shared"),
        (
            ["start.run.same=[model.hiden]"],
            "start.run.same: this run has no 'model.hiden'; did you mean 'model.hidden'?",
        ),
        (
            ["start.run.differs=[data.noise]"],
            "start.run.differs: 'data.noise' does not differ; leave it out",
        ),
        (
            ["data.noise=0.2", "start.run.differs=[noise]"],
            "start.run.differs: 'noise' does not differ; did you mean 'data.noise'?",
        ),
        (
            ["start.run.overrides=['device.threads=2']"],
            "start.run.overrides: 'device.threads=2' cannot be set here; it is the same for both",
        ),
        (
            ["start.run.overrides=['stages=[test]','trainer.max_epochs=null']"],
            "start.run: digits/smoke has no 'fit' among its stages, so that it leaves no weights",
        ),
    ],
)
def test_what_is_wrong_is_named(overrides, message):
    assert message in refusal(*overrides)


def test_a_missing_seed_is_what_is_said_to_be_missing():
    with planning(), pytest.raises(UserError, match="seed: is missing; give it on the command"):
        compose(["experiment=digits/tuned"])
    with planning(), pytest.raises(UserError, match=r"start\.run\.experimnt: unknown key"):
        compose(["experiment=digits/tuned", "start.run.experimnt=x"])


def test_a_frozen_run_needs_no_file_of_its_parent(tmp_path, experiment):
    from retable.runs import frozen

    name = experiment("gone", "{run: {experiment: digits/tuned}}")
    run = freeze(f"paths.runs={tmp_path}", experiment=name)
    folder = frozen.write(run)
    (EXPERIMENTS / "gone.yaml").write_text("broken: [", encoding="utf-8")
    again = frozen.read(folder)
    assert (again.key, again.chain) == (run.key, run.chain)


def test_a_record_keeps_the_chain_without_its_machines():
    from retable.runs.frozen import recorded

    kept = recorded(freeze("device.threads=2", experiment=TUNED).config)
    assert not {"device", "resources"} & kept["start"]["run"].keys()
    assert kept["start"]["run"]["data"] == kept["data"]


def test_a_setting_is_a_run_without_seed_and_place():
    names = RunConfig.model_fields.keys() - SettingConfig.model_fields.keys()
    assert names == {"seed", "paths", "logger", "launcher", "cluster", "progress"}


@pytest.mark.slow
def test_the_cache_of_compositions_gives_the_same(experiment):
    def key() -> str:
        with planning():
            return frozen_of(compose([f"experiment={name}", "seed=0"])).key

    name = experiment("cached", "{run: {experiment: digits/tuned}}")
    assert key() == key() == freeze(experiment=name).key
    experiment("cached", "{run: {experiment: digits/smoke}}")
    assert key() == freeze(experiment=name).key
