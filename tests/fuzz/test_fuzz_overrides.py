"""A thousand malformed inputs, part one: lists of overrides and options."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fuzz import SEED, TIMES, examples, fuzzed, house_in
from support.fuzz_mutations import ODD, misspelt, odd_text

BASE = ["experiment=digits/base", "seed=0"]
RIGHT = [
    "experiment=digits/base", "experiment=digits/smoke", "seed=0", "seed=3", "model.hidden=8",
    "model.optimizer.lr=0.01", "data.batch_size=50", "trainer.max_epochs=2", "stages=[fit]",
    "trainer.precision=32-true", "device.threads=2", "device={accelerator: cpu}", "paths.runs=x/y",
    "best_epoch={monitor: val/loss, mode: min}", "launcher.workers=1", "progress=false",
    "trainer=default", "launcher=local", "callbacks={}", "diverged_above={val/loss: 3}",
    "~best_epoch", "+model.dropout=0.1", "++data.noise=0", "hydra/sweeper=basic",
    "hydra.sweeper.max_batch_size=2", "protocol=custom", "paths.mirror=null",
]  # fmt: skip
SWEPT = [
    "seed=0,1", "seed=range(0,3)", "model.hidden=8,16", "experiment=glob(digits/*)",
    "experiment=digits/base,digits/smoke", "model.optimizer.lr=choice(0.1,0.2)",
    "data.batch_size=interval(1,3)", "model.hidden=shuffle(8,16)", "model.hidden=sort(16,8)",
    "model.hidden=tag(a,choice(1,2))", "seed=0,²", "seed=0,007", "seed=0,99999999999999999999",
    "seed=0,1_0", "seed=1,1", "seed=range(0,0)", "experiment=glob(nope*)", "experiment=glob(",
    "experiment=glob([a],exclude=3)", "hydra.sweeper._target_=os.system",
    "hydra.sweeper._target_=canary.fire", "hydra/sweeper=nope", "hydra.sweeper.params.seed=3",
    "hydra.sweeper.params={seed: '0,1'}", "~hydra.sweeper", "hydra.sweeper=null", "hydra.sweeper=3",
    "+hydra.sweeper.x=1", "hydra/sweeper=basic,basic", "hydra.sweeper.max_batch_size=x",
    "hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=-1", "hydra/sweeper@x=basic",
]  # fmt: skip
TARGETS = ["os.system", "canary.fire", "builtins.eval", "torch.load", f"torch.nn.{'x' * 300}.Y"]
HYDRA_KEYS = ["_recursive_", "_convert_", "_partial_"]
OPTIONS = ["--protocol", "--row", "--column", "--seeds", "--from", "--format", "--retry", "--json"]


@pytest.fixture
def house(tmp_path):
    with house_in(tmp_path) as house:
        yield house


def broken(rng: random.Random, text: str, mark: object) -> str:
    """One override with something wrong."""
    key, _, value = text.partition("=")
    match rng.randrange(9):
        case 0 | 1 | 2:
            return f"{key}={odd_text(rng, mark)}"
        case 3:
            return f"{misspelt(rng, key)}={value}"
        case 4:
            return f"{key}={misspelt(rng, value)}"
        case 5:
            at = rng.randrange(len(text) + 1)
            return (
                text[:at]
                + rng.choice("${}[](),:=.~+\\'\"#&*!|/ \t\n@%é\x00\x1b\u2028²")
                + text[at:]
            )
        case 6:
            return f"{rng.choice(['+', '++', '~', '+++', '-', '--', '@'])}{text}"
        case 7:
            return rng.choice([
                f"{key}.x={value}", f"{key}.{key}={value}", f"{key}@{key}={value}",
                f"{key}:{value}",
                f"{key}==1", f"{key}[0]=1", f"hydra.{key}={value}", f"{key}={text}", f"/{text}",
                f"{key}/{key}={value}", f"{key}=\udcff", f"{key}='\udcff'", f"{key}=" + "[" * 900,
            ])  # fmt: skip
        case _:
            return rng.choice([
                f"model._target_={rng.choice(TARGETS)}",
                f"data={odd_text(rng, mark)}", f"callbacks={{x: {odd_text(rng, mark)}}}",
                f"+model.optimizer._args_={odd_text(rng, mark)}", "hydra.searchpath=[file:///etc]",
                "hydra.callbacks={x: {_target_: canary.fire}}", "hydra.job.chdir=true",
                f"+model.optimizer.{rng.choice(HYDRA_KEYS)}={rng.choice(ODD)}",
                "~model", "~data._target_", "~seed", "~experiment", "~paths", "paths.runs=../../x",
                "paths.runs='\\0'", "paths.cache=" + "a/" * 900, "model.hidden=${oc.env:CANARY}",
            ])  # fmt: skip


@pytest.mark.slow
@TIMES
def test_broken_override_lists_are_refused_in_one_line(house, times):
    rng = random.Random(SEED + times)
    for _ in range(examples(60 * times)):
        sweep = rng.random() < 0.3
        given_ = rng.sample(RIGHT + (SWEPT if sweep else []), rng.randint(0, 3))
        given_ = (BASE if rng.random() < 0.7 else []) + given_
        for _ in range(rng.choice([1, 1, 1, 2])):
            given_.insert(
                rng.randrange(len(given_) + 1), broken(rng, rng.choice(RIGHT), house.mark)
            )
        if rng.random() < 0.15:
            house.call("run", "digits/accuracy", "--protocol", "smoke", *given_)
        else:
            house.call("train", *(["-m"] if sweep else []), *given_)
    house.settle(examples(50 * times), "override lists")


ANY = st.text(
    st.one_of(st.sampled_from("${}[](),:=.~+\\'\"#&*!|/ \t\n\x00\x1bab01_-@%é²"), st.characters()),
    max_size=16,
)
KEY = st.sampled_from(sorted({text.partition("=")[0] for text in RIGHT}))
OVERRIDE = st.one_of(ANY, st.tuples(KEY, ANY).map("=".join), st.tuples(ANY, ANY).map("=".join))


def test_any_text_is_an_override_or_refused(house):
    @fuzzed(80)
    @given(st.lists(OVERRIDE, min_size=1, max_size=3), st.booleans())
    def try_(overrides, sweep):
        house.call("train", *(["-m"] if sweep else []), *BASE, *overrides)

    try_()
    house.settle(examples(70), "overrides by hypothesis")


def test_odd_options_and_names_are_refused_in_one_line(house):
    rng = random.Random(SEED)
    names = ["digits/accuracy", "digits", "digits/accurcy", "", "../digits", "digits/", "/", "\x00"]
    for _ in range(examples(100)):
        command = rng.choice(["plan", "table", "show", "publish", "prepare", "run", "tabel"])
        args = [command, rng.choice(names) if rng.random() < 0.3 else names[0]]
        for _ in range(rng.randint(1, 2)):
            args.append(rng.choice(OPTIONS) if rng.random() < 0.9 else misspelt(rng, "--protocol"))
            args += [odd_text(rng, house.mark)] if rng.random() < 0.9 else []
        house.call(*args)
    house.settle(examples(80), "options")
