"""A thousand malformed inputs, part two: table files."""

from __future__ import annotations

import random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retable.config import compose_cache
from retable.util import paths
from support.fuzz import SEED, TIMES, examples, fuzzed, house_in
from support.fuzz_mutations import TREE, broken_yaml


@pytest.fixture
def house(tmp_path, monkeypatch):
    # No table is part of a run's config: what its experiments are is composed once, not anew for
    # every mutant. What its own overrides make is.
    below = compose_cache._below
    monkeypatch.setattr(
        compose_cache, "_below", lambda folder: (p for p in below(folder) if "table" not in p.parts)
    )
    with house_in(tmp_path) as house:
        yield house


def read(house, command: str, paper: str, data: bytes) -> None:
    """Let a command read a table file."""
    file = house.extra / "conf" / "table" / paper / "mutant.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    house.call(command, f"{paper}/mutant")
    file.unlink()


@pytest.mark.slow
@TIMES
def test_broken_table_files_are_refused_in_one_line(house, times):
    rng = random.Random(SEED + times)
    shipped = {n: paths.config_file("table", n) for n in paths.config_names("table")}
    texts = {n: file.read_text(encoding="utf-8") for n, file in shipped.items() if file}
    quick = [n for n in sorted(texts) if len(texts[n]) < 5000]
    names = [*sorted(texts), *quick * 4]
    wanted = examples(150 * times)
    for _ in range(2 * wanted):  # of those that are broken a fifth is still valid
        if len(house.refused) == wanted:
            break
        name = rng.choice(names)
        # To plan the others takes a second where a mutant is valid.
        command = "plan" if name.startswith("digits") and rng.random() < 0.4 else "show"
        read(house, command, name.partition("/")[0], broken_yaml(rng, texts[name], house.mark))
    house.settle(wanted, "table files")


def test_any_yaml_is_a_table_or_refused(house):
    @fuzzed(60)
    @given(TREE, st.text(max_size=12))
    def try_(value, text):
        data = (yaml.dump(value) + text).encode("utf-8", "surrogatepass")
        read(house, "show", "digits", data)

    try_()
    house.settle(examples(50), "tables by hypothesis")
