"""The site in a real headless Chromium: three clicks, keyboard, sorting, filters, themes, axe."""

from __future__ import annotations

import re
from itertools import product

import pytest

from support.browser import PHONE, WIDE, axe, opened, run_page, served, tap
from support.site import ACCURACY, HURT, HURT_STATEMENT, html

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TABLE = "tables/digits/accuracy.html"
TEN_THOUSAND = """
retable.give({papers: ["p"], experiments: ["p/e"], settings: ["a=1", "a=2"],
  statuses: ["done"], dates: ["2026-01-01"], tables: ["p/t"],
  runs: Array.from({length: 10000}, (_, i) =>
    [(i + 1e9).toString(16).padStart(16, "0"), 0, 0, i % 2, i, 0, i / 7, 0, [0]])});
"""
THREE_SEARCHES = """() => {
  const box = document.querySelector("input[type=search]"), begin = performance.now();
  for (const text of ["a=2", "a=2 seed=99", ""]) {
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }
  return performance.now() - begin;
}"""


def seen_seeds(page) -> list[str]:
    page.wait_for_selector("#behind table")
    return page.locator("#behind tbody tr td:nth-child(2)").all_inner_texts()


SEEDS = [f"{100 * value:.10g}" for value in ACCURACY["slow"]]


@pytest.mark.parametrize(
    ("size", "dark"), list(product((WIDE, PHONE), (False, True))), ids=lambda v: str(v)
)
def test_from_the_overview_to_the_seeds_behind_a_cell_in_four_clicks(browser, site, size, dark):
    phone = size == PHONE
    with opened(browser, site, size=size, dark=dark, touch=phone) as (page, notes):
        page.goto(f"{site}index.html")

        def press(what: str) -> None:
            page.wait_for_selector(what)
            page.wait_for_load_state()  # a page that is still being laid out moves under a finger
            if phone:
                tap(page, what, notes)
            else:
                page.click(what)

        press("#overview .fold")
        press("#overview tbody .table-row a")
        press(".points > summary")  # the figure's points; a table without one has no such fold
        press("a.cell#slow\\.accuracy")
        assert seen_seeds(page) == SEEDS
        assert notes.clicks == 4
        press("#behind tbody a")  # and one more leads to the run itself
        page.wait_for_selector("text=Run it again and compare")
        assert notes.clicks == 5
        assert "/run.html?" in page.url


SHOWS_FOCUS = """() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  return parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== "none"
    && box.bottom > 0 && box.top < innerHeight;
}"""


def tab_to(page, wanted: str, limit: int = 60) -> int:
    """Press Tab until the element has the focus; returns how often."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    page.wait_for_load_state()  # a page that is still being laid out moves under the focus
    for count in range(1, limit):
        page.keyboard.press("Tab")
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            try:
                page.wait_for_function(SHOWS_FOCUS, timeout=3000)  # once the page has settled
            except PlaywrightTimeout:  # under load the page moves after the focus has come
                page.keyboard.press("Shift+Tab")
                page.keyboard.press("Tab")
                page.wait_for_function(SHOWS_FOCUS)
            return count
    raise AssertionError(f"{wanted} cannot be reached by keyboard")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=str)
def test_the_same_way_by_keyboard_alone(browser, site, size):
    with opened(browser, site, size=size) as (page, notes):
        page.goto(f"{site}index.html")
        assert tab_to(page, ".skip") == 1
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        clicks = notes.clicks  # the skip link is no part of the way
        tab_to(page, "#overview .fold")
        page.keyboard.press("Enter")
        tab_to(page, "#overview tbody .table-row a")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/{TABLE}")
        tab_to(page, ".points > summary")  # the figure's points, of which accuracy is one
        page.keyboard.press("Enter")
        tab_to(page, "a.cell#slow\\.accuracy")
        page.keyboard.press("Enter")
        assert seen_seeds(page) == SEEDS
        assert page.evaluate("document.activeElement.id") == "cell-title"
        tab_to(page, "#behind tbody a")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Run it again and compare")
        assert notes.clicks - clicks == 5


def test_a_cell_can_be_linked_to_closed_and_left_by_the_keys(browser, site):
    with opened(browser, site) as (page, _):
        page.goto(f"{site}{TABLE}#fast.accuracy")
        page.wait_for_selector("#behind h2:has-text('Fast | <b>rate</b>')")
        assert (
            page.locator("details.points").get_attribute("open") is not None
        )  # else it were not seen
        page.keyboard.press("Escape")
        assert page.locator("#behind").is_hidden()
        assert page.evaluate("document.activeElement.id") == "fast.accuracy"
        page.keyboard.press("ArrowUp")
        assert page.evaluate("document.activeElement.id") == "slow.accuracy"
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("document.activeElement.id") == "slow.loss"
        page.keyboard.press("Enter")
        page.wait_for_selector("#behind h2:has-text('Loss')")
        page.click("#behind [data-go='1']")
        page.wait_for_selector("#behind h2:has-text('Accuracy')")
        assert page.url.endswith("#slow.accuracy")
        page.go_back()
        page.wait_for_selector("#behind h2:has-text('Loss')")


def test_a_table_sorts_up_down_and_back_to_the_paper_s_order(browser, site):
    with opened(browser, site) as (page, _):
        page.goto(f"{site}{TABLE}")
        page.click(".points > summary")
        names = lambda: page.locator("table.cells tbody th").all_inner_texts()  # noqa: E731
        head = page.locator("table.cells th[data-col='2']")
        paper = names()
        assert head.get_attribute("aria-sort") is None
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert names() == ["slow", "Fast | <b>rate</b>", "quoted"]  # without a value: last
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert names() == ["Fast | <b>rate</b>", "slow", "quoted"]
        head.locator("button").click()
        assert head.get_attribute("aria-sort") is None
        assert names() == paper


def test_the_list_of_runs_is_searched_filtered_and_sorted(browser, site):
    with opened(browser, site) as (page, _):
        page.goto(f"{site}runs.html")
        rows = page.locator("#runs tbody tr")
        page.wait_for_selector("#runs tbody tr")
        assert rows.count() == 8
        page.fill("input[type=search]", "lr=0.1")
        assert rows.count() == 4
        page.fill("input[type=search]", "lr=0.1 seed=1")
        assert rows.count() == 1
        page.fill("input[type=search]", "")
        page.select_option("select[name=status]", label="diverged")
        assert rows.count() == 1
        assert "1 of 8 runs" in page.locator(".found").inner_text()
        page.select_option("select[name=status]", "")
        page.select_option("select[name=table]", label="digits/accuracy (smoke)")
        assert rows.count() == 2
        page.select_option("select[name=table]", "")
        page.click("#runs th:has-text('Seed') button")
        seeds = page.locator("#runs tbody td:nth-child(4)").all_inner_texts()
        assert seeds == sorted(seeds)
        assert page.locator("#runs th[aria-sort]").inner_text().startswith("Seed")


def test_ten_thousand_runs_are_searched_without_a_wait(browser, folder, site):
    with opened(browser, site) as (page, _):
        page.route(
            "**/data/runs.js",
            lambda route: route.fulfill(content_type="text/javascript", body=TEN_THOUSAND),
        )
        page.goto(f"{site}runs.html")
        page.wait_for_selector("#runs tbody tr")
        assert page.locator("#runs tbody tr").count() == 100
        assert page.locator(".page-of").inner_text() == "Page 1 of 100"
        page.click("[data-turn='1']")
        assert page.locator(".page-of").inner_text() == "Page 2 of 100"
        took = page.evaluate(THREE_SEARCHES)
        assert took < 1500  # three searches on a busy machine; 30 ms each on an idle one
        page.click("#runs th:has-text('Seconds') button")
        page.click("#runs th:has-text('Seconds') button")
        assert page.locator("#runs tbody td:nth-child(6)").first.inner_text() == "1428.43"


def test_text_that_would_be_html_stays_text(browser, folder, site):
    """`opened` fails where one of them was run, asked for a file, or left an error."""
    with opened(browser, site) as (page, _):
        page.goto(f"{site}{run_page(folder)}")
        page.wait_for_selector("h2")
        assert HURT in page.locator("h1").inner_text()
        page.goto(f"{site}claims/digits.html")
        assert HURT_STATEMENT in page.locator("main").inner_text()
        page.goto(f"{site}runs.html")
        page.wait_for_selector("#runs tbody tr")
        assert HURT in page.locator("#runs tbody").inner_text()
        page.goto(f"{site}{TABLE}#fast.accuracy")
        page.wait_for_selector(".plot svg")
        assert "Fast | <b>rate</b>" in page.locator(".keys").first.inner_text()
        assert page.locator(".keys b, .plot b, main img").count() == 0


def test_a_run_s_page_by_a_part_of_its_key_and_one_that_is_not_there(browser, folder, site):
    with opened(browser, site) as (page, _):
        page.goto(f"{site}{run_page(folder)}"[:-6])
        page.wait_for_selector("text=Run it again and compare")
        assert re.search(r"retable verify [0-9a-f]{16}", page.locator(".command").inner_text())
        assert page.title().startswith("Run ")
        page.locator(".plots").scroll_into_view_if_needed()
        page.wait_for_selector(".plot svg")
        page.click(".places a >> nth=1")  # a cell that it stands in
        page.wait_for_selector("#behind h2")
    with opened(browser, site) as (page, notes):
        page.goto(f"{site}run.html?zz00")
        page.wait_for_selector("text=No such run here")
        notes.errors.clear()  # a file that is not there, as the browser says
        notes.failed.clear()


def test_the_plot_library_is_loaded_where_a_plot_comes_into_view(browser, folder, site):
    with opened(browser, site, size=(1280, 300)) as (page, notes):
        for name in ("index.html", "runs.html", "claims/digits.html"):
            page.goto(f"{site}{name}")
        assert not [url for url in notes.requests if "plotly" in url]
        page.goto(f"{site}{TABLE}")
        page.wait_for_timeout(300)
        assert not page.locator("#learning-title ~ .plots .main-svg").count()
        page.locator("#learning-title").scroll_into_view_if_needed()
        page.locator("#learning-title ~ .plots").first.scroll_into_view_if_needed()
        page.wait_for_selector("#learning-title ~ .plots .main-svg")
        assert len([url for url in notes.requests if "plotly" in url]) == 1
        page.goto(f"{site}{TABLE}#slow.accuracy")
        page.locator("#behind .plots").scroll_into_view_if_needed()
        page.wait_for_selector("#behind .plot svg")
        label = page.locator("#behind .plot").first.get_attribute("aria-label")
        assert label.startswith("Chart slow, loss, loss against epoch. train/loss: ")


def test_it_works_on_a_web_server_and_keeps_the_theme(browser, folder):
    with served(folder) as address, opened(browser, address) as (page, _):
        page.goto(f"{address}index.html")
        background = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
        light = background()
        page.click("button.theme")
        dark = background()
        assert dark != light
        for path in html(folder):
            if path.name != "run.html":
                page.goto(f"{address}{path.relative_to(folder).as_posix()}")
                assert background() == dark
        page.goto(f"{address}{TABLE}#slow.accuracy")
        page.wait_for_selector(".plot svg")
        page.click("button.theme", force=True)
        assert background() == light


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(browser, folder, site, dark):
    with opened(browser, site, size=PHONE, dark=dark) as (page, _):
        for name in (
            *(p.relative_to(folder).as_posix() for p in html(folder) if p.name != "run.html"),
            run_page(folder),
            f"{TABLE}#slow.accuracy",
        ):
            page.goto(f"{site}{name}")
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0], name


def test_the_first_column_stays_while_a_table_scrolls(browser, site):
    with opened(browser, site, size=PHONE) as (page, _):
        page.goto(f"{site}runs.html")
        region = page.locator(".scroll").first
        region.focus()
        first = page.locator("#runs tbody td").first
        before = first.bounding_box()["x"]
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(300)
        assert page.evaluate("document.querySelector('.scroll').scrollLeft") > 0
        assert first.bounding_box()["x"] == pytest.approx(before, abs=1)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=str)
def test_names_contrast_and_structure_by_axe(browser, folder, site, size, dark):
    source = axe()
    with opened(browser, site, size=size, dark=dark) as (page, _):
        for name in ("index.html", "runs.html", "papers/digits.html", "claims/digits.html", TABLE,
                     run_page(folder), f"{TABLE}#slow.accuracy"):  # fmt: skip
            page.goto("about:blank")
            page.goto(f"{site}{name}")
            if name == "runs.html":
                page.wait_for_selector("#runs tbody tr")
            if name == "index.html":
                page.click(".fold")
            if "run.html" in name:
                page.wait_for_selector("h2")
            if "#slow" in name:
                seen_seeds(page)
            page.evaluate(source)
            found = page.evaluate("axe.run(document, {preload: false})")
            assert found["testEngine"]["name"] == "axe-core"
            assert len(found["passes"]) > 15
            problems = [
                f"{v['id']}: {[re.sub(chr(10), ' ', n['html'])[:120] for n in v['nodes'][:3]]}"
                for v in found["violations"]
            ]
            assert problems == [], name


def test_axe_would_find_what_is_wrong(browser, site):
    """The check itself: a page with too little contrast and a nameless button does not pass."""
    source = axe()
    with opened(browser, site) as (page, _):
        page.goto(f"{site}index.html")
        page.evaluate(
            "() => { document.querySelector('h1').style.color = '#ccc';"
            " document.querySelector('main').append(document.createElement('button')) }"
        )
        page.evaluate(source)
        found = page.evaluate("axe.run(document, {preload: false})")
        assert {"color-contrast", "button-name"} <= {v["id"] for v in found["violations"]}
