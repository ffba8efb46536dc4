"""Sentences on a paper: they name claims and cells, and do not outlive them."""

from __future__ import annotations

import re

import pytest

from retable.report.findings import findings
from support.mini import extra_root, tables


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("mini"))))
        return tables()


def found(judged, sentence):
    (one,) = findings([sentence], judged, ["a.md", "a-smoke.md"])
    return one


def test_claims_become_links_and_cells_numbers(judged):
    table = judged[0]
    name = table.name.partition("/")[2]
    claim = next(claim for claim in table.claims if claim.verdict == "upheld")
    place, _cell = next((p, c) for p, c in table.cells.items() if c.mean is not None and c.n > 1)
    at = "/".join(place)
    sentence = f"It *holds* {{{name} {claim.id} upheld}}: {{{name} {at}}}, {{{name}@smoke {at}}}."
    one = found(judged, sentence)
    assert one.outdated == []
    assert one.text.startswith(f"It \\*holds\\* ([{claim.id}](a.md) upheld): [")
    assert re.search(
        r": \[[\d.]+ ± [\d.]+( %)? \([\d/]+ seeds\)\]\(a\.md\), \[[\d.]+ .*\]\(a-smoke\.md\)\.$",
        one.text,
    )


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("{%s CLAIM contradicted}", "to be contradicted, which is upheld"),
        ("{%s CLAIM}", ", which is upheld"),
        ("{%s C99 upheld}", "has no claim C99"),
        ("{%s no/cell}", "has no number at no/cell"),
        ("{nothing C1 upheld}", "nothing is published of nothing, protocol paper"),
        ("{%s@middle C1 upheld}", "protocol middle"),
    ],
)
def test_what_does_not_hold_any_more_is_not_said(judged, reference, why):
    table = judged[0]
    claim = next(claim for claim in table.claims if claim.verdict == "upheld")
    reference = reference.replace("CLAIM", claim.id).replace("%s", table.name.partition("/")[2])
    one = found(judged, f"It shines {reference}.")
    assert "shines" not in one.text
    assert why in one.text
    assert len(one.outdated) == 1
