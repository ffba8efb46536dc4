"""The overview and the papers' pages in a browser: folds, filters, bars, width."""

from __future__ import annotations

import pytest

from support.browser import WIDE, opened

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_filters_of_the_overview_and_of_the_claims(browser, site):
    with opened(browser, site) as (page, _):
        page.goto(f"{site}index.html")
        shown = page.locator("tbody tr:not(.paper-row):visible")
        found = page.locator(".found")
        fold = page.locator(".fold")
        assert (shown.count(), found.inner_text()) == (0, "2 in all")
        page.fill("input[type=search]", "smoke")  # what is found is opened
        assert (shown.count(), found.inner_text()) == (1, "1 of 2")
        assert fold.get_attribute("aria-expanded") == "true"
        assert page.locator("tbody:visible").count() == 1
        page.fill("input[type=search]", "is better script")  # words of a claim, in any order
        assert shown.count() == 2
        page.fill("input[type=search]", "nothing of the kind")
        assert page.locator("tbody:visible").count() == 0
        page.fill("input[type=search]", "")  # and closed again, as it was
        assert (shown.count(), fold.get_attribute("aria-expanded")) == (0, "false")
        fold.press("Enter")
        assert (shown.count(), fold.get_attribute("aria-expanded")) == (2, "true")
        page.select_option("select", "judged")
        assert shown.count() == 1
        page.select_option("select", "")
        assert shown.count() == 2
        page.goto(f"{site}claims/digits.html")
        page.select_option("select", "not-judged")
        assert 0 < shown.count() < 6
        for text in shown.all_inner_texts():
            assert "not judged" in text


@pytest.mark.parametrize("dark", [False, True])
def test_bars_have_the_colours_of_the_theme_that_was_chosen(browser, site, dark):
    colour = """() => getComputedStyle(document.querySelector(".glance rect")).fill"""
    with opened(browser, site, dark=dark) as (page, _):
        page.goto(f"{site}papers/digits.html")
        first = page.evaluate(colour)
        page.click("button.theme")
        assert page.evaluate(colour) != first
        page.click("button.theme")
        assert page.evaluate(colour) == first


def test_no_column_of_the_overview_is_lost_on_a_usual_screen(browser, site):
    with opened(browser, site, size=WIDE) as (page, _):
        page.goto(f"{site}index.html")
        last = page.locator("#overview th[data-col='6']").bounding_box()
        assert last["x"] + last["width"] <= WIDE[0]
        assert page.evaluate("document.documentElement.scrollWidth") == WIDE[0]
