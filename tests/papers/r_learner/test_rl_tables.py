"""Tables of r_learner: reported values against a sample, claims on the released numbers."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest

from retable.papers.r_learner.rows import ROWS
from retable.tables import spec as specs
from retable.tables.grid import plan
from retable.tables.verdicts.claim_contrasts import sums_of
from retable.tables.verdicts.claims import judge_claim
from retable.tables.verdicts.judge import margin_for
from retable.tables.verdicts.reported import read
from support.judge import table_of

SETUPS, SIZES = "abcdef", (250, 500, 1000)
COLUMNS = [f"{s}_n{n}" for s in SETUPS for n in SIZES]
CATE = ("main_comparison", "expanded_comparison", "released_other_rows")
SEM = {**dict.fromkeys((*CATE, "nuisance_losses"), 600), "random_forest": 50}
COUNTS = {"main_comparison": 126, "expanded_comparison": 36, "released_other_rows": 90,
          "random_forest": 252, "xgboost_check": 36, "nuisance_losses": 108,
          "nie_wager_boost": 112}  # fmt: skip

N1000 = """
dr-one    .0695 .0026 .2220 .0033 .0376 .0021 .5904 .0050 .0344 .0032 .0222 .0022
dr-dr_x   .0637 .0017 .2222 .0034 .0284 .0015 .5539 .0048 .0223 .0013 .0131 .0007
cov-one   .0735 .0034 .2261 .0035 .0500 .0026 .5982 .0049 .0344 .0032 .0221 .0022
cov-dr_x  .0650 .0019 .2264 .0034 .0354 .0019 .5636 .0046 .0213 .0013 .0131 .0007
u-one     .519  .159  .2293 .0036 4.16  .49   .975  .019  .341  .076  .335  .112
u-u_x     .1072 .0030 .2291 .0035 .1142 .0087 .6828 .0068 .0990 .0056 .0205 .0016
u-u_ax    .0604 .0014 .2282 .0035 .0326 .0021 .5480 .0046 .0364 .0066 .0146 .0008
dr-dr_ax  .0692 .0014 .2221 .0033 .1852 .0046 .5765 .0051 .0037 .0003 .0036 .0002
t         .1604 .0021 .4149 .0037 .7704 .0082 .4074 .0030 .0310 .0010 .0102 .0005
"""
"""Mean and standard error of every row of the expanded figure in A to F at n = 1000, rounded."""

SAMPLE = """
main_comparison     dr-one                  a_n250 0.15176 0.00621
main_comparison     cov-dr_x                c_n500 0.071036 0.00348
main_comparison     u-one                   c_n250 3.91 0.92
main_comparison     t                       e_n1000 0.03096 0.000952
expanded_comparison dr-dr_ax                f_n500 0.0083208 0.000517
expanded_comparison u-u_x                   d_n250 1.3045 0.0155
released_other_rows dr_separate-one         c_n1000 0.095497 0.00488
released_other_rows dr_separate-dr_ax       c_n250 1.1652 0.0252
released_other_rows dr_separate-dr_x        e_n500 0.041944 0.00225
released_other_rows dr_separate-dr_ax_adhoc d_n1000 0.47263 0.00387
released_other_rows dr-dr_ax_adhoc          f_n1000 0.0057936 0.000344
random_forest       u-one                   e_n1000 240.73 10.2
random_forest       dr_separate-dr_x        a_n250 0.2923 0.0126
random_forest       dr-one                  f_n250 8.5147 3.03
random_forest       cov-dr_x                c_n1000 0.32891 0.01
random_forest       t                       b_n500 0.42457 0.0121
xgboost_check       cvboost                 d_n1000 0.52778 0.0199
xgboost_check       rboost                  e_n500 0.093633 0.0126
nuisance_losses     b_n1000                 propensity_nll 0.69343 0.0000612
nuisance_losses     d_n250                  mu0_separate_mse 1.2507 0.00591
nuisance_losses     c_n500                  outcome_mse 1.5918 0.00513
nie_wager_boost     r                       a_n500_d6 0.06085
nie_wager_boost     oracle_r                c_n1000_d12 0.07358
nie_wager_boost     causal_boosting         d_n500_d12 0.83603
nie_wager_boost     s                       b_n1000_d6 0.21474
"""

UNDECIDED = {f"{id_}_{part}" for id_ in ("C16", "C17_one", "M4") for part in ("n250", "larger")} | {
    "C17_ivw_larger"
}
"""Claims whose bound the released means keep, but by less than their own error."""


@cache
def load(name):
    return specs.load(f"r_learner/{name}")


def rounded(text):
    """A printed number and half a unit of its last digit."""
    return float(text), 0.5 * 10.0 ** -len(text.partition(".")[2])


def test_every_reported_value_is_there_once():
    assert {n: sum(map(len, load(n).reported.values())) for n in COUNTS} == COUNTS
    places = [(r, c) for n in CATE for r, cells in load(n).reported.items() for c in cells]
    assert len(places) == len(set(places)) == 14 * 18
    assert {r for r, _ in places} == set(load("random_forest").reported) == set(ROWS)


def test_reported_values_at_n_1000_are_the_known_ones():
    reported = {**load("main_comparison").reported}
    reported |= load("expanded_comparison").reported
    for line in N1000.strip().splitlines():
        row, *numbers = line.split()
        for setup, value, sem in zip(SETUPS, numbers[::2], numbers[1::2], strict=True):
            cell = reported[row][f"{setup}_n1000"]
            for text, found in ((value, cell.value), (sem, cell.spread)):
                number, half = rounded(text)
                assert abs(float(found) - number) <= half * (1 + 1e-9), (row, setup)


@pytest.mark.parametrize("line", SAMPLE.strip().splitlines())
def test_a_sample_of_reported_values(line):
    name, row, column, value, *sem = line.split()
    cell = load(name).reported[row][column]
    assert float(cell.value) == float(value)
    assert [float(text) for text in (cell.spread,) if text] == [float(text) for text in sem]


@pytest.mark.parametrize("name", COUNTS)
def test_reported_values_say_what_they_are(name):
    for cells in load(name).reported.values():
        for cell in cells.values():
            assert cell.grade == "primary"
            assert cell.where
            if name in SEM:
                assert (cell.spread_kind, cell.n) == ("sem", SEM[name])
    crashed = {c: cell.n for c, cell in load("xgboost_check").reported["cvboost"].items()}
    assert {c: n for c, n in crashed.items() if n < 50} == {
        "a_n1000": 48, "b_n500": 48, "b_n1000": 20, "c_n500": 47, "c_n1000": 36, "d_n500": 48,
        "d_n1000": 14}  # fmt: skip
    assert load("nie_wager_boost").reported["r"]["a_n500_d6"].n == 200


@pytest.mark.parametrize("name", [*CATE, "random_forest"])
def test_the_margin_of_an_error_is_a_tenth_of_it(name):
    table = table_of(load(name), {})
    for row, cells in table.spec.reported.items():
        for column, cell in cells.items():
            margin = margin_for(table, row, column, read(cell))
            assert margin.value == pytest.approx(0.1 * float(cell.value), rel=0.06)


@pytest.mark.parametrize("name", [*CATE, "random_forest", "xgboost_check"])
def test_columns_are_set_ups_by_size_and_rows_result_rows(name):
    table = load(name)
    assert list(table.columns) == COLUMNS
    for column in COLUMNS:
        setup, n = column.split("_n")
        assert table.columns[column].overrides == [f"data.setup={setup}", f"data.n={n}"]
        small = ["paper", "reduced", "smoke"] if n == "250" and name in CATE else ["paper"]
        small = ["scikit", "smoke"] if name == "random_forest" else small
        assert [p for p in small if table.experiment(column, p)] == small
        assert name not in CATE or (table.experiment(column, "reduced") is None) == (n != "250")
    for row, part in table.rows.items():
        assert not part.run or (part.result_row == row and row in ROWS)


def test_forests_are_run_by_a_protocol_of_their_own():
    """scikit-learn's trees are not the authors', so their numbers are never the paper's."""
    table = load("random_forest")
    assert table.protocols() == ["scikit", "smoke"]
    assert all(row.run for row in table.rows.values())
    runs = list(plan("r_learner/random_forest", "scikit").runs())
    assert len({run.key for run in runs}) == len(runs) == 50 * 18
    assert {run.config.protocol for run in runs} == {"scikit"}


def test_rows_of_the_nuisance_table_are_its_settings():
    rows = load("nuisance_losses").rows
    assert list(rows) == COLUMNS
    for name, row in rows.items():
        assert row.overrides == load("main_comparison").columns[name].overrides


@pytest.mark.slow
def test_tables_of_one_learner_are_made_of_the_same_runs():
    keys = [{run.key for run in plan(f"r_learner/{n}", "reduced", n_seeds=2).runs()} for n in CATE]
    assert len(keys[0]) == 2 * len(SETUPS)
    assert keys[0] == keys[1] == keys[2]


# Claims


def released(name):
    """Reported cells of a table's rows, those that another table shows too included."""
    own, main = load(name).reported, load("main_comparison").reported
    return {r: {c: own.get(r, main.get(r))[c] for c in COLUMNS} for r in load(name).rows}


def spread_out(cell, runs=600):
    """As many positive values with the reported mean and about its spread: few are large."""
    mean, std = float(cell.value), float(cell.spread) * math.sqrt(cell.n)
    low = 0.1 * mean
    share = (mean - low) ** 2 / ((mean - low) ** 2 + std**2)
    many = max(1, round(runs * share))
    return [low + (mean - low) * runs / many] * many + [low] * (runs - many)


def claims_on(name, values, protocol="paper"):
    table = table_of(load(name), values, protocol)
    return {claim.id: judge_claim(table, claim) for claim in table.spec.claims}


@cache
def claims_on_released(name):
    values = {r: {c: spread_out(v) for c, v in cs.items()} for r, cs in released(name).items()}
    return claims_on(name, values)


@pytest.mark.parametrize("name", ["main_comparison", "expanded_comparison"])
def test_released_means_lie_on_the_side_of_every_claim(name):
    table, numbers = table_of(load(name), {}), released(name)
    for claim in table.spec.claims:
        sums = sums_of(table, claim)
        assert sums or claim.kind == "not_judged"
        for one in sums:
            total = math.fsum(w * float(numbers[r][c].value) for w, r, c in one.terms)
            assert total > one.c0, (claim.id, one.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["main_comparison", "expanded_comparison"])
def test_claims_on_600_runs_like_the_released_ones(name):
    for id_, claim in claims_on_released(name).items():
        if id_ in {"M1", "M9"}:
            assert claim.verdict == "not judged"
        else:
            expected = "undecided" if id_ in UNDECIDED else "upheld"
            assert claim.verdict == expected, (id_, claim.effect)


def test_a_printed_factor_is_shown_and_does_not_decide():
    factors = {"C1": 8.6, "C2": 128, "C3": 1.78, "C4": 9.38, "C5": 23, "C6": 1.09, "C7": 1.32,
               "C8": 1.07, "C9": 1.54, "C10": 1.69, "C11": 1.13, "C12": 1.41, "C13": 1.06,
               "C14": 1.61, "C15": 1.69}  # fmt: skip
    found = claims_on_released("main_comparison")
    for id_, factor in factors.items():
        assert found[id_].ratio.value == pytest.approx(factor, rel=5e-3)
        assert f"{factor:g} times" in found[id_].where


@pytest.mark.parametrize("name", ["main_comparison", "expanded_comparison"])
def test_where_all_rows_are_alike_no_row_is_better(name):
    noise = [1 + 0.001 * (i - 9.5) for i in range(20)]
    values = {
        row: dict.fromkeys(COLUMNS, noise[k:] + noise[:k]) for k, row in enumerate(load(name).rows)
    }
    within = {"C16", "C17_ivw", "M4"}
    for id_, claim in claims_on(name, values).items():
        if id_ in {"M1", "M9"}:
            continue
        part = id_.removesuffix("_n250").removesuffix("_larger")
        expected = (
            "upheld" if part in within else "contradicted" if part == "C17_one" else "undecided"
        )
        assert claim.verdict == expected, id_


@pytest.mark.parametrize("name", ["main_comparison", "expanded_comparison"])
def test_turned_round_every_comparison_is_contradicted(name):
    table = load(name)
    bare = table.model_copy(update={"reported": {}})  # whose spread would be taken for ours
    high, low = ([level + 0.01 * i for i in range(6)] for level in (2.0, 1.0))
    compared = [c for c in table.claims if c.kind != "not_judged" and c.at_most is None]
    assert len(compared) == {"main_comparison": 27, "expanded_comparison": 4}[name]
    for claim in compared:
        values = {row: dict.fromkeys(COLUMNS, low) for row in table.rows}
        for part in claim.each():
            for column in [part.on] if isinstance(part.on, str) else part.on:
                values[part.better][column] = high
        assert judge_claim(table_of(bare, values), claim).verdict == "contradicted", claim.id


def test_protocol_reduced_judges_what_is_said_of_n_250():
    values = {
        r: {c: [float(v.value) * (1 + 0.001 * i) for i in range(25)]
            for c, v in cells.items() if c.endswith("_n250")}
        for r, cells in released("main_comparison").items()
    }  # fmt: skip
    found = claims_on("main_comparison", values, "reduced")
    judged = {id_ for id_, claim in found.items() if claim.verdict in {"upheld", "undecided"}}
    assert judged == {"M2_n250", "M3_n250", "C17_ivw_n250", "C17_one_n250", "M4_n250", "C18_n250",
                      "C19_n250"}  # fmt: skip
    assert found["M8_n250"].verdict == "not judged"
    assert "depends on the learner" in found["M8_n250"].why
    larger = [found[id_] for id_ in found if id_.endswith("larger")]
    assert {claim.verdict for claim in larger} == {"not judged"}
    assert all("protocol reduced does not run" in claim.why for claim in larger)
    reasons = [c.not_in for c in load("expanded_comparison").claims if c.id == "C16_n250"]
    assert reasons == [{}]


def test_ids_of_claims_are_the_papers_own():
    ids = [claim.id for name in COUNTS for claim in load(name).claims]
    assert len(ids) == len(set(ids))
    assert {f"C{k}" for k in range(1, 20)} <= {id_.partition("_")[0] for id_ in ids}
    assert {f"M{k}" for k in (1, 2, 3, 4, 6, 7, 8, 9)} <= {id_.partition("_")[0] for id_ in ids}


def test_quoted_r_learner_is_below_the_quoted_u_learner():
    reported = load("nie_wager_boost").reported
    assert all(float(reported["r"][c].value) < float(reported["u"][c].value) for c in reported["u"])
    assert not any(row.run for row in load("nie_wager_boost").rows.values())
    assert len(reported) == 7


def test_panels_are_set_ups_by_pseudo_outcome():
    for name in ("main_comparison", "expanded_comparison"):
        figure = load(name).figure
        assert figure.log == ["y"]
        assert [p.title[0] for p in figure.panels[::4]] == list("ABCDEF")
        for panel in figure.panels:
            kind = panel.title.partition(": ")[2].partition("-")[0].lower()
            assert {r.partition("-")[0] for r in panel.only} == {kind}
            assert list(panel.points.values()) == list(SIZES)
            assert {c[0] for c in panel.points} == {panel.title[0].lower()}
            assert all(a < b for a, b in pairwise(panel.points.values()))
        for first in range(0, 24, 4):
            drawn = [r for p in figure.panels[first : first + 4] for r in p.only]
            assert sorted(drawn) == sorted(load(name).rows)
