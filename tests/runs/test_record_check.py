"""What msgspec accepts as a record, pydantic accepts with the same values; never the other way."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fuzz_mutations import odd_value, structural, textual
from fuzz_support import SEED, examples
from records_support import config_of, record_of
from retable.runs import record_check, records
from retable.runs.records import Blessing, Record, RecordError, ResultRow, Status

BLESSING = Blessing(was="f", seed=3, commit=None, at="2026-01-01T00:00:00+00:00")
SWAPS = [
    ('"value":0.', '"value":1e999,"x":0.'),
    ('"value":', '"value":NaN,"y":'),
    ('"value":0.', '"value":9e308,"step":0.'),
    ('"wall_s":1.0', '"wall_s":1e10'),
    ('"wall_s":1.0', '"wall_s":-0.1'),
    ('"wall_s":1.0', '"wall_s":true'),
    ('"attempt":1', '"attempt":1.0'),
    ('"attempt":1', '"attempt":9223372036854775808'),
    ('"attempt":1', '"attempt":-1'),
    ('"seed":0', '"seed":9223372036854775807'),
    ('"seed":0', '"seed":"0"'),
    ('"seed":0', '"seed":null'),
    ('"version":1', '"version":2'),
    ('"version":1', '"version":true'),
    ('"version":1', '"version":1.0'),
    ('"version":1,', ""),
    ('"status":"done"', '"status":"Done"'),
    ('"status":"done"', '"status":"failed"'),
    ('"device":"cpu"', '"device":"\\ud800"'),
    ('"device":"cpu"', '"device":"\x1f"'),
    ('"device":"cpu"', '"device":"\\u0000"'),
    ('"threads":1', '"threads":1,"threads":2'),
    ('"threads":1', '"threads":"x","threads":2'),
    ('"threads":1', '"threads":2,"threads":"x"'),
    ('"cores":1', '"cores":1e0'),
    ('"cores":1', '"cores":01'),
    ('"cores":1', '"cores":' + "9" * 5000),
    ('"cpu_s":1.0', '"cpu_s":' + "9" * 400),
    ('"cpu_s":1.0', '"cpu_s":1.'),
    ('"cpu_s":1.0', '"cpu_s":1,'),
    ('"results":[', '"results":[[],'),
    ('"results":[', '"results":[null,'),
    ('"config":{', '"config":{"deep":' + '{"a":' * 90 + "1" + "}" * 90 + ","),
    ('"config":{', '"config":{"deep":' + "[" * 195 + "]" * 195 + ","),
    ('"config":{', '"config":{"deep":' + "[" * 300 + "]" * 300 + ","),
    ('"config":{', '"config":{"n":' + "9" * 5000 + ","),
    ('"config":{', '"config":{"n":1e400,'),
    ('"config":{', '"config":{"n":-Infinity,'),
    ('"config":{', '"config":{"":{"":[{}]},"":0,'),
    ("{", "\ufeff{"),
    ("}", "},}"),
    ("{", " \t\r\n{"),
    ("}", "}x"),
    ('"key":', '"\\u006bey":'),
    ('"key":', '"Key":'),
    ('"error":', '"errors":'),
]


def full_record(**changes: Any) -> Record:
    numbers = {("test/loss", "", None): 0.1 + 0.2, ("curve", "train é", 3): 0.5, "x": -0.0}
    return record_of(
        config_of(),
        numbers,
        **{
            "error": 'said "no"\n',
            "timing_metrics": ["x"],
            "validation": {"val/loss": 0.25},
            "blessings": [BLESSING],
            "best_epoch": 0,
            "weights_sha256": "0" * 64,
            **changes,
        },
    )


def plain(value: Any) -> Any:
    """Both kinds of objects as JSON with every bit of every number and the type of each."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return (type(value).__name__, repr(value))


def holds(data: bytes) -> bool:
    """Whether it is accepted; it may not be where parse refuses, and has to say the same."""
    fast = record_check.accepted(data)
    if fast is None:
        return False
    try:
        slow = records.parse(data, "x")
    except RecordError as error:
        pytest.fail(f"accepted, but {error}: {data[:2000]!r}")
    assert plain(fast) == plain(slow)
    return True


@pytest.mark.parametrize("status", list(Status))
def test_what_retable_writes_is_accepted(status):
    """Else it would be right and slow."""
    assert holds(records.dump(full_record(status=status)).encode())
    assert holds(records.dump(record_of(config_of())).encode())


@pytest.mark.parametrize("number", range(len(SWAPS)))
def test_odd_spellings(number):
    old, new = SWAPS[number]
    text = records.dump(full_record())
    assert old in text or old == '"error":'
    holds(text.replace(old, new, 1).encode("utf-8", "surrogatepass"))


def test_mutated_records():
    rng = random.Random(SEED)
    text = records.dump(full_record())
    parsed = json.loads(text)
    yes = 0
    for number in range(examples(4000)):
        if number % 2:
            value = structural(rng, parsed, lambda: odd_value(rng))
            data = json.dumps(value, default=str, ensure_ascii=rng.random() < 0.5)
            yes += holds(data.encode("utf-8", "surrogatepass"))
        else:
            yes += holds(textual(rng, text, "mark"))
    assert yes > examples(100)  # there were enough that both could read


finite = st.floats(allow_nan=False, allow_infinity=False)
spelled = st.one_of(
    finite.map(repr),
    st.tuples(finite, st.integers(0, 30)).map(lambda pair: f"{pair[0]:.{pair[1]}e}"),
    st.integers(-(10**25), 10**25).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


@settings(max_examples=400, deadline=None)
@given(spelled)
def test_every_number_is_the_same_bit_for_bit(number):
    text = records.dump(record_of(config_of(), {"test/loss": 12345.0}))
    data = text.replace("12345.0", number).encode()
    assert holds(data) or not math.isfinite(float(number))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
), max_size=4))  # fmt: skip
def test_any_config_is_read_the_same(config):
    data = json.dumps({**json.loads(records.dump(full_record())), "config": config})
    holds(data.encode("utf-8", "surrogatepass"))


def test_an_infinite_or_missing_number_is_never_accepted():
    text = records.dump(full_record())
    for value in ("NaN", "Infinity", "-Infinity", "1e999", "-1e400", "null", '"1"', ""):
        assert record_check.accepted(text.replace("0.25", value).encode()) is None, value
        assert record_check.accepted(text.replace("0.30000000000000004", value).encode()) is None, (
            value
        )


def test_a_schema_that_msgspec_cannot_say_is_not_guessed():
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class Loose(BaseModel):
        a: int

    class Bounded(Model):
        a: int = Field(multiple_of=3)

    class Unknown(Model):
        a: tuple[int, ...]

    class Checked(Model):
        a: int

        @field_validator("a")
        @classmethod
        def _check(cls, value: int) -> int:
            return value

    for model in (Loose, Bounded, Unknown, Checked):
        with pytest.raises(TypeError, match="no translation"):
            record_check._struct(model)


def test_results_at_their_limits():
    many = [ResultRow(metric="m", step=step, value=step / 7) for step in range(200)]
    assert holds(records.dump(full_record(results=many)).encode())
