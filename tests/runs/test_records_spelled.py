"""Text of records, spelled oddly or damaged: the same numbers bit for bit, or one refusal."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from retable.runs import records
from retable.runs.records import Blessing, Record, RecordError, ResultRow, Status
from support.fuzz import SEED, examples
from support.fuzz_mutations import odd_value, structural, textual
from support.records import config_of, record_of

BLESSING = Blessing(was="f", seed=3, commit=None, at="2026-01-01T00:00:00+00:00")
REFUSED = [
    ('"value":0.', '"value":1e999,"x":0.'),
    ('"value":', '"value":NaN,"y":'),
    ('"wall_s":1.0', '"wall_s":1e10'),
    ('"wall_s":1.0', '"wall_s":-0.1'),
    ('"wall_s":1.0', '"wall_s":true'),
    ('"attempt":1', '"attempt":9223372036854775808'),
    ('"attempt":1', '"attempt":-1'),
    ('"seed":0', '"seed":"0"'),
    ('"seed":0', '"seed":null'),
    ('"version":1', '"version":2'),
    ('"version":1', '"version":true'),
    ('"version":1', '"version":"1"'),
    ('"status":"done"', '"status":"Done"'),
    ('"device":"cpu"', '"device":"\\ud800"'),
    ('"device":"cpu"', '"device":"\x1f"'),
    ('"cores":1', '"cores":01'),
    ('"cpu_s":1.0', '"cpu_s":' + "9" * 400),
    ('"cpu_s":1.0', '"cpu_s":1.'),
    ('"results":[', '"results":[[],'),
    ('"results":[', '"results":[null,'),
    ('"config":{', '"config":{"deep":' + "[" * 195 + "]" * 195 + ","),
    ('"config":{', '"config":{"deep":' + "[" * 9999 + "]" * 9999 + ","),
    ('"config":{', '"config":{"n":1e400,'),
    ('"config":{', '"config":{"n":-Infinity,'),
    ("{", "\ufeff{"),
    ("}", "},}"),
    ("}", "}x"),
    ('"key":', '"Key":'),
    ('"error":', '"errors":'),
    ("0.25", "null"),
    ("0.25", '"1"'),
    ("0.25", ""),
]
ACCEPTED = [
    ('"seed":0', '"seed":9223372036854775807'),
    ('"version":1,', ""),
    ('"device":"cpu"', '"device":"\\u0063pu"'),
    ('"cpu_s":1.0', '"cpu_s":1'),
    ('"config":{', '"config":{"deep":' + '{"a":' * 90 + "1" + "}" * 90 + ","),
    ('"config":{', '"config":{"":{"":[{}]},"":0,'),
    ("{", " \t\r\n{"),
    ('"key":', '"\\u006bey":'),
]


def full_record(**changes: Any) -> Record:
    numbers = {("test/loss", "", None): 0.1 + 0.2, ("curve", "train é", 3): 0.5, "x": -0.0}
    return structs.replace(
        record_of(config_of(), numbers),
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


def spelled(old: str, new: str) -> bytes:
    text = records.dump(full_record())
    assert old in text
    return text.replace(old, new, 1).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number):
    with pytest.raises(RecordError, match=r"^x: ") as refused:
        records.parse(spelled(*REFUSED[number]), "x")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_accepted(number):
    assert records.parse(spelled(*ACCEPTED[number]), "x").key == full_record().key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"seed":0', '"seed":"0"', r"\(seed: Expected `int`, got `str`\)"),
        ('"cores":1', '"cores":"1"', r"\(provenance.cores: Expected `int`"),
        ('"value":0.5', '"value":"a"', r"\(results\[1\].value: Expected `float`"),
        ('"error":', '"errors":', r"\(errors: is unknown here; of a newer retable\?\)"),
        ('"cores":', '"kores":', r"\(provenance.kores: is unknown here"),
        ('"threads":1,', "", r"\(file: Object missing required field `threads`\)"),
        ("}", "", r"\(file: JSON is malformed|\(file: Input data was truncated"),
    ],
)
def test_a_refusal_says_where(old, new, said):
    with pytest.raises(RecordError, match=said):
        records.parse(spelled(old, new), "x")


@pytest.mark.parametrize("status", list(Status))
def test_what_is_written_is_read_again(status):
    made = full_record(status=status)
    assert records.parse(records.dump(made), "x") == made
    many = [ResultRow(metric="m", step=step, value=step / 7) for step in range(200)]
    made = full_record(status=status, results=many)
    assert records.parse(records.dump(made), "x") == made


@pytest.mark.parametrize(
    "changes",
    [
        {"wall_s": math.nan},
        {"wall_s": -1.0},
        {"seed": -1},
        {"attempt": 2**63},
        {"validation": {"val/loss": math.inf}},
        {"results": [ResultRow(metric="m", value=math.nan)]},
        {"config": {"object": object()}},
    ],
)
def test_what_could_not_be_read_again_is_not_written(changes):
    with pytest.raises(RecordError):
        records.dump(full_record(**changes))


def test_damaged_records_are_refused_in_one_line_or_read():
    rng = random.Random(SEED)
    text = records.dump(full_record())
    parsed = json.loads(text)
    read = 0
    for number in range(examples(4000)):
        if number % 2:
            value = structural(rng, parsed, lambda: odd_value(rng))
            data = json.dumps(value, default=str, ensure_ascii=rng.random() < 0.5)
            data = data.encode("utf-8", "surrogatepass")
        else:
            data = textual(rng, text, "mark")
        try:
            record, said = records.parse(data, "x"), ""
        except RecordError as error:
            record, said = None, str(error)
        assert said.isprintable()
        if record is not None:
            read += 1
            assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record
    assert read > examples(100)


finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(
    finite.map(repr),
    st.tuples(finite, st.integers(0, 30)).map(lambda pair: f"{pair[0]:.{pair[1]}e}"),
    st.integers(-(10**25), 10**25).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


@settings(max_examples=400, deadline=None)
@given(numbers)
def test_every_number_is_the_same_bit_for_bit(number):
    text = records.dump(record_of(config_of(), {"test/loss": 12345.0}))
    data = text.replace("12345.0", number).encode()
    if math.isfinite(float(number)):
        read = records.parse(data, "x")
        assert repr(read.results[0].value) == repr(float(json.loads(number)))
        assert records.parse(records.dump(read), "x") == read
    else:
        with pytest.raises(RecordError):
            records.parse(data, "x")


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
), max_size=4))  # fmt: skip
def test_any_config_is_read_as_json_reads_it(config):
    made = full_record(config=json.loads(json.dumps(config)))
    read = records.parse(records.dump(made), "x")
    assert repr(read.config) == repr(json.loads(records.dump(made))["config"])
    assert read == made
