"""A thousand malformed inputs, part three: experiment files."""

from __future__ import annotations

import random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retable.util import paths
from support.fuzz import SEED, TIMES, examples, fuzzed, house_in
from support.fuzz_mutations import LINES, TREE, broken_yaml, odd_text


@pytest.fixture
def house(tmp_path):
    with house_in(tmp_path) as house:
        yield house


def train(house, data: bytes, *more: str):
    """Train what an experiment file says."""
    file = house.extra / "conf" / "experiment" / "digits" / "mutant.yaml"
    file.write_bytes(data)
    outcome = house.call("train", *more, "experiment=digits/mutant", "seed=0")
    file.unlink()
    return outcome


@pytest.mark.slow
@TIMES
def test_broken_experiment_files_are_refused_in_one_line(house, times):
    rng = random.Random(SEED + times)
    files = [paths.config_file("experiment", n) for n in paths.config_names("experiment")]
    shipped = [file.read_text(encoding="utf-8") for file in files]
    for _ in range(examples(55 * times)):
        data = broken_yaml(rng, rng.choice(shipped), house.mark)
        train(house, data, *(["-m"] if rng.random() < 0.15 else []))
    house.settle(examples(40 * times), "experiment files")


HEAD = "# @package _global_\ndefaults: [/experiment/digits/base]\n"
SECTIONS = ["model", "data", "trainer", "callbacks", "paths", "stages", "device", "best_epoch"]


@pytest.mark.slow
@TIMES
def test_a_foreign_line_in_an_experiment_file_is_refused(house, times):
    rng = random.Random(SEED + times)
    count = examples(60 * times)
    odd = [f"{rng.choice(SECTIONS)}: {odd_text(rng, house.mark)}" for _ in range(count)]
    for line in [*LINES, *odd][:count]:
        train(house, f"{HEAD}{line}\n".encode("utf-8", "surrogatepass"))
    house.settle(examples(48 * times), "lines in experiment files")


@pytest.mark.slow
def test_any_yaml_is_an_experiment_or_refused(house):
    @fuzzed(60)
    @given(TREE, st.booleans(), st.text(max_size=12))
    def try_(value, headed, text):
        head = HEAD if headed else ""
        train(house, (head + yaml.dump(value) + text).encode("utf-8", "surrogatepass"))

    try_()
    house.settle(examples(50), "experiments by hypothesis")
