"""Tables of the sequences and molecules: settings, quoted cells, claims."""

from __future__ import annotations

from functools import cache

import pytest

from retable.config.compose import compose, hydra_ready
from retable.tables import spec as specs
from retable.tables.verdicts.claims import judge_claim
from support.judge import table_of

QUOTED = """
subtb  0.96 0.02 42.23 3.4  1.18 0.1  204.44 0.45
tb     0.9  0.03 31.42 2.9  0.76 0.19 204.31 0.44
fm_db  0.78 0.05 12.61 1.32 0.3  0.08 190.21 6.78
sac    0.8  0.01 8.36  1.44 0.23 0.03 120.32 15.57
aac_er 0.79 0.02 7.32  0.76
mcmc   0.75 0.02 12.56 1.45 0.28 0.01 169.17 12.44
"""
COLUMNS = ["amp_reward", "amp_diversity", "gfp_reward", "gfp_diversity"]


@cache
def load(name):
    return specs.load(f"subtb/{name}")


def experiment(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=subtb/{name}", "seed=0", *overrides])


def test_all_22_quoted_cells_are_there_and_say_that_they_are_second_hand():
    reported = load("bioseq").reported
    count = 0
    for line in QUOTED.strip().splitlines():
        row, *numbers = line.split()
        for column, value, spread in zip(COLUMNS, numbers[::2], numbers[1::2], strict=False):
            cell = reported[row][column]
            assert (cell.value, cell.spread) == (value, spread)
            assert (cell.grade, cell.n, cell.spread_kind) == ("secondhand", 3, "unknown")
            count += 1
    assert count == sum(map(len, reported.values())) == 22


@pytest.mark.parametrize("name", ["bitseq", "molecules"])
def test_curves_have_no_cells(name):
    assert not load(name).reported


def test_claims_are_of_the_second_hand_reading():
    for name, id_ in (("bitseq", "C7"), ("molecules", "C6"), ("bioseq", "C8")):
        claim = next(c for c in load(name).claims if c.id == id_)
        assert claim.grade == "secondhand"
        assert "smoke" in claim.not_in


def test_word_lengths_of_the_reduced_table_divide_its_strings():
    for column in load("bitseq").columns:
        (override,) = load("bitseq").columns[column].overrides
        k = int(override.partition("=")[2])
        assert (load("bitseq").experiment(column, "reduced") is not None) == (32 % k == 0)
        if load("bitseq").experiment(column, "smoke"):
            assert k in {1, 2}
    assert {c.partition("_k")[2] for c in load("bitseq").columns} == {"1", "2", "4", "6", "8", "10"}


def test_settings_of_the_paper_protocol():
    bits = experiment("bitseq").model
    assert (bits["n"], bits["modes"], bits["lam"]) == (120, 60, 1.9)
    assert (bits["layers"], bits["heads"], bits["width"], bits["hidden"]) == (3, 8, 64, 64)
    run = experiment("bitseq")
    assert run.data["updates"] * run.trainer.max_epochs == 50_000
    amp, gfp = experiment("bioseq_amp"), experiment("bioseq_gfp")
    assert (amp.model["lam"], gfp.model["lam"]) == (0.9, 0.9)
    lams = {c: load("bioseq").columns[c].overrides for c in ("amp_reward", "gfp_reward")}
    assert lams == {"amp_reward": ["model.lam=1.9"], "gfp_reward": ["model.lam=0.99"]}
    assert amp.data["updates"] * amp.trainer.max_epochs == 20_000
    assert gfp.data["updates"] * gfp.trainer.max_epochs == 10_000
    assert (gfp.model["task"], gfp.model["width"], gfp.model["lr_log_z"]) == ("gfp", 128, 0.001)
    molecules = experiment("molecules")
    assert molecules.model["lam"] == 0.9
    assert molecules.data["updates"] * molecules.trainer.max_epochs == 250_000
    assert molecules.trainer.precision == "64-true"


@pytest.mark.parametrize("name", ["bitseq_reduced", "bitseq_exact"])
def test_the_reduced_protocol_says_so(name):
    assert experiment(name).protocol == "reduced"
    assert experiment(name).data["updates"] * experiment(name).trainer.max_epochs == 3000


def test_quoted_numbers_uphold_the_claim_and_turned_round_they_do_not():
    """Six seeds near the quoted means; then the rows exchanged."""
    table = load("bioseq")
    (claim,) = table.claims

    def near(text):
        return [float(text) * (1 + 0.002 * (i - 2.5)) for i in range(6)]

    values = {
        row: {c: near(cell.value) for c, cell in table.reported[row].items()}
        for row in ("subtb", "tb", "fm_db")
    }
    assert judge_claim(table_of(table, values), claim).verdict == "upheld"
    swapped = {**values, "subtb": values["fm_db"], "fm_db": values["subtb"]}
    assert judge_claim(table_of(table, swapped), claim).verdict == "contradicted"


@pytest.mark.parametrize("id_", ["C7_spearman_reduced", "C7_modes_reduced"])
def test_reduced_claims_of_the_bit_sequences_can_be_kept_and_broken(id_):
    table = load("bitseq")
    claim = next(c for c in table.claims if c.id == id_)
    metric = "spearman" if "spearman" in id_ else "area"
    columns = [f"{metric}_k{k}" for k in (1, 2, 4, 8)]
    high, low = ([level + 0.002 * i for i in range(5)] for level in (0.9, 0.6))
    for better, worse, verdict in ((high, low, "upheld"), (low, high, "contradicted")):
        values = {row: dict.fromkeys(columns, worse) for row in table.rows}
        values["subtb"] = dict.fromkeys(columns, better)
        assert judge_claim(table_of(table, values, "reduced"), claim).verdict == verdict
