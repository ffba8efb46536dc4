"""The picture in docs/ of `retable watch`: a table's board as it is now, as a terminal shows it.

Example: retable run binary_connect/table2 --protocol reduced launcher.workers=2 &
         uv run scripts/watch_picture.py binary_connect/table2 reduced
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from retable.monitor.board.layout import board
from retable.monitor.board.view import Watcher
from retable.tables import collect
from retable.tables.grid import plan

FILE = Path(__file__).resolve().parents[1] / "docs" / "watch.png"
WIDTH = 100
THEME = TerminalTheme(
    (24, 26, 31),
    (215, 218, 224),
    [(24, 26, 31), (224, 108, 117), (152, 195, 121), (229, 192, 123),
     (97, 175, 239), (198, 120, 221), (86, 182, 194), (215, 218, 224)],
)  # fmt: skip
# The system's own font: the one that rich names would come from another host.
FONT = "<style>*{font-family:'DejaVu Sans Mono',monospace !important}body{margin:0}</style>"


def main() -> None:
    """Photograph the board with the system's Chromium."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        sys.exit("needs Chromium")
    if len(sys.argv) not in (2, 3):
        sys.exit("give a table, and a protocol where it is not paper")
    name, protocol = sys.argv[1], (*sys.argv[2:], "paper")[0]
    watcher = Watcher([collect.decided_by_runs(plan(name, protocol))])
    watcher.update()
    with tempfile.TemporaryDirectory() as folder, Path(folder, "null").open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        for line in board(watcher.views(), WIDTH):
            console.print(line, no_wrap=True)
        console.print()  # the last line would be cut a little
        page_file = Path(folder, "board.html")
        svg = console.export_svg(title=f"retable watch {name}", theme=THEME)
        page_file.write_text(f"<meta charset=utf-8>{FONT}{svg}", encoding="utf-8")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1260, "height": 800})
            page.goto(page_file.as_uri())
            page.locator("svg").first.screenshot(path=FILE, omit_background=True)
            browser.close()


if __name__ == "__main__":
    main()
