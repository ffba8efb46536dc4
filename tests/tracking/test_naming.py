"""What a run is called in W&B."""

from __future__ import annotations

from pathlib import Path

import pytest

from retable.tracking import naming
from support.tracking import followed

KEY, CODE = "0123456789ab" + "c" * 52, "fedcba" + "9" * 58


def test_an_id_is_of_key_code_and_generation():
    assert naming.run_id(KEY, CODE) == "0123456789abfedcba"
    assert naming.run_id(KEY, CODE, 2) == "0123456789abfedcbag2"


@pytest.mark.parametrize("generation", [0, 1, 12])
def test_a_generation_is_read_back(generation):
    assert naming.generation_of(naming.run_id(KEY, CODE, generation)) == generation


def test_a_name_is_paper_experiment_seed_and_short_key():
    config = followed(seed=7).config
    assert naming.display_name(config, KEY) == "digits base s7 01234567"
    assert naming.group(config) == "digits/base"
    unnamed = config.model_copy(update={"experiment": None})
    assert naming.display_name(unnamed, KEY) == "digits s7 01234567"
    assert naming.group(unnamed) == "digits"


def test_all_of_w_and_b_lies_in_one_folder():
    assert naming.folder(Path("runs")) == Path("runs/_wandb")
