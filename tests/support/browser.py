"""A real headless Chromium, axe-core from npm, and a page that notes what it should not do."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, PHONE = (1280, 900), (360, 740)


def chromium() -> str:
    """The system's browser; without one the tests are skipped, which CI does not allow."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs Chromium")
    return found


def axe() -> str:
    """Source of axe-core, installed once from the lock file into a cache folder."""
    lock = (HERE / "package-lock.json").read_bytes()
    name = f"retable-axe-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder = Path(os.environ.get("RETABLE_AXE") or Path(tempfile.gettempdir()) / name)
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("needs npm for axe-core")
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            for file in HERE.glob("package*.json"):
                shutil.copy(file, name)
            done = subprocess.run(
                [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=name,
                capture_output=True, text=True, timeout=180,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"axe-core cannot be installed: {done.stderr[-300:]}")
            try:
                Path(name).rename(folder)
            except OSError:
                assert script.is_file()  # another process was first
            Path(name).mkdir(exist_ok=True)  # what the context manager wants to remove
    return script.read_text(encoding="utf-8")


@dataclass
class Notes:
    """What a page did that is no business of a static page."""

    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    clicks: int = 0


# Clicks of the document, as those that Playwright takes back end at the window, before it.
COUNTER = """
document.addEventListener("click", () => window.counted(), true);
window.moved = [];
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput)
    moved.push(...shift.sources.map(({ node }) => node?.outerHTML?.slice(0, 100) ?? "a text"));
}).observe({ type: "layout-shift", buffered: true });
window.hurt = () => window.hurtful();
"""


@contextmanager
def opened(browser, allowed: str, *, size=WIDE, dark=False, touch=False) -> Iterator[tuple]:
    """A page with a click counter; at the end it must have kept to the rules.

    Args:
        browser: Playwright's.
        allowed: beginning of every address that may be asked for.
        size: of the window.
        dark: the system's theme.
        touch: whether it is a phone.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        reduced_motion="reduce",
    )
    notes = Notes()

    def counted() -> None:
        notes.clicks += 1

    context.expose_function("counted", counted)
    context.expose_function("hurtful", lambda: notes.errors.append("a text was run as code"))
    context.add_init_script(COUNTER)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.on("console", lambda m: m.type in ("error", "warning") and notes.errors.append(m.text))
    page.on("pageerror", lambda error: notes.errors.append(str(error)))
    # What a page still loads when the test leaves it is aborted; that is no failure.
    page.on(
        "requestfailed",
        lambda r: (
            "ERR_ABORTED" in (r.failure or "") or notes.failed.append(f"{r.url}: {r.failure}")
        ),
    )
    page.on("response", lambda r: r.status >= 400 and notes.failed.append(r.url))
    page.on("request", lambda request: notes.requests.append(request.url))
    try:
        yield page, notes
        assert not notes.errors, notes.errors
        assert not notes.failed, notes.failed
        strange = [url for url in notes.requests if not url.startswith((allowed, "data:"))]
        assert not strange, strange
    finally:
        context.close()


def tap(page, what: str, notes) -> None:
    """Touch it, and once more where the browser neither answers nor has heard of it.

    Under load Chromium now and then swallows a touch: its answer never comes.
    """
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    before = notes.clicks
    try:
        page.tap(what)
    except PlaywrightTimeout:
        if notes.clicks == before:
            page.tap(what)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder on a web server of this test."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_page(folder: Path) -> str:
    """Address of some run's page below the site's folder."""
    text = sorted((folder / "runs").glob("*.js"))[0].read_text(encoding="utf-8")
    return f"run.html?{re.findall(r'[0-9a-f]{64}', text)[0][:16]}"
