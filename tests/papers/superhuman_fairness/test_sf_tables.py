"""Tables of superhuman_fairness: reported values, what is run, claims on the reported numbers."""

from __future__ import annotations

from functools import cache

import pytest

from retable.papers.superhuman_fairness.losses import MEASURES
from retable.papers.superhuman_fairness.references import MAKERS
from retable.papers.superhuman_fairness.rows import (
    BASELINE_ROWS,
    METHODS,
    OURS_MARGIN,
    REFERENCE_SET,
)
from retable.tables import spec as specs
from retable.tables.grid import plan
from retable.tables.verdicts.claims import judge_claim
from support.judge import table_of

LOSSES = ("adult_eps0", "adult_eps02", "adult_eps02_table1", "compas_eps0", "compas_eps02",
          "compas_eps02_superseded", "compas_control")  # fmt: skip
TEN_RUNS = ("adult_eps0", "adult_eps02", "compas_control")
NOISE = ("noise_pp", "noise_fairll")
COUNTS = {"adult_eps0": 39, "adult_eps02": 39, "adult_eps02_table1": 32, "compas_eps0": 32,
          "compas_eps02": 32, "compas_eps02_superseded": 32, "compas_eps02_as_made": 9,
          "compas_control": 34, "noise_pp": 36, "noise_fairll": 36,
          "noise_pp_january": 44,
          "ref_stats": 40, "table1": 24, "theory_bound": 0}  # fmt: skip

SAMPLE = """
adult_eps0          ours                error     0.2146 0.0020
adult_eps0          post_proc_eqodds    eqodds    0.0162 0.0047
adult_eps0          fair_logloss_eqopp  dp        0.1817 0.0028
adult_eps0          mfopt               prp       0.2092
adult_eps0          ours                dominated 0.804
adult_eps02         ours                eqodds    0.0288 0.0106
adult_eps02         post_proc_dp        dp        0.1550 0.0078
adult_eps02         fair_logloss_eqodds prp       0.1538 0.0174
adult_eps02         mfopt               dominated 0.120
adult_eps02_table1  ours_train          eqodds    0.0545
adult_eps02_table1  post_proc_dp        prp       0.2245
compas_eps0         ours                dp        0.0406
compas_eps0         fair_logloss_dp     dp        0.0002
compas_eps02        ours_train          eqodds    0.0196
compas_eps02        post_proc_eqodds    error     0.3513
compas_eps02_superseded ours_train      eqodds    0.2176
compas_eps02_superseded post_proc_eqodds error    0.3930
compas_control      ours                dp        0.0611 0.0273
compas_control      post_proc_dp        dominated 0.126
noise_pp            prp                 noise_04  0.42
noise_pp            error               noise_07  0.00
noise_pp_january    error               noise_02  0.94
noise_pp_january    dp                  noise_00  0.94
noise_fairll        eqodds              noise_01  0.60
noise_fairll        dp                  noise_02  0.44
ref_stats           mean                compas_eps02_eqodds 0.4834
ref_stats           std                 adult_eps0_prp      0.0110
ref_stats           mean                control_error       0.3537
table1              ours                adult_eps0   0.96
table1              mfopt               compas_eps02 0.18
table1              post_proc_eqodds    compas_eps02 0.88
"""


@cache
def load(name):
    return specs.load(f"superhuman_fairness/{name}")


def test_every_reported_value_is_there():
    assert {n: sum(map(len, load(n).reported.values())) for n in COUNTS} == COUNTS


@pytest.mark.parametrize("line", SAMPLE.strip().splitlines())
def test_a_sample_of_reported_values(line):
    name, row, column, value, *spread = line.split()
    cell = load(name).reported[row][column]
    assert cell.value == value
    assert [text for text in (cell.spread,) if text] == spread


@pytest.mark.parametrize("name", LOSSES)
def test_reported_losses_say_what_they_are(name):
    for row, cells in load(name).reported.items():
        for column, cell in cells.items():
            assert cell.grade == ("derived" if column == "dominated" else "primary")
            several = name in TEN_RUNS and row != "mfopt"
            assert cell.n == (10 if several else None if column == "dominated" else 1)
            if several and column != "dominated":
                assert (cell.spread_kind, cell.ddof) == ("ci95_z", 0)


def test_table1_is_recalled():
    cells = [c for cells in load("table1").reported.values() for c in cells.values()]
    assert {(cell.grade, cell.n, cell.spread) for cell in cells} == {("recalled", 1, None)}
    assert sum("give the same" in cell.where for cell in cells) == 19


def test_mfopt_is_quoted_only():
    for name in (*(n for n in LOSSES if n != "compas_control"), "table1"):
        row = load(name).rows["mfopt"]
        assert not row.run
        assert row.quoted
        assert all("mfopt" not in claim.rows() for claim in load(name).claims)


@pytest.mark.parametrize("name", [*LOSSES, *NOISE, "ref_stats", "table1"])
def test_rows_are_what_a_run_records(name):
    known = MEASURES if name in NOISE else (*METHODS, OURS_MARGIN)
    for row in load(name).rows.values():
        assert not row.run or row.result_row in known
    keys = {metric.key for metric in load(name).metrics.values()}
    assert keys <= {f"test/{m}" for m in (*MEASURES, "dominated", "gamma")}


@pytest.mark.parametrize("name", LOSSES)
def test_scatter_plots_are_all_pairs_of_measures(name):
    figure = load(name).figure
    assert figure.kind == "scatter"
    assert len({frozenset((p.x, p.y)) for p in figure.panels}) == 6
    assert {n for p in figure.panels for n in (p.x, p.y)} == set(MEASURES)
    assert figure.cloud.result_row == REFERENCE_SET
    assert figure.guides == ["ours_margin"]


@pytest.mark.parametrize("name", NOISE)
def test_noise_curves(name):
    table = load(name)
    assert list(table.columns) == [f"noise_{i:02d}" for i in range(9)]
    for i, (column, part) in enumerate(table.columns.items()):
        assert part.overrides == [f"model.noise={i / 100}", "model.baselines=[]"]
        assert table.figure.panels[0].points[column] == i / 100
    assert table.seed_list("paper") == [0, 1, 2]


def configs(name, protocol="paper"):
    return [run.config for run in plan(f"superhuman_fairness/{name}", protocol).runs()]


MATRIX = {
    "adult_eps0": ("Adult", "post_proc_dp", 0.0, 0.01, 30, "logistic"),
    "adult_eps02": ("Adult", "post_proc_dp", 0.2, 0.01, 30, "logistic"),
    "adult_eps02_table1": ("Adult", "post_proc_dp", 0.2, 0.03, 30, "logistic"),
    "compas_eps0": ("Compas", "fair_logloss_eqopp_shifted", 0.0, 1e-4, 5, "fair_logloss_dp"),
    "compas_eps02": ("Compas", "fair_logloss_eqopp_shifted", 0.2, 1e-4, 30, "fair_logloss_dp"),
    "compas_eps02_as_made": (
        "Compas",
        "fair_logloss_eqopp_shifted",
        0.2,
        1e-4,
        30,
        "fair_logloss_dp",
    ),
    "compas_eps02_superseded": (
        "Compas",
        "fair_logloss_eqopp_shifted",
        0.2,
        1e-3,
        30,
        "fair_logloss_dp",
    ),
    "compas_control": ("Compas", "post_proc_dp", 0.0, 1e-4, 5, "fair_logloss_dp"),
}
"""Data, maker, noise, step size, iterations and start of the stored results."""


OTHER_STARTS = {("logistic", None), ("logistic", 0.01), ("fair_logloss_dp", 0.01)}
"""Of rows that look for a cause: start and weight of the penalty."""


class TestRuns:
    @pytest.mark.parametrize("name", MATRIX)
    def test_are_the_papers(self, name):
        found = configs(name)
        assert len({config.seed for config in found}) == 10
        for config in found:
            model = config.model
            if model.get("constant") == "none":  # ours: the corrected estimator, fitted longer
                assert (model["center"], config.seed < 10) == ("correct", True)
                continue
            if name.endswith("superseded") and (model["start"], model.get("lam")) in OTHER_STARTS:
                continue
            assert (
                config.data["_target_"].rpartition(".")[2],
                model["references"],
                model["noise"],
                model["optimizer"]["lr"],
                config.trainer.max_epochs,
                model["start"],
            ) == MATRIX[name]
            assert model["n_references"] == 50
            assert model["references"] in MAKERS

    def test_stored_compas_references_have_no_flipped_decisions(self):
        assert {config.model["flip_decisions"] for config in configs("compas_eps02")} == {False}

    def test_the_figure_of_compas_with_noise_is_made_with_all_that_its_code_had(self):
        made = plan("superhuman_fairness/compas_eps02_as_made", "paper").cells
        options = {
            row: tuple(model[name] for name in ("balanced_start", "alpha_rule", "lam"))
            for row, column in made
            if column == "error"
            for model in [made[row, column].setting.config.model]
        }
        assert options == {
            "ours": (True, "mean_loss", 0.01),
            "ours_train": (True, "mean_loss", 0.01),
            "start_only": (True, "penalised", 0.001),
            "rule_only": (False, "mean_loss", 0.01),
            "neither": (False, "penalised", 0.001),
        }

    def test_both_forms_of_the_figure_for_post_processing_are_of_the_same_runs(self):
        january = {run.key for run in plan("superhuman_fairness/noise_pp_january", "paper").runs()}
        last = {run.key for run in plan("superhuman_fairness/noise_pp_as_made", "paper").runs()}
        assert last < january
        assert len(january - last) == 10  # two ratios more

    def test_decisions_are_flipped_as_the_stored_losses_say(self):
        def flipped(name, row, column):
            cell = plan(f"superhuman_fairness/{name}", "paper").cells[row, column]
            return cell.setting.config.model.get("flip_decisions", True)

        assert not flipped("table1", "ours", "adult_eps02")
        assert flipped("table1", "ours", "adult_eps02_flipped")
        assert not flipped("adult_eps02_table1", "post_proc_dp", "error")
        assert flipped("adult_eps02_table1", "references_flipped", "error")
        assert flipped("adult_eps02", "ours", "error")

    def test_table1_shares_its_runs_with_the_losses(self):
        own = {run.key for run in plan("superhuman_fairness/table1", "paper").runs()}
        for name in ("adult_eps02_table1", "compas_eps0", "compas_eps02"):
            assert {run.key for run in plan(f"superhuman_fairness/{name}", "paper").runs()} <= own

    def test_noise_curves_are_at_the_step_sizes_of_their_file_names(self):
        for name, rate, epochs in (("noise_pp", 0.03, 30), ("noise_fairll", 0.001, 100)):
            found = {(c.model["optimizer"]["lr"], c.trainer.max_epochs) for c in configs(name)}
            assert found == {(rate, epochs)}

    @pytest.mark.parametrize("name", COUNTS)
    def test_smoke_needs_no_data(self, name):
        found = configs(name, "smoke")
        assert found
        assert {c.data["_target_"].rpartition(".")[2] for c in found} == {"Generated"}


def like_reported(name, runs=10):
    """Runs about the reported means; what nobody reports is where the paper would have it."""
    table = load(name)
    spread = [0.0005 * (i - (runs - 1) / 2) for i in range(runs)]
    values = {
        row: {c: [float(cell.value) + s for s in spread] for c, cell in cells.items()}
        for row, cells in table.reported.items()
        if table.rows[row].run
    }
    if "references" in table.rows:
        level = {"error": 0.36, "dp": 0.1, "eqodds": 0.14, "prp": 0.185}
        if name == "adult_eps0":
            level = {"error": 0.232, "dp": 0.047, "eqodds": 0.21, "prp": 0.379}
        if name == "compas_eps0":
            level = {"error": 0.42, "dp": 0.349, "eqodds": 0.481, "prp": 0.27}
        if name == "compas_eps02":
            level = {"error": 0.453, "dp": 0.368, "eqodds": 0.483, "prp": 0.186}
        values["references"] = {c: [v + s for s in spread] for c, v in level.items()}
    return values


def verdicts(name, values):
    table = table_of(load(name), values)
    return {claim.id: judge_claim(table, claim).verdict for claim in table.spec.claims}


@pytest.mark.parametrize("name", [*LOSSES, "table1"])
def test_claims_hold_on_runs_like_the_reported_ones(name):

    for id_, verdict in verdicts(name, like_reported(name)).items():
        assert id_.startswith("X") or verdict == "upheld", id_


def test_table1_as_recalled_with_ones_and_zeros():
    """Shares at their end have no spread; a step of 1/50 is what they are known to."""
    values = {
        row: {c: [float(cell.value)] * 10 for c, cell in cells.items()}
        for row, cells in load("table1").reported.items()
        if load("table1").rows[row].run
    }
    found = verdicts("table1", values)
    assert {found[id_] for id_ in ("C1", "C1_all", "C2", "C2_baselines", "C3", "C7")} == {"upheld"}


@pytest.mark.parametrize("name", NOISE)
def test_noise_claims_on_three_runs_like_the_reported_one(name):
    values = {
        row: {c: [float(cell.value)] * 3 for c, cell in cells.items()}
        for row, cells in load(name).reported.items()
    }
    found = verdicts(name, values)
    assert set(found.values()) == {"upheld"}
    flat = {row: {c: [0.5, 0.52, 0.48] for c in load(name).columns} for row in values}
    assert "upheld" not in verdicts(name, flat).values()


@pytest.mark.parametrize(
    ("name", "id_", "row", "columns"),
    [
        ("adult_eps0", "X1", "ours_correct", ["dominated"]),
        ("adult_eps02", "X2", "ours_correct", ["dominated"]),
        ("table1", "X3", "ours_correct", ["adult_eps0", "adult_eps02"]),
        ("adult_eps0", "X4", "ours_correct_long", ["dominated"]),
        ("adult_eps02", "X5", "ours_correct_long", ["dominated"]),
        ("table1", "X6", "ours_correct_long", ["adult_eps0", "adult_eps02"]),
    ],
)
def test_whether_the_effect_survives_is_a_claim_of_its_own(name, id_, row, columns):
    assert "model.center=correct" in load(name).rows[row].overrides
    values = like_reported(name)
    for share, verdict in ((0.9, "upheld"), (0.1, "contradicted")):
        values[row] = {c: [share] * 5 + [share + 0.02] * 5 for c in columns}
        assert verdicts(name, values)[id_] == verdict


def test_claims_about_the_stored_references():
    columns = list(load("ref_stats").columns)
    values = {"unshifted": dict.fromkeys(columns, [0.34, 0.35] * 5)}
    values["unshifted"]["compas_eps0_dp"] = [0.11, 0.13] * 5
    values["flipped"] = {"compas_eps02_dp": [0.22, 0.23] * 5}
    assert set(verdicts("ref_stats", values).values()) == {"upheld"}


def test_bound_on_fresh_references():
    rows = list(load("theory_bound").rows)
    above = {row: {"slack": [0.02, 0.04] * 5} for row in rows}
    assert verdicts("theory_bound", above) == {"T1": "upheld"}
    below = {**above, rows[1]: {"slack": [-0.2, -0.22] * 5}}
    assert verdicts("theory_bound", below) == {"T1": "contradicted"}


def test_ids_of_claims_are_distinct_and_the_papers_are_all_there():
    ids = [claim.id for name in COUNTS for claim in load(name).claims]
    assert len(ids) == len(set(ids))
    assert {f"C{k}" for k in range(1, 9)} <= {id_.partition("_")[0] for id_ in ids}


def test_baselines_are_rows():
    for name in LOSSES:
        assert set(BASELINE_ROWS) <= set(load(name).rows)
