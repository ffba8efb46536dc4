"""Keys of a setting's other seeds, without making its runs."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from retable.runs.frozen import _keys_by_seed, freeze
from retable.runs.identity import key_of, run_key
from support.composed import planned

SEEDS = st.integers(0, 2**63 - 1)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def test_keys_are_those_of_the_runs():
    plain = freeze(planned("seed=3"))
    seeds = [0, 3, 1, 10, 2**63 - 1, *range(50), 3]
    assert plain.keys(seeds) == [plain.with_seed(seed).key for seed in seeds]
    configs = [plain.config.model_copy(update={"seed": seed}) for seed in seeds]
    assert plain.keys(seeds) == [run_key(config) for config in configs]
    assert plain.keys([]) == []
    again = freeze(planned("seed=8"))
    assert again.keys([3]) == [plain.key]
    assert plain.with_seed(8).keys([3, 9]) == [plain.key, again.with_seed(9).key]


def test_keys_of_settings_with_fields_on_both_sides_of_the_seed():
    # Fields are left out at their defaults, so what stands around the seed differs.
    for overrides in (
        ["trainer.max_epochs=1"],
        ["stages=[test]", "trainer.max_epochs=null"],
        ["device.threads=2", "model.hidden=7", "trainer.precision=64-true"],
        ["best_epoch={monitor: val/loss, mode: min}"],
    ):
        run = freeze(planned(*overrides))
        configs = [run.config.model_copy(update={"seed": seed}) for seed in range(20)]
        assert run.keys(range(20)) == [run_key(config) for config in configs]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=6), VALUE, max_size=5), SEEDS, SEEDS)
def test_the_key_follows_from_the_canonical_text(part, first, second):
    part = {**part, "seed": first}
    by_seed = _keys_by_seed(part)
    for seed in (first, second, 0):
        assert by_seed(seed) == key_of({**json.loads(json.dumps(part)), "seed": seed})
