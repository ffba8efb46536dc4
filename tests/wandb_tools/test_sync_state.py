"""What has been uploaded is remembered, for one place and one content."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from msgspec import structs

from retable.runs.history import history_text
from retable.wandb_tools.local_runs import Local
from retable.wandb_tools.sync_state import is_current, remember
from support.sync import followed, record, rows

WHERE = "host/someone/retable"


@pytest.fixture
def one():
    run = followed()
    attempt = run.folder / "attempts" / "1"
    return Local("0123456789abcdef01", run, attempt, record(run, 1, 3), history_text(rows(3)), [])


def test_it_is_remembered_for_this_place_and_content_alone(one):
    assert not is_current(one, WHERE)
    remember(one, WHERE)
    assert is_current(one, WHERE)
    assert not is_current(one, "host/someone/else")
    for other in (
        replace(one, id="another"),
        replace(one, tags=["a tag"]),
        replace(one, history=history_text(rows(4))),
        replace(one, record=structs.replace(one.record, wall_s=2.5)),
    ):
        assert not is_current(other, WHERE)
    remember(replace(one, history=history_text(rows(4))), WHERE)
    assert not is_current(one, WHERE)


def test_a_broken_file_is_none_and_what_else_it_says_does_not_matter(one):
    remember(one, WHERE)
    [file] = (one.runs / "_wandb" / "synced").iterdir()
    content = json.loads(file.read_text())
    for text in ("", "{", "[]", '{"id": 3}', "\x00"):
        file.write_text(text)
        assert not is_current(one, WHERE)
    file.write_text(json.dumps({**content, "at": "then", "more": 1}))
    assert is_current(one, WHERE)
