"""The line of a paper in the overview."""

from __future__ import annotations

from retable.report import counts, results_index
from retable.report.footnotes import footnotes, reasons
from retable.tables.verdicts.judge import judge
from support.judge import reported, spec_of, table_of

FIVE = [1.25, 1.28, 1.31, 1.34, 1.37]
PAPER = reported("1.29", spread="0.08", spread_kind="std", n=6)
MEASURED = {"script": "scripts/count.py", "file": "counts.json", "sha256": "ab" * 32}


def causes(why, **rows):
    numbers = {row: {"x": PAPER} for row in rows}
    claims = [{"id": "1", "kind": "ordering", "better": "a", "than": "b"}]
    spec = spec_of([*rows], reported=numbers, claims=claims, why=why, metric={"margin": 0.11})
    values = {row: {"x": [v + more for v in FIVE]} for row, more in rows.items()}
    return results_index._causes([judge(table_of(spec, values))])


def test_of_differences_it_is_counted_which_have_a_cause_and_what_tests_it():
    far = {"a": 1.0, "b": 0.3}  # two cells that differ, and a claim that is contradicted
    assert causes([], **far) == "0 of 3"
    by_script = {"row": "a", "because": "another library", "measured": MEASURED}
    by_run = {"claim": "1", "because": "too few epochs", "runs": ["0123456789ab"]}
    assert causes([by_script], **far) == "1 of 3: 1 by a script"
    assert causes([by_script, by_run], **far) == "2 of 3: 1 by a script, 1 by runs"
    assert causes([by_script], a=-0.01, b=0.01) == ""


def test_a_number_that_several_tables_have_counts_once():
    """Candidates for it are compared on their own page, and are asked for no cause."""

    def made(**rest):
        numbers = {row: {"x": PAPER} for row in ("a", "b")}
        claims = [{"id": "1", "kind": "ordering", "better": "a", "than": "b"}]
        spec = spec_of(["a", "b"], reported=numbers, claims=claims, metric={"margin": 0.11}, **rest)
        return judge(table_of(spec, {"a": {"x": [v + 1 for v in FIVE]}, "b": {"x": FIVE}}))

    table, candidates = made(), made(counted_in=["main"])
    assert candidates.tally == table.tally
    assert (table.tally.judged, table.tally.different) == (2, 1)
    for several in ([table], [table, candidates]):
        assert results_index._cells(several) == results_index._cells([table])
    assert counts.together([table, candidates]).contradicted == 2
    assert counts.once([table, candidates]).judged == 2
    assert results_index._causes([table, candidates]) == "0 of 3"  # two claims and a cell
    assert candidates.cells["a", "x"].judged.why is None
    assert "Cause" in reasons(table)[0]
    assert "Cause" not in reasons(candidates)[0]
    assert "those of main, where" in " ".join(footnotes(candidates))
