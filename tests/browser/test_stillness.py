"""Nothing on a page of the site moves while it is loaded."""

from __future__ import annotations

import pytest

from support.browser import PHONE, WIDE, opened, run_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TABLE = "tables/digits/accuracy.html"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=str)
def test_nothing_moves_while_a_page_is_loaded(browser, folder, site, size):
    """Who is about to press a cell must not hit another, as curves above it were drawn."""
    for page_name in ("index.html", "papers/digits.html", TABLE, run_page(folder)):
        with opened(browser, site, size=size) as (page, _):
            page.goto(f"{site}{page_name}")
            page.wait_for_load_state()
            if page.locator(".plots").count():
                page.locator(".plots").first.scroll_into_view_if_needed()
                page.wait_for_selector(".plots .main-svg")
            page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
            assert page.evaluate("moved") == []
