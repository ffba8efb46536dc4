"""Verdicts as bars within a page; the words below each say the same."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from retable.report.svg import verdict_bars
from retable.report.svg.verdict_bars import Part

_WIDE, _THICK = 100.0, 8.0


def key(bars: Sequence[Sequence[Part]]) -> Markup:
    """What each colour of some bars says; empty where they show nothing."""
    shown = verdict_bars.used(bars)
    # The looks are written by us; what is said is escaped.
    looks = map(Markup, (look for _, _, look in shown))
    item = Markup(
        '<li><svg viewBox="0 0 10 10" aria-hidden="true">'
        '<rect {} width="10" height="10"/></svg>{}</li>'
    )
    said = [item.format(look, name) for (name, _, _), look in zip(shown, looks, strict=True)]
    return (
        Markup('<ul class="keys swatches">{}</ul>').format(Markup("").join(said))
        if said
        else Markup("")
    )


def of(parts: Sequence[Part]) -> Markup:
    """A bar with its counts in words; empty where there is nothing to show.

    Its colours are the page's, by the classes that :mod:`retable.report.svg.verdict_bars` gives,
    so that they follow the theme that a reader has chosen.
    """
    said = verdict_bars.said(parts)
    if not said:
        return Markup("")
    # The picture is for eyes: who does not see it reads the counts.
    drawn = Markup("").join(map(Markup, verdict_bars.bar(0, 0, _WIDE, _THICK, parts)))
    return Markup(
        '<svg class="bar" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none" aria-hidden="true">'
        '{}</svg><span class="counts">{}</span>'
    ).format(_WIDE, _THICK, drawn, said)
