"""What has been uploaded is remembered, for one place and one content."""

from __future__ import annotations

from dataclasses import replace

from retable.wandb_tools.sync_state import Synced, is_current

MARK = Synced("0123456789abcdef01", "host/someone/retable", 3, "d" * 64)


def test_it_is_remembered_for_this_place_and_content_alone(runs):
    assert not is_current(runs, MARK)
    MARK.write(runs)
    assert is_current(runs, MARK)
    for other in (
        replace(MARK, where="host/someone/else"),
        replace(MARK, digest="e" * 64),
        replace(MARK, steps=4),
        replace(MARK, id="another"),
    ):
        assert not is_current(runs, other)
    replace(MARK, steps=4).write(runs)
    assert not is_current(runs, MARK)


def test_a_broken_file_is_none(runs):
    MARK.write(runs)
    [file] = (runs / "_wandb" / "synced").iterdir()
    for text in ("", "{", "[]", '{"id": 3}', "\x00"):
        file.write_text(text)
        assert not is_current(runs, MARK)
