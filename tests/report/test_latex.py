"""LaTeX: any text typesets, nothing is lost, and a real pdflatex takes every published table."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retable.report import latex, publish
from retable.report.latex_escape import escape, url
from retable.tables.aggregate import Table, build
from retable.tables.verdicts.judge import judge_all
from support.latex import compiled
from support.mini import extra_root, planned


@pytest.fixture
def table(tmp_path, monkeypatch) -> Table:
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    return judge_all([build(*planned())])[0]


@pytest.mark.slow
def test_every_published_table_compiles_and_fits_its_page(tmp_path, published_results):
    families = dict.fromkeys((n.partition("/")[0], protocol) for n, protocol in publish.published())
    bodies = [latex.render(t) for family in families for t in publish.judged(*family)]
    assert len(bodies) == len(publish.published()) > 5
    log = compiled(tmp_path, "\n\\clearpage\n".join(bodies))
    for fault in ("Overfull \\hbox", "too large for page", "Missing character", "undefined"):
        assert fault not in log, log[log.index(fault) - 200 :][:500]


def test_the_mini_sweep_compiles(table, tmp_path):
    log = compiled(tmp_path, latex.render(table))
    assert "Missing character" not in log


def test_claims_and_their_notes_fit_the_page_however_many_and_long_they_are(table, tmp_path):
    """A float breaks over no page: notes that do not fit below the claims stand behind them."""
    claim = table.claims[0]
    bodies = [
        latex.render(
            replace(
                table,
                claims=[
                    replace(claim, id=f"C{i}", statement="so it is " * words, marks=["as " * notes])
                    for i in range(count)
                ],
            )
        )
        for count in (9, 14, 18, 30)
        for words in (3, 20)
        for notes in (1, 90)
    ]
    log = compiled(tmp_path, "\n\\clearpage\n".join(bodies))
    assert re.findall(r"too large for page by [\d.]+pt on input line \d+", log) == []


@pytest.mark.slow
@settings(max_examples=4, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.text(max_size=20), min_size=40, max_size=40))
def test_any_title_compiles(table, tmp_path, titles):
    """Titles of table, rows, columns, notes, statements and errors, with anything in them."""
    given_titles = iter(titles)
    spec = table.spec
    rows = {n: r.model_copy(update={"title": next(given_titles)}) for n, r in spec.rows.items()}
    columns = {
        n: c.model_copy(update={"title": next(given_titles)}) for n, c in spec.columns.items()
    }
    changed = spec.model_copy(
        update={
            "title": next(given_titles),
            "differs": next(given_titles),
            "notes": [next(given_titles), next(given_titles)],
            "rows": rows,
            "columns": columns,
        }
    )
    claims = [replace(c, statement=next(given_titles)) for c in table.claims]
    compiled(tmp_path, latex.render(replace(table, spec=changed, claims=claims)))


def test_every_printable_character_of_ascii_and_every_known_one_compiles(tmp_path):
    import unicodedata

    from retable.report.latex_escape import _ACCENTS, _KNOWN

    accented = [unicodedata.normalize("NFC", f"{b}{a}") for a in _ACCENTS for b in "aeiouncsz"]
    text = [*map(chr, range(32, 127)), *_KNOWN, *accented, "中", "\u200b", "\ufffd", "😀", "\x07"]
    lines = "\n\n".join(f"x{escape(char)}y {escape(char * 3)} z" for char in text)
    assert "Missing character" not in compiled(tmp_path, lines)


@given(st.text())
def test_escaped_text_is_ascii_and_has_no_command_of_its_own(content):
    out = escape(content)
    assert out.isascii()
    assert out.isprintable()
    # What is left once the known sequences are gone has nothing that TeX would act upon.
    bare = re.sub(
        r"\$\\?[A-Za-z^-]*\\?[a-z]*\$|\\[A-Za-z]+\{\}|\\[{}$&#_%,\-]|\\.\{\\?[A-Za-z]?\}"
        r"|\\[a-zA-Z]\{\\?[A-Za-z]\}|\\texttt\{U\+[0-9A-F]+\}|\{[][*]\}|\{\}",
        "",
        out,
    )
    assert not set(bare) & set('\\{}$&#^_%<>|"[]*'), bare


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)), st.text())
def test_text_is_escaped_character_by_character(plain, other):
    """No character changes what another becomes; only what would melt together is kept apart."""
    parts = [escape(char) for char in plain]
    assert escape(plain).replace("{}", "") == "".join(parts).replace("{}", "")
    for melted in ("---", "--", "``", "!`", "?`"):
        assert melted not in escape(plain)


def test_what_is_known_is_typeset_as_such():
    assert escape("50 % & a_b #1 $x {y} ~") == (r"50 \% \& a\_b \#1 \$x \{y\} \textasciitilde{}")
    assert escape("±0.1 × β ≤ 3 – é ö ß Łukasz ‡") == (
        r"$\pm$0.1 $\times$ $\beta$ $\leq$ 3 -- \'{e} \"{o} \ss{} \L{}ukasz $\ddagger$"
    )
    assert escape("中 \x00") == r"\texttt{U+4E2D} \texttt{U+0000}"
    assert escape("a\n  b\tc") == "a b c"
    assert escape("a--b `` c") == r"a-{}-b \`{}\`{} c"
    assert url("see https://a.org/b_c/d, so/so") == (
        r"see https:/\allowbreak /\allowbreak a.org/\allowbreak b\_c/\allowbreak d, so/so"
    ) or url("see https://a.org/b_c/d, so/so") == (
        r"see https://a.org/\allowbreak b\_c/\allowbreak d, so/so"
    )


def test_verdicts_have_a_sign_and_a_colour_and_best_ones_are_bold(table):
    out = latex.render(table)
    for colour, sign in (
        ("teal", "="), ("blue", r"$\approx$"), ("darkgray", "?"), ("red", "+"), ("red", "$-$"),
        ("red", r"$\uparrow$"), ("red", r"$\downarrow$"), ("orange", r"\dots{}"),
        ("orange", r"$\times$"),
    ):  # fmt: skip
        assert rf"\textcolor{{{colour}}}{{{sign}}}" in out
    assert r"\textbf" not in out
    cell = table.cells["better", "accuracy"]
    assert cell.judged is not None
    best = replace(cell, judged=replace(cell.judged, bold=True))
    bold = latex.render(replace(table, cells={**table.cells, ("better", "accuracy"): best}))
    assert bold.count(r"\textbf{97.00 $\pm$ 0.10 (3)}") == 1
    assert "multirow" not in out
    assert set(re.findall(r"\\usepackage\{(.*?)\}", out)) == {"booktabs,graphicx,xcolor"}


def test_long_tables_come_in_parts_of_one_number(table):
    spec = table.spec
    column = spec.columns["accuracy"]
    columns = {f"c{i}": column.model_copy(update={"title": f"C{i}"}) for i in range(35)}
    long = replace(
        table,
        spec=spec.model_copy(update={"columns": columns, "transposed": True}),
        cells={},
        claims=[],
    )
    out = latex.render(long)
    assert out.count(r"\begin{table}") == 3
    assert out.count(r"\addtocounter{table}{-1}") == 2
    assert [int(i) for i in re.findall(r"^ +C(\d+) &", out, re.MULTILINE)] == list(range(35))
    assert len(set(re.findall(r"\\label\{(.*?)\}", out))) == 3
    assert out.count(r"\begin{minipage}") == 1
