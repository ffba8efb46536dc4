"""Table files of the paper: whose numbers they show, and that equal settings are one run."""

from __future__ import annotations

import pytest

from retable.tables import spec
from retable.tables.grid import plan

PAPER = "signed_supermask"


def test_the_main_table_has_every_number_of_the_readme():
    main = spec.load(f"{PAPER}/main")
    cells = [(row, column) for row, given in main.reported.items() for column in given]
    by_column = {c: sum(column == c for _, column in cells) for c in main.columns}
    assert by_column == {"accuracy": 20, "remaining": 10, "thousands": 10, "parameters": 5}
    assert {cell.grade for row in main.reported.values() for cell in row.values()} == {"primary"}
    for row, given in main.reported.items():
        n = None if "56" in row or "110" in row else 50
        assert given["accuracy"].n == n, row
        if "parameters" in given:
            # In thousands it is the share of the network, up to what the authors have rounded.
            share, thousands, total = (
                float(given[c].value) for c in ("remaining", "thousands", "parameters")
            )
            assert thousands == pytest.approx(share * total / 1e5, rel=0.02), row


def test_every_claim_of_the_paper_is_in_a_table():
    names = ("main", "initialisation", "extreme", "peers")
    found = {claim.id for name in names for claim in spec.load(f"{PAPER}/{name}").claims}
    wanted = {"C1", "C3", "C4", "C10_fcn"}
    for name, letters in (
        ("C2", "abc"),
        ("C5", "abcde"),
        ("C6", "ab"),
        ("C7", "ab"),
        ("C9", "abc"),
    ):
        wanted |= {name + letter for letter in letters}
    assert wanted <= found
    assert {f"C8_{net}_f3" for net in ("fcn", "conv2", "conv4", "conv6", "conv8")} <= found


def test_quoted_numbers_are_marked_as_such():
    peers = spec.load(f"{PAPER}/peers")
    assert peers.source.own is False
    grades = [cell.grade for row in peers.reported.values() for cell in row.values()]
    assert (grades.count("recalled"), grades.count("secondhand")) == (12, 12)
    for name, row in peers.rows.items():
        assert row.run == (row.quoted is None and row.note is None), name
        assert row.run or "own table" in (row.note or "") or "earlier README" in (row.quoted or "")


@pytest.mark.slow
def test_a_row_at_the_default_is_the_same_run_in_every_table():
    main = plan(f"{PAPER}/main", "smoke").cells["fcn", "accuracy"].setting.key
    others = {
        "initialisation": ("elus3_xavier", "accuracy_fcn"),
        "extreme": ("fcn_plain", "accuracy"),
        "peers": ("fcn_signed", "accuracy"),
        "masks": ("signed", "kept_1"),
        "training_curves": ("elus3", "remaining_100"),
    }
    for table, cell in others.items():
        assert plan(f"{PAPER}/{table}", "smoke").cells[cell].setting.key == main, table
    he = plan(f"{PAPER}/initialisation", "smoke").cells["he_xavier", "accuracy_fcn"].setting.key
    assert plan(f"{PAPER}/training_curves", "smoke").cells["he", "remaining_5"].setting.key == he
