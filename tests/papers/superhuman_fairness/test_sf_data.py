"""Encodings, splits, and what is said where a file is missing, altered or another one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from retable.data.base import DataPaths
from retable.papers.superhuman_fairness import data as sf_data
from retable.papers.superhuman_fairness.data import (
    ADULT,
    ADULT_FILES,
    COMPAS_FILE,
    Adult,
    Compas,
    Expected,
    Generated,
    check,
    halve,
)
from retable.papers.superhuman_fairness.encode_adult import CATEGORIES, COLUMNS, encode_adult
from retable.papers.superhuman_fairness.encode_compas import encode_compas
from retable.papers.superhuman_fairness.units import Units
from retable.util.errors import UserError

MIRROR = os.environ.get("RETABLE_MIRROR")

LINES = [
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White,"
    " Male, 2174, 0, 40, United-States, <=50K",
    "24, ?, 83311, HS-grad, 9, Divorced, ?, Unmarried, Black, Female, 0, 0, 20, ?, >50K",
]
HEADER = (
    "id,sex,age_cat,race,priors_count,days_b_screening_arrest,c_charge_degree,is_recid,"
    "score_text,decile_score,priors_count,two_year_recid"
)
CASES = [
    "1,Male,25 - 45,African-American,0,-1,F,1,Low,1,9,1",
    "2,Female,Less than 25,Caucasian,4,30,M,0,High,8,9,0",
]


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def paths(tmp_path, mirror=None) -> DataPaths:
    return DataPaths(tmp_path / "cache", Path(mirror) if mirror else None)


class TestAdult:
    def test_a_line_becomes_109_inputs(self, tmp_path):
        units = encode_adult([written(tmp_path / "adult.data", *LINES)])
        assert units.x.shape == (2, ADULT.columns)
        assert units.y.tolist() == [0, 1]
        assert units.a.tolist() == [0, 1]
        assert units.x.dtype == np.float64
        assert units.x[:, -3:].tolist() == [[0, 1, 1], [1, 0, 2]]  # below 25, not, gender 1 or 2
        assert np.allclose(units.x[:, 0], [1, -1])  # two ages, population deviation
        assert (units.x[:, 6:-3].sum(axis=1) == len(CATEGORIES)).all()

    def test_an_unknown_value_is_a_category_of_its_own(self, tmp_path):
        units = encode_adult([written(tmp_path / "adult.data", *LINES)])
        first = 6 + len(CATEGORIES["race"])
        assert units.x[:, first].tolist() == [0, 1]
        assert CATEGORIES["workclass"][0] == "?"

    def test_ucis_own_test_file_is_the_same(self, tmp_path):
        """A comment first, full stops after the labels, a blank line at the end."""
        plain = written(tmp_path / "plain", *LINES)
        own = written(tmp_path / "own", "|1x3 Cross validator", *(f"{x}." for x in LINES), "")
        for left, right in zip(
            *(vars(encode_adult([p])).values() for p in (plain, own)), strict=True
        ):
            np.testing.assert_array_equal(left, right)

    def test_continuous_columns_are_standardised_over_both_files(self, tmp_path):
        two = [written(tmp_path / str(k), line) for k, line in enumerate(LINES)]
        one = [written(tmp_path / "all", *LINES)]
        np.testing.assert_array_equal(encode_adult(two).x, encode_adult(one).x)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("39,", "x,", "line 1: age is 'x', no number"),
            ("39,", "nan,", "line 1: age is not finite"),
            ("White", "Withe", "line 1: race is 'Withe'.*did you mean 'White'"),
            ("Male", "M", "line 1: sex is 'M'"),
            ("39, ", "", "line 1: has 14 fields, expected 15"),
            ("<=50K", "no", "line 1: income is 'no'"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, tmp_path, old, new, message):
        path = written(tmp_path / "adult.data", LINES[0].replace(old, new), LINES[1])
        with pytest.raises(UserError, match=rf"adult.data, {message}"):
            encode_adult([path])

    def test_every_column_is_used_or_a_label(self):
        used = {*CATEGORIES, "sex", "income"}
        assert used | {c for c in COLUMNS if c not in used} == set(COLUMNS)
        assert 6 + sum(map(len, CATEGORIES.values())) + 3 == ADULT.columns


class TestCompas:
    def test_a_line_becomes_eight_inputs(self, tmp_path):
        units = encode_compas(written(tmp_path / "c.csv", HEADER, *CASES))
        assert units.x.tolist() == [[1, 1, 0, 0, 0, 1, -1, 0], [1, 0, 0, 1, 1, 0, 1, 1]]
        assert units.y.tolist() == [1, 0]
        assert units.a.tolist() == [0, 1]

    def test_the_first_of_two_columns_of_one_name_counts(self, tmp_path):
        """The file has prior offences twice; the second one is constant here."""
        units = encode_compas(written(tmp_path / "c.csv", HEADER, *CASES))
        assert np.unique(units.x[:, 6]).tolist() == [-1, 1]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("-1,F", "31,F"),
            ("-1,F", "-31,F"),
            ("-1,F", ",F"),
            ("-1,F", "-1,O"),
            ("F,1,Low", "F,-1,Low"),
            ("Low", "N/A"),
            ("African-American", "Hispanic"),
        ],
    )
    def test_rows_that_propublica_leaves_out_are_left_out(self, tmp_path, old, new):
        kept = encode_compas(
            written(tmp_path / "c.csv", HEADER, CASES[0].replace(old, new), CASES[1])
        )
        assert len(kept) == 1
        assert kept.a.tolist() == [1]

    @pytest.mark.parametrize("days", ["-30", "30", "0"])
    def test_thirty_days_are_near_enough(self, tmp_path, days):
        line = CASES[0].replace("-1,F", f"{days},F")
        assert len(encode_compas(written(tmp_path / "c.csv", HEADER, line, CASES[1]))) == 2

    def test_a_wrong_column_is_named_with_the_nearest(self, tmp_path):
        path = written(tmp_path / "c.csv", HEADER.replace("race", "rase"), *CASES)
        with pytest.raises(UserError, match=r"has no column 'race'; did you mean 'rase'"):
            encode_compas(path)

    def test_an_empty_or_ragged_file_is_named(self, tmp_path):
        with pytest.raises(UserError, match="is empty"):
            encode_compas(written(tmp_path / "c.csv"))
        with pytest.raises(UserError, match="line 3: has 11 fields, expected 12"):
            encode_compas(written(tmp_path / "c.csv", HEADER, CASES[0], CASES[1][2:]))

    def test_what_is_no_text_is_named(self, tmp_path):
        path = tmp_path / "c.csv"
        path.write_bytes(b"\xff\xfe\x00a,b\n")
        with pytest.raises(UserError, match="is no CSV file"):
            encode_compas(path)


@pytest.mark.parametrize(
    ("module", "name"), [(Adult, ADULT_FILES[0].name), (Compas, COMPAS_FILE.name)]
)
def test_an_altered_file_is_refused(tmp_path, module, name):
    target = tmp_path / "mirror" / name
    target.parent.mkdir(parents=True)
    target.write_text("another file\n")
    made = module(seed=0, paths=paths(tmp_path, tmp_path / "mirror"))
    with pytest.raises(UserError, match=r"is truncated or altered .* mend the mirror"):
        made.prepare_data()


@pytest.mark.parametrize("module", [Adult, Compas])
def test_a_file_that_is_nowhere_is_named_with_the_remedy(tmp_path, module, monkeypatch):
    monkeypatch.setattr(
        sf_data,
        "fetch",
        lambda name, url, sha256, **places: sf_data_fetch_offline(name, sha256, **places),
    )
    with pytest.raises(UserError, match="set RETABLE_MIRROR"):
        module(seed=0, paths=paths(tmp_path)).prepare_data()


def sf_data_fetch_offline(name, sha256, **places):
    from retable.data.fetch import fetch

    return fetch(name, "file:///nowhere/at/all", sha256, **places)


def test_counts_that_are_not_the_papers_are_refused():
    units = Units(
        np.zeros((4, 2)), np.array([0, 1, 1, 0], np.int8), np.array([0, 0, 1, 1], np.int8)
    )
    right = Expected(4, 2, (2, 2), (1, 1))
    assert check(units, right, "X") is units
    for wrong, message in [
        (right._replace(rows=5), "X: has 4 rows once encoded, expected 5"),
        (right._replace(columns=3), "has 2 columns"),
        (right._replace(group=(3, 1)), "has 2 rows of group 0"),
        (right._replace(positive=(1, 2)), "has 1 positive labels of group 1"),
    ]:
        with pytest.raises(UserError, match=message):
            check(units, wrong, "X")


class TestHalves:
    @pytest.mark.parametrize("n", [10, 11])
    def test_every_item_is_in_one_half(self, n):
        first, second = halve(n, 0)
        assert (len(first), len(second)) == (n // 2, n - n // 2)
        assert sorted([*first, *second]) == list(range(n))
        assert (halve(n, 0)[0] == first).all()
        assert (halve(n, 1)[0] != first).any()

    @pytest.mark.parametrize("n", [40, 41])
    def test_stratified_halves_have_equal_shares_of_each_label(self, n):
        y = (np.arange(n) % 4 == 0).astype(np.int8)
        first, second = halve(n, 3, y=y)
        assert sorted([*first, *second]) == list(range(n))
        assert abs(int(y[first].sum()) - int(y[second].sum())) <= 1
        assert abs(len(first) - len(second)) <= 1
        assert (halve(n, 4, y=y)[0] != first).any()

    def test_a_run_is_given_both_halves_and_never_an_item_twice(self, tmp_path):
        made = Generated(seed=1, paths=paths(tmp_path), n=60)
        made.setup("fit")
        (batch,) = made.train_dataloader()
        train, test = batch.units()
        assert len(train) == len(test) == 30
        both = np.vstack([train.x, test.x])
        assert sorted(map(tuple, both)) == sorted(map(tuple, made.units().x))

    def test_the_split_follows_from_the_seed(self, tmp_path):
        def rows(seed):
            made = Generated(seed=seed, paths=paths(tmp_path), n=60)
            made.setup("fit")
            (batch,) = made.test_dataloader()
            return batch.x.tolist()

        assert rows(0) == rows(0) != rows(1)

    def test_stratifying_is_an_option(self, tmp_path):
        made = Generated(seed=0, paths=paths(tmp_path), n=200, stratified=True)
        made.setup("fit")
        (batch,) = made.train_dataloader()
        assert abs(int(batch.y.sum()) - int(batch.y_test.sum())) <= 1


def test_generated_items_have_the_structure_of_the_real_ones(tmp_path):
    units = Generated(seed=0, paths=paths(tmp_path), n=4000, columns=5).units()
    assert units.x.shape == (4000, 5)
    assert (units.x[:, 0] == 1).all()
    assert (units.x[:, 1] == units.a).all()
    assert 0.2 < units.y.mean() < 0.4
    assert units.y[units.a == 0].mean() > units.y[units.a == 1].mean() + 0.05


def test_units_are_refused_where_they_do_not_fit():
    good = np.zeros(3, np.int8)
    with pytest.raises(ValueError, match="shapes differ"):
        Units(np.zeros((3, 2)), good, good[:2])
    with pytest.raises(ValueError, match="a: a value is neither 0 nor 1"):
        Units(np.zeros((3, 2)), good, good + 2)


@pytest.fixture
def mirror():
    if MIRROR is None or not (Path(MIRROR) / COMPAS_FILE.name).is_file():
        pytest.skip("needs the real data: set RETABLE_MIRROR")
    return MIRROR


@pytest.mark.slow
def test_the_real_adult_set_has_the_papers_base_rates(tmp_path, mirror):
    units = Adult(seed=0, paths=paths(tmp_path, mirror)).units()
    assert units.x.shape == (48_842, 109)
    assert units.y.mean() == pytest.approx(0.2393, abs=5e-5)
    assert (units.a == 0).sum() == 32_650
    rates = [units.y[units.a == group].mean() for group in (0, 1)]
    assert rates == pytest.approx([0.3038, 0.1093], abs=5e-5)
    assert np.abs(units.x[:, :6].mean(axis=0)).max() < 1e-12
    np.testing.assert_allclose(units.x[:, :6].std(axis=0), 1, rtol=1e-12)
    assert (units.x[:, 6:].sum(axis=0) > 0).all()


def test_the_real_compas_set_is_that_of_the_authors(tmp_path, mirror):
    units = Compas(seed=0, paths=paths(tmp_path, mirror)).units()
    assert units.x.shape == (5_278, 8)
    assert units.y.mean() == pytest.approx(0.4704, abs=5e-5)
    rates = [units.y[units.a == group].mean() for group in (0, 1)]
    assert rates == pytest.approx([0.523, 0.391], abs=5e-4)
    # The first rows of the encoded file that the authors published.
    assert units.x[:3, 6] == pytest.approx([-0.70999486, 0.11044365, 2.16153992], abs=1e-8)
    assert units.x[:3, [0, 1, 2, 3, 4, 5, 7]].tolist() == [
        [1, 1, 0, 0, 0, 1, 0],
        [1, 0, 0, 1, 0, 1, 0],
        [1, 1, 0, 0, 1, 1, 0],
    ]
