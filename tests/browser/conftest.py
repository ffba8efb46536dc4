"""A browser and the generated site, once a module: Playwright's loop must not outlive it."""

from __future__ import annotations

import pytest

from support.browser import ARGUMENTS, chromium
from support.site import built


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return built(tmp_path_factory.mktemp("browser") / "a site").folder


@pytest.fixture(scope="module")
def site(folder):
    """Address of the site's folder, opened as files."""
    return f"{folder.as_uri()}/"
