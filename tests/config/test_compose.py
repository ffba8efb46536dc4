"""From overrides to a config: what is refused, in which words, and from which line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retable.config.compose import check_overrides, compose, groups, hydra_ready, lenient
from retable.config.schema import RunConfig
from retable.runs.identity import run_key
from retable.util.errors import UserError

BASE = ["experiment=digits/base", "seed=0"]
EXPERIMENTS = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "experiment" / "digits"


@pytest.fixture
def hydra():
    with hydra_ready():
        yield


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 900
    return message


REFUSED = [
    # Unknown and misspelt keys, however they are given.
    ("+typo=1", "typo: unknown key (override '+typo=1')"),
    ("++modle.hidden=3", "modle: unknown key; did you mean 'model'?"),
    ("trainer.max_epoch=3", "trainer.max_epoch: unknown key; did you mean 'max_epochs'?"),
    ("+trainer.max_epoch=3", "trainer.max_epoch: unknown key; did you mean 'max_epochs'?"),
    ("model.hiden=3", "has no argument 'hiden'; did you mean 'hidden'?"),
    ("model.optimizer=sgd", "model.optimizer: 'sgd' is not valid: expected an object, {_target_: "),
    ("model.scheduler=3", "model.scheduler: 3 is not valid: expected an object, {_target_: "),
    ("+model.optimizer.lrr=1", "model.optimizer.lrr: torch.optim.SGD has no argument 'lrr'"),
    ("model/hidden=3", "unknown key"),
    ("_target_=os.system", "_target_: unknown key"),
    ("optimizer=sgd", "optimizer: unknown key; did you mean 'model.optimizer'?"),
    ("+lr=0.1", "lr: unknown key; did you mean 'model.optimizer.lr'?"),
    ("max_epochs=3", "max_epochs: unknown key; did you mean 'trainer.max_epochs'?"),
    ("experiment.foo=3", "experiment: chooses a file"),
    # Choices that there are not.
    ("experiment=digits/smok", "did you mean 'digits/smoke'?"),
    ("+experiment=digits/smok", "did you mean 'digits/smoke'?"),
    ("experiment=../../etc/passwd", "no experiment '../../etc/passwd'"),
    ("experiment=/digits/smoke", "no experiment"),
    ("experiment=", "no experiment ''"),
    ("experiment=null", "no experiment 'null'"),
    ("trainer=3", "no trainer '3'; valid: default"),
    ("trainer=[1]", "several values need `train -m`"),
    ("launcher=slrm", "no launcher 'slrm'"),
    ("experiment@x=digits/base", "experiment@x"),
    # Seeds.
    ("seed=", "seed: '' is not valid"),
    ("seed=nan", "seed: nan is not valid"),
    ("seed=-1", "seed: -1 is not valid"),
    ("seed=1.0", "seed: 1.0 is not valid"),
    ("seed=abc", "seed: 'abc' is not valid"),
    ("seed=true", "seed: True is not valid"),
    ("seed=null", "seed: None is not valid"),
    ("seed=99999999999999999999", "seed: 99999999999999999999 is not valid"),
    ("seed=0,1", "several values need `train -m`"),
    ("~seed", "seed: is missing"),
    # Something else where a mapping is meant, and the other way round.
    ("model=null", "model: None is not valid: expected key: value pairs"),
    ("model=3", "model: 3 is not valid: expected key: value pairs"),
    ("model=[1,2]", "something of another kind stands there"),
    ("device=gpu", "device: 'gpu' is not valid: expected key: value pairs"),
    ("callbacks=[]", "something of another kind"),
    ("callbacks={es: 3}", "callbacks.es: 3 is not valid"),
    ("stages=fit", "stages: 'fit' is not valid"),
    # Out of range, contradictory.
    ("trainer.max_epochs=-1", "trainer.max_epochs: -1 is not valid: should be greater than 0"),
    ("trainer.max_epochs=1.5", "should be a valid integer"),
    ("trainer.precision=16-mixd", "did you mean '16-mixed'?"),
    ("model.fail=maybe", "valid: diverge, elsewhere, exit,"),
    ("stages=[test]", "trainer.max_epochs: contradicts stages"),
    ("stages=[test,fit]", "stages: must be [fit], [test] or [fit, test] (override"),
    ("best_epoch={monitor: test/accuracy, mode: max}", "is not a validation metric"),
    ("best_epoch.monitor=val/loss", "best_epoch.mode: is missing"),
    ("paper=../x", "one word of letters"),
    ("paths.runs=", "paths.runs: '' is not valid"),
    ("data.seed=1", "data.seed: is given by retable itself"),
    # A machine's path may not reach the key.
    ("model.hidden=${oc.env:HOME}", "a resolver ('oc.env'); a keyed field may not"),
    ("model.hidden=${paths.runs}", "'paths.runs', which is not part of a run's identity"),
    ("model.hidden=${trainer.checkpoint_every_n_epochs}", "not part of a run's identity"),
    ("model.hidden=${trainer}", "not part of a run's identity"),
    ("model.hidden=${seed}", "the seed, from which a run derives its own"),
    ("model.hidden=${model.hidden}", "Recursive interpolation"),
    ("data={_target_: '${oc.env:HOME}'}", "a keyed field may not"),
    # Hydra's own settings and syntax.
    ("hydra.run.dir=/tmp/x", "of Hydra's own settings only the sweeper may be chosen"),
    ("+hydra.run.dir=/tmp/x", "of Hydra's own settings"),
    ("hydra/launcher=basic", "of Hydra's own settings"),
    ("hydra.mode=MULTIRUN", "of Hydra's own settings"),
    ("hydra=3", "of Hydra's own settings"),
    ("hydra.searchpath=[/etc]", "of Hydra's own settings"),
    ("", "expected key=value"),
    ("=", "expected key=value"),
    ("~", "expected key=value"),
    ("seed", "expected key=value"),
    ("é=1", "'é' cannot be a key"),
    ("a b=1", "'a b' cannot be a key"),
    ("model[0]=1", "cannot be a key"),
    ("model.hidden=é", "override 'model.hidden=é': cannot be read"),
    ("model.hidden=${eval:__import__('x')}", "the reference ${eval:__import__('x')} cannot be"),
    ("callbacks={null: 1}", "a key has to be text"),
    ("~nope", "override '~nope': cannot be left out: 'nope' does not exist"),
    ("TRAINER=default", "unknown key; did you mean 'trainer'?"),
    ("best_epoch.monitr=val/loss", "best_epoch.monitr: unknown key; did you mean 'monitor'?"),
    ("\x1b[31m=1", "override '\\x1b[31m=1': '\\x1b[31m' cannot be a key"),
    ("model.dropout='\udcff'", "has characters that cannot be written"),
    ("paths.runs='a\0b'", "paths.runs: 'a\\x00b' has characters that a path cannot have"),
    ("paths.runs=" + "x" * 300, "is too long for a path"),
    ("model.hidden=${", "cannot be read"),
    ("model.hidden=1\n", "cannot be read"),
    ("model.hidden=" + "[" * 300, "cannot be read"),
    ("model.hidden=" + "[" * 90 + "]" * 90, "model.hidden: [["),
    ("x" * 5000 + "=1", "longer than 2000 characters"),
    ("model.hidden=" + "x" * 5000, "longer than 2000 characters"),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_refused_overrides(hydra, override, message):
    assert message in refusal(*BASE, override)


def test_what_is_missing_is_named(hydra):
    assert "seed: is missing; give it on the command line" in refusal("experiment=digits/base")
    # A misspelt key is said first: it may be why.
    assert "did you mean 'seed'?" in refusal("experiment=digits/base", "sed=0")
    assert "did you mean 'hidden'?" in refusal("experiment=digits/base", "model.hiden=3")
    assert "paper: is missing; set it" in refusal("experiment=digits/base", "paper=???")
    assert "experiment: is missing; choose one" in refusal("seed=0")
    assert "experiment: is missing; choose one" in refusal()


BOMB = "b0: &b0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
HEAD = "# @package _global_\ndefaults: [/experiment/digits/base]\n"
FILES = [
    ("trainer:\n  max_epoch: 3\n", "trainer.max_epoch: unknown key; did you mean", 4),
    ("trainr: {max_epochs: 3}\n", "trainr: unknown key; did you mean 'trainer'?", 3),
    ("model:\n  optimizer:\n    lrr: 1\n", "no argument 'lrr'; did you mean 'lr'?", 5),
    ("model: {optimizer: {_target_: os.system}}\n", "'os.system' may not be built", 3),
    ("data:\n  noise: ${paths.runs}\n", "a keyed field may not", 4),
    ("model: {hidden: !!binary aGVsbG8=}\n", "a bytes is not possible", 3),
    ("model: {dropout: .nan}\n", "nan is not a finite number", 3),
    ("diverged_above: {1: 2}\n", "diverged_above.1: 1 is not valid", 3),
    ("trainer: {max_epochs: 1\n", "not valid YAML", None),
    ("trainer:\n\tmax_epochs: 3\n", "not valid YAML", 4),
    ("trainer: {max_epochs: 1}\ntrainer: {max_epochs: 2}\n", "duplicate key trainer", 4),
    ("model: !!python/object/apply:os.system ['touch {pwned}']\n", "not valid YAML", 3),
    ("x: &a {b: *a}\n", "refers to itself", None),
    ("null: 3\n", "Incompatible key type", None),
    ("data: [1]\n", "Cannot merge", None),
    ("experiment: foo\n", "experiment: chooses a file", 3),
    ("hydra: [1\n", "not valid YAML", None),
    # What is none of an experiment's business.
    ("seed: 3\n", "seed: is given on the command line or by the table", 3),
    ("hydra: {run: {dir: x}}\n", "may not change Hydra's own settings", 3),
    ("hydra.run.dir: x\n", "may not change Hydra's own settings", 3),
    # What would not end, or what nobody could mean.
    ("x: " + "[" * 60 + "]" * 60 + "\n", "is nested more than 40 deep", 3),
    ("x: " + "[" * 9000 + "\n", "not valid YAML", 3),
    (BOMB, "its aliases repeat more than 50000 values", 7),
    ("x: \x07\n", "control characters are not allowed", 3),
    ("model: {hidden: 2024-02-30}\n", "model.hidden: '2024-02-30' is not valid", 3),
    ("'protocol ': x\n", "'protocol ': unknown key; did you mean 'protocol'?", 3),
    ("model: {hidden: '${eval:(}'}\n", "the reference ${eval:(} cannot be read", 3),
]


@pytest.fixture
def experiment():
    file = EXPERIMENTS / "wrong.yaml"
    yield file
    file.unlink()


@pytest.mark.parametrize(("text", "message", "line"), FILES)
def test_refusals_inside_an_experiment_file(hydra, experiment, tmp_path, text, message, line):
    pwned = tmp_path / "pwned"
    experiment.write_text(HEAD + text.replace("{pwned}", str(pwned)), encoding="utf-8")
    said = refusal("experiment=digits/wrong", "seed=0")
    assert message in said
    assert "wrong.yaml" in said
    assert line is None or f"line {line}" in said
    assert not pwned.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: has to be '# @package _global_'"),
        ("- 1\n", "is not an experiment: expected key: value pairs"),
        ("hello\n", "is not an experiment: expected key: value pairs"),
        ("defaults: [/experiment/digits/base]\n", "line 1: has to be '# @package _global_'"),
        ("# @package _global_\ndefaults: 3\n", "defaults must be a list"),
        ("# @package _global_\ndefaults: [[1]]\n", "Unsupported type in defaults"),
        ("# @package hydra.callbacks\na: 1\n", "line 1: has to be '# @package _global_'"),
        ("\ufeff# @package _global_\nx: 1\n", "line 1: has to be '# @package _global_'"),
        ("# @package _global_\ndefaults: [override hydra/launcher: basic]\n", "line 2: hydra: an"),
        ("# @package _global_\ndefaults: [/trainer@hydra.run: default]\n", "line 2: hydra: an"),
        (
            "# @package _global_\ndefaults: [/experiment/nope]\n",
            "line 2: defaults: no experiment 'nope'",
        ),
        ("# @package _global_\ndefaults: [/experiment/digits/wrong]\n", "refers to itself"),
    ],
)
def test_experiment_files_that_are_none(hydra, experiment, text, message):
    experiment.write_text(text, encoding="utf-8")
    said = refusal("experiment=digits/wrong", "seed=0")
    assert message in said
    assert "wrong.yaml" in said


def test_a_folder_named_like_an_experiment_and_a_wrong_encoding(hydra):
    folder = EXPERIMENTS / "folder.yaml"
    folder.mkdir()
    try:
        assert "no experiment 'digits/folder'" in refusal("experiment=digits/folder", "seed=0")
    finally:
        folder.rmdir()
    file = EXPERIMENTS / "latin.yaml"
    file.write_bytes(HEAD.encode() + "# é\n".encode("latin-1"))
    try:
        assert "latin.yaml, line 3: not valid YAML: is not UTF-8" in refusal(
            "experiment=digits/latin", "seed=0"
        )
    finally:
        file.unlink()


def test_place_is_the_nearest_file_that_says_it(hydra, experiment):
    # The value stands in the file that is inherited from, not in the one that was chosen.
    experiment.write_text(HEAD + "stages: [test]\n", encoding="utf-8")
    said = refusal("experiment=digits/wrong", "seed=0")
    line = 1 + (EXPERIMENTS / "base.yaml").read_text().splitlines().index(
        "trainer: {max_epochs: 4}"
    )
    assert f"base.yaml, line {line})" in said
    # The last override wins, so it is the one to blame.
    assert "(override 'seed=-2')" in refusal("experiment=digits/base", "seed=0", "seed=-2")
    # Something missing is placed where its parent stands.
    assert "(override 'model.optimizer._partial_=false')" in refusal(
        *BASE, "model.optimizer._partial_=false"
    )


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("model.dropout=0.3", ("model", "dropout"), 0.3),  # not in the YAML: needs no +
        ("+model.dropout=0.3", ("model", "dropout"), 0.3),
        ("++model.dropout=0.3", ("model", "dropout"), 0.3),
        ("model.dropout=1", ("model", "dropout"), 1.0),
        ("model={dropout: 0.3}", ("model", "dropout"), 0.3),
        ("data.batch_size=7", ("data", "batch_size"), 7),
        ("model.hidden=${data.batch_size}", ("model", "hidden"), 100),
        ("trainer={gradient_clip_val: 1}", ("trainer", "gradient_clip_val"), 1.0),
        ("device.threads=2", ("device", "threads"), 2),
        ("callbacks={e: {_target_: pytorch_lightning.callbacks.EarlyStopping,monitor: '\"a: é\"'}}",
         ("callbacks", "e", "monitor"), '"a: é"'),
        ("+experiment=digits/smoke", ("protocol",), "smoke"),
        ("trainer=default", ("trainer", "max_epochs"), 4),
        ("callbacks={es: {_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/loss}}",
         ("callbacks", "es", "monitor"), "val/loss"),
    ],
)  # fmt: skip
def test_accepted_overrides(hydra, override, place, value):
    config = compose([*BASE, override])
    found = config.model_dump()
    for part in place:
        found = found[part]
    assert found == value
    assert type(found) is type(value)


def test_one_and_one_point_zero_are_the_same_run(hydra):
    keys = {run_key(compose([*BASE, f"model.dropout={x}"])) for x in ("1", "1.0", "1e0")}
    assert len(keys) == 1
    false = compose([*BASE, "model.optimizer._partial_=true"])
    assert run_key(false) == run_key(compose(BASE))


def test_groups_are_the_folders_of_conf_and_sweeps_pass():
    assert {"experiment", "trainer", "launcher", "logger", "paths"} <= groups()
    assert "table" not in groups()
    check_overrides(["experiment=digits/base,digits/smoke", "seed=0,1", "hydra/sweeper=basic"])
    check_overrides(["experiment=glob(digits/*)", "hydra.sweeper.max_batch_size=2"])
    assert lenient(["+experiment=a", "x.y=1", "+z=2", "~q", "trainer={a: 1}"]) == [
        "experiment=a", "++x.y=1", "++z=2", "~q", "++trainer={a: 1}"
    ]  # fmt: skip


KEYS = st.sampled_from(
    ["seed", "model", "model.hidden", "data", "trainer", "trainer.precision", "experiment",
     "paths.runs", "callbacks", "hydra", "hydra.run.dir", "stages", "x", "best_epoch.monitor"]
)  # fmt: skip
ODD = st.text(
    alphabet=st.one_of(
        st.sampled_from("${}[](),:=.~+\\'\"#&*!|/ \t\nab01_-@%é\x00"), st.characters()
    ),
    max_size=12,
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    override=st.one_of(ODD, st.tuples(KEYS, ODD).map("=".join), st.tuples(ODD, ODD).map("=".join))
)
def test_any_override_gives_a_config_or_one_clear_line(hydra, override):
    try:
        config = compose([*BASE, override])
    except UserError:
        return
    assert isinstance(config, RunConfig)


def test_what_records_keep_holds_nothing_private(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hunter2hunter2")
    planted = ["experiment=digits/smoke", "seed=0", "best_epoch.monitor=val/hunter2hunter2"]
    planted = [*planted, "best_epoch.mode=min"]
    with hydra_ready():
        with pytest.raises(UserError, match=r"best_epoch\.monitor: holds a secret") as refused:
            compose(planted)
        assert "hunter2" not in str(refused.value)
        monkeypatch.delenv("MY_TOKEN")
        assert compose(planted).best_epoch.monitor == "val/hunter2hunter2"
