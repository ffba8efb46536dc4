"""Adult as three tasks: what is encoded, with whose statistics, and what cannot leak."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from retable.data.base import DataPaths
from retable.papers.igb import data_adult
from retable.papers.igb.data_adult import (
    ADULT,
    CATEGORIES,
    COLUMNS,
    N_INPUTS,
    NUMBERS,
    AdultTasks,
    GeneratedTasks,
    encoded,
    read,
)
from retable.util.errors import UserError

MIRROR = os.environ.get("RETABLE_MIRROR")
TARGETS = ("income", "marital-status", "hours-per-week")


def table(n, seed=0, **columns):
    """Rows with a few categories; the fields of some columns may be given."""
    rng = np.random.default_rng(seed)
    choices = {
        "marital-status": ["Never-married", "Divorced", "Married-civ-spouse"],
        "income": ["<=50K", ">50K"],
        "sex": ["Female", "Male"],
    }
    out = {}
    for name in COLUMNS:
        if name in (*NUMBERS, "hours-per-week", "fnlwgt"):
            out[name] = tuple(map(str, rng.integers(0, 90, n)))
        else:
            out[name] = tuple(rng.choice(choices.get(name, ["?", "b", "c"]), n).tolist())
    return {**out, **columns}


def small(monkeypatch, known, test, **options):
    monkeypatch.setattr(AdultTasks, "texts", lambda _: (known, test))
    data = AdultTasks(**{"seed": 0, "paths": DataPaths(Path("unused")), **options})
    data.setup("fit")
    return data


def test_a_row_becomes_numbers_and_indicators():
    known = table(4, age=("20", "30", "40", "99"), sex=("Male", "Female", "Male", "Male"))
    x, targets = encoded(known, known, np.array([0, 2]))
    assert x.dtype == torch.float32
    assert x[:, 0].tolist() == pytest.approx([-1, 0, 1, 6.9])  # mean 30, deviation 10 of two rows
    widths = [len(set(known[name])) for name in CATEGORIES]
    assert x.shape == (4, len(NUMBERS) + sum(widths))
    ends = np.cumsum([len(NUMBERS), *widths])
    for name, start, stop in zip(CATEGORIES, ends, ends[1:], strict=False):
        part = x[:, start:stop]
        assert (part.sum(1) == 1).all()
        names = sorted(set(known[name]))
        assert [names[k] for k in part.argmax(1).tolist()] == list(known[name])
    assert targets["income"].tolist() == [int(v == ">50K") for v in known["income"]]
    assert {t: y.dtype for t, y in targets.items()} == {
        "income": torch.int64,
        "married": torch.int64,
        "hours": torch.float32,
    }


@pytest.mark.parametrize(
    ("status", "married"),
    [("Never-married", 0), ("Divorced", 1), ("Widowed", 1), ("Married-civ-spouse", 1)],
)
def test_who_was_ever_married(status, married):
    known = table(3, **{"marital-status": (status,) * 3})
    assert encoded(known, known, np.arange(3))[1]["married"].tolist() == [married] * 3


def test_a_category_that_is_not_in_adult_data_has_no_indicator():
    known = table(6, race=("a", "b") * 3)
    x = encoded({**known, "race": ("b", "new") * 3}, known, np.arange(6))[0]
    same = encoded(known, known, np.arange(6))[0]
    (differ,) = np.nonzero((x != same).any(0).numpy())
    assert x[:, differ].tolist() == [[0, 1], [0, 0]] * 3
    assert same[:, differ].tolist() == [[1, 0], [0, 1]] * 3


@pytest.mark.parametrize("column", [*TARGETS, "relationship", "fnlwgt"])
def test_inputs_do_not_depend_on_targets_nor_on_what_says_them(column):
    known, other = table(30), table(30, seed=1)
    x = encoded(known, known, np.arange(20))[0]
    changed = {**known, column: other[column]}
    assert torch.equal(encoded(changed, changed, np.arange(20))[0], x)
    for name in (*NUMBERS, *CATEGORIES):
        changed = {**known, name: other[name]}
        assert not torch.equal(encoded(changed, changed, np.arange(20))[0], x)


def test_statistics_are_those_of_training_rows(monkeypatch):
    known, test = table(50), table(20, seed=1)
    data = small(monkeypatch, known, test, n_validation=15)
    x, *_, hours = data.train
    assert len(x) == 35
    assert torch.allclose(x[:, :4].mean(0), torch.zeros(4), atol=1e-6)
    assert torch.allclose(x[:, :4].std(0, correction=0), torch.ones(4), atol=1e-5)
    assert hours.mean().item() == pytest.approx(0, abs=1e-6)
    assert hours.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    far = {**test, "age": ("1000",) * 20, "hours-per-week": ("1000",) * 20}
    moved = small(monkeypatch, known, far, n_validation=15)
    assert all(torch.equal(a, b) for a, b in zip(moved.train, data.train, strict=True))
    assert moved.test[0][:, 0].min() > 20
    assert moved.test[3].min() > 20
    assert torch.equal(moved.test[0][:, 1:], data.test[0][:, 1:])


@pytest.mark.parametrize("seed", [0, 1])
def test_every_row_of_adult_data_is_in_one_part(monkeypatch, seed):
    known, test = table(60, education=tuple(f"{k:02}" for k in range(60))), table(10)
    data = small(monkeypatch, known, test, seed=seed, n_validation=20)
    start = len(NUMBERS) + len(set(known["workclass"]))
    rows = [part[0][:, start : start + 60].argmax(1) for part in (data.train, data.validation)]
    assert [len(part) for part in rows] == [40, 20]
    assert sorted(torch.cat(rows).tolist()) == list(range(60))
    for part, split in zip(rows, (data.train, data.validation), strict=True):
        assert split[1].tolist() == [int(known["income"][k] == ">50K") for k in part]
    again = small(monkeypatch, known, test, seed=seed, n_validation=20)
    assert all(torch.equal(a, b) for a, b in zip(again.train, data.train, strict=True))
    other = small(monkeypatch, known, test, seed=seed + 1, n_validation=20)
    assert not torch.equal(other.validation[0], data.validation[0])
    assert torch.equal(other.test[1], data.test[1])
    assert data.test[2].tolist() == [int(v != "Never-married") for v in test["marital-status"]]


def test_setting_aside_all_rows_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"data\.n_validation: 60 of 60 rows, none is left"):
        small(monkeypatch, table(60), table(10), n_validation=60)


def test_a_row_of_other_fields_is_refused(tmp_path):
    file = tmp_path / "adult.data"
    row = ", ".join(str(k) for k in range(len(COLUMNS)))
    file.write_text(f"{row}\n\n{row}\n")
    assert read(file)["age"] == ("0", "0")
    file.write_text(f"{row}\n{row}, 1\n")
    with pytest.raises(UserError, match=r"adult\.data, row 2: has 16 fields, not 15"):
        read(file)


def test_files_are_fetched_from_the_mirror_or_said_to_be_missing(tmp_path, monkeypatch):
    nowhere = [file._replace(url="file:///nowhere/at/all") for file in ADULT]
    monkeypatch.setattr(data_adult, "ADULT", nowhere)
    with pytest.raises(UserError, match=r"adult\.data: neither in a mirror .* set RETABLE_MIRROR"):
        AdultTasks(seed=0, paths=DataPaths(tmp_path / "cache")).prepare_data()
    altered = tmp_path / "mirror" / ADULT[0].name
    altered.parent.mkdir(parents=True)
    altered.write_text("another file\n")
    with pytest.raises(UserError, match="is truncated or altered"):
        AdultTasks(seed=0, paths=DataPaths(tmp_path / "cache", tmp_path / "mirror")).prepare_data()


def test_the_generated_table_has_adults_tasks_and_is_the_same_for_every_seed():
    one, other = (GeneratedTasks(seed=seed, paths=DataPaths(Path("unused"))) for seed in (0, 1))
    for data in (one, other):
        data.prepare_data()
        data.setup("fit")
    assert one.tasks == AdultTasks(seed=0, paths=DataPaths(Path("unused"))).tasks
    assert one.train[0].shape == (256, N_INPUTS)
    for part in ("train", "validation", "test"):
        pairs = zip(getattr(one, part), getattr(other, part), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    x, income, married, hours = one.train
    for y in (income, married):
        assert 0.3 < y.float().mean() < 0.7
    # Tasks share what they depend on: the mean of one is another where a second is 1.
    assert hours[(income == 1) & (married == 0)].mean() > hours[income != married].mean() + 0.3
    assert len(torch.unique(torch.cat([x, one.validation[0], one.test[0]]), dim=0)) == 384


@pytest.fixture
def mirror():
    if MIRROR is None or not (Path(MIRROR) / ADULT[0].name).is_file():
        pytest.skip("needs the real data: set RETABLE_MIRROR")
    return Path(MIRROR)


@pytest.mark.slow
def test_the_real_set(tmp_path, mirror):
    data = AdultTasks(seed=0, paths=DataPaths(tmp_path / "cache", mirror))
    data.prepare_data()
    data.setup("fit")
    rows = [len(part[0]) for part in (data.train, data.validation, data.test)]
    assert rows == [26_000, 6_561, 16_281]
    assert data.train[0].shape[1] == N_INPUTS
    income = [torch.cat([data.train[1], data.validation[1]]), data.test[1]]
    assert [int(y.sum()) for y in income] == [7_841, 3_846]  # as adult.names has it: 24.08 %
    married = torch.cat([data.train[2], data.validation[2]])
    assert int((married == 0).sum()) == 10_683
    assert data.train[3].mean().item() == pytest.approx(0, abs=1e-5)
    assert data.train[3].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(data.train[0][:, 4:].sum(1), torch.full((26_000,), 6.0))
    assert data.test[0].isfinite().all()
