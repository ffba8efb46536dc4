"""docs/first-paper.md, done as a reader would: its files are written and its commands run."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from pathlib import Path

import pytest

from retable.admin import new_paper
from retable.cli.main import main
from retable.data.modules import ImageData
from support import pages

PAGE = pages.ROOT / "docs" / "first-paper.md"
# A block, with the file that it is where the line before names one.
BLOCK = re.compile(r"(?:^`([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(pages.read(PAGE))
FILES = {name: text for name, _, text in BLOCKS if name}
QUICK = ("new paper sharpness", "run sharpness/accuracy --protocol smoke")
MAX_LINES = 130


class Reader:
    """Follows the page in a folder of its own, with what needs no data in place of what does."""

    def __init__(self, folder: Path, monkeypatch, capfd) -> None:
        self.folder, self.monkeypatch, self.capfd = folder, monkeypatch, capfd
        self.said: dict[str, str] = {}
        monkeypatch.setenv("RETABLE_EXTRA", str(folder))

    def call(self, line: str) -> str:
        self.monkeypatch.setattr(sys, "argv", ["retable", *shlex.split(line)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = self.capfd.readouterr()
        assert left.value.code == 0, f"{line}\n{out}\n{err}"
        return out

    def follow(self, only: tuple[str, ...] = ()) -> None:
        """Write the files and run the commands, in the order of the page."""
        for name, lang, text in BLOCKS:
            if name:
                (self.folder / name).write_text(text, encoding="utf-8")
            for words in (shlex.split(line, True) for line in text.splitlines() if lang == "sh"):
                if not words or words[0] == "export":
                    continue
                assert words[0] == "retable"
                line = shlex.join(words[1:])
                if line in only or not only:
                    self.said[line] = self.call(line.replace("protocol reduced", "protocol smoke"))


@pytest.fixture
def reader(tmp_path, monkeypatch, capfd) -> Reader:
    return Reader(tmp_path / "my_papers", monkeypatch, capfd)


def test_it_is_little_to_write_and_what_is_shown_of_the_rest_is_there():
    assert sum(len(text.splitlines()) for text in FILES.values()) <= MAX_LINES
    assert sum(name.endswith(".py") for name in FILES) == 2
    template = (new_paper.TEMPLATE / "module.py.txt").read_text(encoding="utf-8")
    (shown,) = (text for name, lang, text in BLOCKS if lang == "python" and not name)
    assert shown == template


def test_defaults_of_image_sets_are_those_of_the_class():
    """Those of `n_validation` are of the sets; a name stands for whether it is said."""
    parameters = inspect.signature(ImageData).parameters
    shown = dict(re.findall(r"^\| `(\w+)` \| `?(\w+)`? ", pages.read(PAGE), re.MULTILINE))
    assert {*shown} == {*parameters} - {"seed", "paths", "dataset", "checksum"}
    said = {"needed": inspect.Parameter.empty, "all": None, "true": True, "false": False}
    for name, default in shown.items():
        expected = parameters[name].default
        if name != "n_validation":
            assert said.get(default, default) in (expected, str(expected)), name


def test_the_table_comes_out_with_both_rows(reader):
    reader.follow(only=QUICK)
    assert set(reader.said) == set(QUICK)
    written = reader.said[QUICK[0]].partition("\nin ")[0]
    assert f"```text\n{written}\n```" in pages.read(PAGE)
    table = reader.said[QUICK[1]]
    for row in ("SGD", "SAM"):
        assert len(re.findall(rf"^\| {row} \|(?: \d+\.\d\d \(1\) \|)+$", table, re.MULTILINE)) == 2
    assert "selected of 2 settings by val/accuracy" in table
    for line in next(text for _, lang, text in BLOCKS if "±" in text).splitlines():
        if line.startswith("| |") or line.startswith("| ---"):
            assert line in table


@pytest.mark.slow
def test_every_command_does_what_the_page_says(reader, retable):
    reader.follow()
    assert {lang for _, lang, _ in BLOCKS} == {"sh", "text", "python", "yaml"}
    trained = [said for line, said in reader.said.items() if line.startswith("train ")]
    sgd, optimiser, by_hand = (re.findall("    test/.+", said) for said in trained)
    assert optimiser == by_hand != sgd
    checked = reader.said["check-paper sharpness"]
    assert "7 of 7 are as they have to be" in checked
    assert (reader.folder / "results" / "sharpness" / "accuracy-smoke.svg").is_file()

    # In processes of their own, as code is read once.
    plan = shlex.split("plan sharpness/accuracy --protocol smoke")
    sam = reader.folder / "papers" / "sharpness" / "sam.py"
    sam.write_text(sam.read_text().replace("Climbs", "Goes up"))
    assert "stale" not in retable(*plan).stdout
    sam.write_text(sam.read_text().replace("1e-12", "1e-9"))
    assert "1 done, 3 stale" in retable(*plan).stdout
