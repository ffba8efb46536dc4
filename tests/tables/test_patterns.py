"""Patterns of table files: against lists written by hand, and their refusals by line."""

from __future__ import annotations

import itertools
import os
import re
import time
from pathlib import Path
from string import ascii_lowercase

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.tables import spec, table_file
from retable.tables.cell_map_spec import CellMap
from retable.tables.figure_spec import Figure
from retable.tables.heat_spec import Heat, Image
from retable.util.errors import UserError

TABLE = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "accuracy.yaml"
TEXT = TABLE.read_text(encoding="utf-8")
LAST = "differs: Nothing is the same, it is a test."
LOSS = "  loss: {metric: loss, title: Loss, experiment: {paper: digits/base}}"


@pytest.fixture
def read(tmp_path):
    """What a file of some text says."""

    def read(text: str, *, whole: bool = False):
        file = tmp_path / "digits" / "some.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return spec.load_file(file) if whole else table_file.values(file)

    return read


SAME = [
    # A pattern, and the same by hand.
    (
        'a: {"c{step}": {over: {step: [10, 20]}, step: "{step}", title: "after {step} %"}}',
        "a: {c10: {step: 10, title: after 10 %}, c20: {step: 20, title: after 20 %}}",
    ),
    (  # the first axis is the slowest; fields; text as it is written
        'a: {"{m}_{size}": {over: {size: {s: {n: 1.50}, l: {n: 1e-3}}, m: [x, y]},'
        ' o: ["n={n}", k]}}',
        "a: {x_s: {o: [n=1.50, k]}, y_s: {o: [n=1.50, k]}, x_l: {o: [n=1e-3, k]},"
        " y_l: {o: [n=1e-3, k]}}",
    ),
    (  # beside what is written by hand, in order
        'a: {first: 1, "c{i}": {over: {i: [2, 3]}, each: "{i}"}, last: 4}',
        "a: {first: 1, c2: 2, c3: 3, last: 4}",
    ),
    ('a: [1, {over: {i: [2, 3]}, each: "{i}"}, 4]', "a: [1, 2, 3, 4]"),
    ('a: [{over: {i: [2, 3]}, each: ["{i}", x]}]', "a: [[2, x], [3, x]]"),
    ('a: [{over: {i: [2, 3]}, x: "{i}"}]', "a: [{x: 2}, {x: 3}]"),
    (  # alone a name gives whatever it stands for
        'a: {"{k}": {over: {k: {p: {v: null, w: [1]}, q: {v: 5, w: {z: 1}}}}, v: "{v}", w: "{w}"}}',
        "a: {p: {v: null, w: [1]}, q: {v: 5, w: {z: 1}}}",
    ),
    (  # a pattern among the values of an axis
        'a: {"{what}_{g}": {over: {g: [u, v], what: {l: {s: null}, "c{i}": {over: {i: [1, 2]},'
        ' s: "{i}"}}}, s: "{s}"}}',
        "a: {l_u: {s: null}, c1_u: {s: 1}, c2_u: {s: 2}, l_v: {s: null}, c1_v: {s: 1},"
        " c2_v: {s: 2}}",
    ),
    (  # a pattern inside of one
        'a: [{over: {g: [u, v]}, title: "{g}", p: {"c{i}_{g}": {over: {i: [1, 2]}, each: "{i}"}}}]',
        "a: [{title: u, p: {c1_u: 1, c2_u: 2}}, {title: v, p: {c1_v: 1, c2_v: 2}}]",
    ),
    ('a: {"{k}": {over: {k: [1, true]}}}', 'a: {"1": {}, "true": {}}'),
    ('a: {"{k}": {over: {k: [1]}, t: "{{k}} }}{{ {k}"}}', 'a: {"1": {t: "{k} }{ 1"}}'),
    ('a: {"{k}": {over: &o {k: [x]}}}\nb: [{over: *o, each: "{k}"}]', "a: {x: {}}\nb: [x]"),
    ("a: {t: '{k}', f: 'max {D, C}'}", "a: {t: '{k}', f: 'max {D, C}'}"),
    ("a: &x [{over: {i: [1, 2]}, each: '{i}'}]\nb: *x", "a: [1, 2]\nb: [1, 2]"),
    ("a: [{over: {i: [1]}, <<: &m {t: '{i}'}}]", "a: [{t: 1}]"),
    ("select: {over: {model.lr: [1, 2]}}", "select: {over: {model.lr: [1, 2]}}"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "by_hand"), SAME)
def test_a_pattern_is_what_one_would_write_by_hand(read, pattern, by_hand):
    found, expected = read(pattern), yaml.safe_load(by_hand)
    assert repr(found) == repr(expected)  # with types, and in order


WORDS = st.text(ascii_lowercase, min_size=1, max_size=4).map(lambda word: f"w{word}")
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8)


@given(
    axes=st.dictionaries(
        WORDS, st.lists(VALUES, min_size=1, max_size=4, unique=True), min_size=1, max_size=3
    )
)
@settings(max_examples=60, deadline=None)
def test_entries_are_the_product_in_order_and_values_come_back(axes, tmp_path_factory):
    name = "|".join(f"{{{axis}}}" for axis in axes)
    entry = {"over": axes, **{axis: f"<{{{axis}}}>" for axis in axes}}
    file = tmp_path_factory.mktemp("pattern") / "some.yaml"
    file.write_text(yaml.safe_dump({"a": [entry], "b": {name: entry}}, sort_keys=False), "utf-8")
    combinations = list(itertools.product(*axes.values()))
    filled = [
        {axis: f"<{v}>" for axis, v in zip(axes, values, strict=True)} for values in combinations
    ]
    names = ["|".join(values) for values in combinations]
    if len(set(names)) < len(names):  # such as a and |a
        with pytest.raises(UserError, match="stands twice"):
            table_file.values(file)
        return
    found = table_file.values(file)
    assert found["a"] == filled
    assert list(found["b"].items()) == list(zip(names, filled, strict=True))


REFUSED = [
    # (text, line, message)
    ('a:\n  "c{i}":\n    over: {i: [1, 2]}\n    t: "{j}"', 4, "no axis or field 'j'"),
    ('a:\n  "c{step}":\n    over: {step: [1]}\n    t: "{stp}"', 4, "did you mean 'step'?"),
    ('a: [{over: {i: [1]}, each: "{i.real}"}]', 1, "{i.real} is no plain name"),
    ('a: [{over: {i: [1]}, each: "{i[0]}{i}"}]', 1, "{i[0]} is no plain name"),
    ('a: [{over: {i: [1]}, each: "{i!r}{i}"}]', 1, "{i!r} is no plain name"),
    ('a: [{over: {i: [1]}, each: "{i:>9}{i}"}]', 1, "{i:>9} is no plain name"),
    ('a: [{over: {i: [1]}, each: "{}{i}"}]', 1, "{} is no plain name"),
    ('a: [{over: {i: [1]}, each: "{i} {"}]', 1, "a single {; a brace itself is written {{"),
    ('a: [{over: {i: [1]}, each: "{i} }"}]', 1, "a single }; a brace itself is written }}"),
    ("a: [{over: {i: [1]}, each: {i}}]", 1, "{i}: write it in quotes"),
    ('a: [{over: {i: [1]}, each: "{i}", x: 1}]', 1, "x: beside each"),
    ('a: [{over: {i: [1, 2], k: [3, 4]}, each: "{i}"}]', 1, "over.k: does not stand in its temp"),
    ("a:\n  c: {over: {i: [1, 2]}}", 2, "over.i: does not stand in its name 'c'"),
    ('a: {"c{i}": {over: {i: [1]}, k: "{i}"}, c1: 3}', 1, "'c1' stands twice: line 1 with i 1"),
    ('a:\n  "{i}{k}":\n    over: {i: [1, 11], k: [1, 11]}', 2, "'111' stands twice: line 2 with"),
    ("a: [{over: [1]}]", 1, "over: expected axes"),
    ("a: [{over: {}}]", 1, "over: expected axes"),
    ("a: [{over: {i: []}}]", 1, "over.i: expected a list of values"),
    ("a: [{over: {i: 3}}]", 1, "over.i: expected a list of values"),
    ("a: [{over: {i: [[1]]}}]", 1, "over.i: a list has single values only"),
    ("a: [{over: {i: {x: 1}}}]", 1, "over.i.x: expected fields"),
    ("a: [{over: {i: [x, x]}}]", 1, "over.i: 'x' stands twice"),
    ("a: [{over: {i: {x: {i: 1}}}}]", 1, "over.i.x: has a field i"),
    ("a: [{over: {i: {x: {t: 1}}, k: {y: {t: 2}}}}]", 1, "over.k: 't' is a name of axis i too"),
    ("a: [{over: {i: {x: {a b: 1}}}}]", 1, "over.i: 'a b' is no name"),
    ('a: [{over: {i: [1]}, t: "{i}", p: [{over: {i: [2]}}]}]', 1, "'i' is a name of an outer"),
    ('a: {"{i}": {over: {i: {x: {t: 1}, y: {}}}, t: "{t}"}}', 1, "i y has no field 't'"),
    ('a: {"{i}": {over: {i: {x: {t: [1]}}}, t: "is {t}"}}', 1, "{t} is no single value"),
    ('a: {"{t}": {over: {i: {x: {t: [1]}}}}}', 1, "'{t}': is no text, and cannot be a name"),
    ('a: [{over: {i: [1]}, over: {i: [2]}, t: "{i}"}]', 1, "'over' stands twice"),
    ('a: [{over: {i: [1]}, each: "{i}", each: "{i}"}]', 1, "'each' stands twice"),
    ('a: [{over: {i: [1], i: [2]}, t: "{i}"}]', 1, "'i' stands twice"),
    ('a: [{over: {i: {x: {t: 1, t: 2}}}, t: "{t}"}]', 1, "'t' stands twice"),
    ("columns:\n  over: {i: [1]}", 2, "columns: over belongs into an entry"),
    ('columns:\n  "c{i}": {metric: a}', 2, "columns.c{i}: {i} needs an over: in this entry"),
    ('a: [{over: {i: {x: {t: "{i}"}}}, each: k}]', 1, "over.i: does not stand in its template"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), REFUSED)
def test_what_is_no_pattern_is_refused_by_line(read, text, line, message):
    with pytest.raises(UserError) as caught:
        read(text)
    assert f"some.yaml, line {line}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_pattern_that_stands_for_too_much_is_refused_at_once(read):
    ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    axes = ", ".join(f"x{i}: {ten}" for i in range(9))
    names = "".join(f"{{x{i}}}" for i in range(9))
    start = time.process_time()
    with pytest.raises(UserError, match="stands for 1000000000 entries; at most 5000"):
        read(f'a: [{{over: {{{axes}}}, each: "{names}"}}]')
    inner = "1"
    for i in range(6):  # each alone stands for ten
        inner = f'[{{over: {{x{i}: {ten}}}, a: "{{x{i}}}", b: {inner}}}]'
    with pytest.raises(UserError, match="stand for more than 50000 values"):
        read(f"a: {inner}")
    assert time.process_time() - start < 10


PATTERN = """\
  "{what}_{rate}":
    over:
      what: {loss: {said: Loss}}
      rate: [slow, fast]
    metric: "{what}"
    title: "{said}, {rate}"
    experiment: {paper: digits/base}"""


def test_a_whole_table_is_that_of_its_entries(read):
    entry = "  loss_{0}: {{metric: loss, title: 'Loss, {0}', experiment: {{paper: digits/base}}}}"
    by_hand = "\n".join(entry.format(rate) for rate in ("slow", "fast"))
    reported = "    loss_fast: {value: '0.1', grade: primary, where: here}\n  quoted:"
    text = TEXT.replace("    loss: {value", "    loss_slow: {value").replace(
        "  quoted:\n", reported + "\n"
    )
    text = text.replace("  quoted:\n    loss_fast", "    loss_fast")
    one = read(text.replace(LOSS, PATTERN), whole=True)
    other = read(text.replace(LOSS, by_hand), whole=True)
    assert one == other
    assert list(one.columns) == list(other.columns) == ["accuracy", "loss_slow", "loss_fast"]


EXPERIMENT = "    experiment: {paper: digits/base}"
LATER = [
    ('"{what}"', '"{what}s"', "metric: no metric 'losss'", 's"'),
    ("title:", "titel:", "titel: unknown field; did you mean 'title'?", "titel"),
    ("digits/base}", "digits/bas}", "experiment.paper: no experiment 'digits/bas'", "bas}"),
    (EXPERIMENT, f'    step: "{{rate}}"\n{EXPERIMENT}', "step: 'slow' is not valid", "step:"),
    (EXPERIMENT, "", "experiment: is missing", "{what}_"),
]


@pytest.mark.parametrize(("old", "new", "message", "part"), LATER)
def test_a_later_refusal_names_the_line_and_the_values(read, old, new, message, part):
    text = TEXT.replace(LOSS, PATTERN.replace(old, new))
    text = text.replace("    loss: {value", "    loss_fast: {value")
    line = 1 + next(i for i, one in enumerate(text.splitlines()) if part in one)
    with pytest.raises(UserError) as caught:
        read(text, whole=True)
    assert f"some.yaml, line {line}: columns.loss_slow.{message}" in str(caught.value)
    assert "(with what loss, rate slow)" in str(caught.value)


def test_a_claim_and_a_panel_from_a_pattern_are_found_again(read):
    text = TEXT.replace(LOSS, PATTERN).replace("    loss: {value", "    loss_fast: {value")
    panel = 'panels: [{over: {rate: [slow, fats]}, points: {"loss_{rate}": 1}}]'
    with pytest.raises(UserError) as caught:
        read(text.replace(LAST, f"figure: {{x: a, {panel}}}\n{LAST}"), whole=True)
    said = "figure.panels.1.points.loss_fats: no column 'loss_fats'; did you mean 'loss_fast'?"
    assert f"{said} (with rate fats)" in str(caught.value)


def test_examples_of_the_docs(read):
    docs = Path(__file__).parents[2] / "docs" / "tables.md"
    examples = re.findall(r"```yaml\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    whole, six, select, looked, pattern, by_hand, *others = map(read, examples)
    assert whole["reported"]["improved"]["n_iter"]["value"] == "6"
    assert len(six["columns"]) == 6
    assert select["select"]["by"] == "val/accuracy"
    assert [seeds[-1] for seeds in looked["looks"]["at"]] == [
        looked["seeds"]["paper"],
        looked["columns"]["n1000"]["seeds"],
    ]
    assert repr(pattern) == repr(by_hand)
    alone, nested, curve, picture, over, cells, heat, image = others
    assert over["columns"]["delta_m"]["over_columns"]["base"] == "stl"
    assert alone["columns"]["n250"]["seeds"] is None
    assert alone["columns"]["n500"] == {
        "metric": "cate_mse", "seeds": 5, "overrides": ["data.n=500"],
        "experiment": {"paper": "r_learner/lightgbm"},
    }  # fmt: skip
    assert list(nested["columns"])[4:6] == ["l1_large", "c10_large"]
    assert nested["figure"]["panels"][1] == {
        "title": "32 x 32", "points": {"c10_large": 10, "c50_large": 50, "c100_large": 100},
    }  # fmt: skip
    assert nested["claims"][0]["on"] == ["l1_small", "l1_large"]
    assert curve["columns"]["loss_50"]["epoch"] == "50%"
    assert CellMap.model_validate(cells["figure"]).panels[0].rows["eta5"] == "0.05"
    points = Figure.model_validate(picture["figure"]).panels[0].points
    assert list(points) == list(curve["columns"])
    assert [panel.row for panel in Heat.model_validate(heat["figure"]).panels] == [
        "ce_none",
        "ce_all",
    ]
    assert [panel.seed for panel in Image.model_validate(image["figure"]).panels] == [None, 2]
