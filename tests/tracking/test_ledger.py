"""Which run of W&B an attempt is, and from which step it goes on."""

from __future__ import annotations

import pytest
from msgspec import structs

from retable.launch.dispatch import launch
from retable.runs import records
from retable.runs.records import Status
from retable.tracking import ledger
from retable.tracking.ledger import Ledger
from support.runs import freeze

KEY, CODE = "0123456789ab" + "c" * 52, "fedcba" + "9" * 58
ID = "0123456789abfedcba"


@pytest.fixture
def attempts(tmp_path):
    """Folders of attempts with the ledgers given, None where W&B was told nothing."""

    def make(*ledgers):
        folders = []
        for number, own in enumerate(ledgers, 1):
            folders.append(tmp_path / "attempts" / str(number))
            folders[-1].mkdir(parents=True)
            if own is not None:
                own.write(folders[-1])
        return folders

    return make


def test_the_first_attempt_begins_a_run():
    assert ledger.begin(KEY, CODE, [], None, "offline") == Ledger(ID, "offline")


def test_one_that_resumes_goes_on_with_the_same_run(attempts):
    first, second = attempts(Ledger(ID, "online", "s", upto=3), Ledger(ID, "offline", upto=3))
    told = ledger.begin(KEY, CODE, [second, first], second, "offline")
    assert told == Ledger(ID, "offline", None, upto=3)


def test_no_step_is_told_twice_whichever_checkpoint_it_resumes_from(attempts):
    """The newest one may be broken; what was told of it stays told."""
    first, second = attempts(Ledger(ID, "offline", upto=3), Ledger(ID, "offline", upto=9))
    assert ledger.begin(KEY, CODE, [second, first], first, "offline").upto == 9


def test_one_that_starts_anew_is_another_run_where_the_last_has_curves(attempts):
    folders = attempts(Ledger(ID, "offline", upto=3), Ledger(f"{ID}g1", "offline", upto=1))
    assert ledger.begin(KEY, CODE, folders[:1], None, "offline").id == f"{ID}g1"
    assert ledger.begin(KEY, CODE, folders, None, "offline").id == f"{ID}g2"


def test_an_id_without_curves_is_used_again(attempts):
    folders = attempts(Ledger(ID, "offline", "s"))
    assert ledger.begin(KEY, CODE, folders, None, "offline") == Ledger(ID, "offline")


def test_other_code_does_not_count(attempts):
    folders = attempts(Ledger("0123456789ab000000", "offline", upto=3))
    assert ledger.begin(KEY, CODE, folders, folders[0], "offline") == Ledger(ID, "offline")


def test_one_that_goes_on_from_an_attempt_that_was_not_followed_tells_all(attempts):
    folders = attempts(None)
    assert ledger.begin(KEY, CODE, folders, folders[0], "offline") == Ledger(ID, "offline")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "x"}', '{"id": "x", "no": 1}'])
def test_a_broken_ledger_is_none(attempts, text):
    [folder] = attempts(Ledger(ID, "offline"))
    assert ledger.read(folder) == Ledger(ID, "offline")
    (folder / ledger.FILE).write_text(text)
    assert ledger.read(folder) is None


def test_those_of_a_run_come_in_order(attempts, tmp_path):
    folders = attempts(Ledger(ID, "offline", upto=1), None, Ledger(ID, "offline", upto=2))
    assert [told.upto for _, told in ledger.of_run(tmp_path)] == [1, 2]
    assert [path for path, _ in ledger.of_run(tmp_path)] == [folders[0], folders[2]]


@pytest.mark.parametrize(
    ("told", "online", "lacks"),
    [
        (Ledger(ID, "online", "s", upto=4, finished=True), True, None),
        (Ledger(ID, "offline", "s", upto=4, finished=True), False, None),
        (Ledger(ID, "offline", "s", upto=4, finished=True), True, True),  # the server was gone
        (Ledger(ID, "offline", "s", upto=4), False, True),
        (None, False, False),
    ],
)
def test_what_w_and_b_lacks_of_a_run_that_is_done(fake, told, online, lacks):
    run = freeze()
    launch([run])
    if told is not None:
        told.write(run.folder / "attempts" / "1")
    assert ledger.lacks(run.folder, online=online) is lacks


@pytest.mark.parametrize(
    ("status", "lacks"),
    [
        (Status.FAILED, True),
        (Status.DIVERGED, True),
        (Status.INTERRUPTED, None),
        (Status.TIMEOUT, None),
    ],
)
def test_a_run_that_is_to_go_on_lacks_nothing_yet(fake, status, lacks):
    run = freeze()
    launch([run])
    [folder] = records.attempts(run.folder)
    record = structs.replace(
        records.read(folder / "record.json"), status=status, results=[], error="e"
    )
    (folder / "record.json").unlink()
    assert ledger.lacks(run.folder, online=False) is None
    (folder / "record.json").write_text(records.dump(record))
    Ledger(ID, "offline", "s").write(folder)
    assert ledger.lacks(run.folder, online=False) is lacks
