"""The pictures in docs/ of a site that `retable site` has built from the published results.

Example: retable site && uv run scripts/site_pictures.py site
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
# Name, page, width, height, colour scheme, cell that is open.
PICTURES = (
    ("overview", "index.html", 1280, 860, "light", None),
    ("table", "tables/risk_parity/iterations.html", 1440, 900, "light", "original.t1_n50"),
)


def main() -> None:
    """Photograph the site with the system's Chromium."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "index.html").is_file():
        sys.exit("give the folder of a site")
    site = Path(sys.argv[1]).resolve()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        sys.exit("needs Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, page_name, width, height, scheme, cell in PICTURES:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page.goto(f"{(site / page_name).as_uri()}{f'#{cell}' if cell else ''}")
            page.wait_for_timeout(4000)  # the plots are drawn when they come into view
            page.screenshot(path=ROOT / "docs" / f"site-{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
