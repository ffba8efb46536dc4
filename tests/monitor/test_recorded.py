"""States of a table's runs by their records: what is up the chain counts."""

from __future__ import annotations

from msgspec import structs

from retable.monitor import recorded
from retable.monitor.state import Facts as StateFacts
from retable.monitor.state import State, Submitted, judge
from retable.monitor.status_text import table_text
from retable.monitor.table_progress import progress_of
from retable.monitor.table_status import statuses_of
from retable.runs import records
from retable.runs.record_parts import StartedFrom
from retable.runs.records import Status
from retable.tables.collect import from_runs
from support.chained import left


def states(chained):
    found = from_runs(chained, lambda _: None)
    return [recorded.states(chained, found)[run.key] for run in chained.runs()]


def test_what_waits_for_a_run_in_trouble_is_blocked(chained):
    parent, *children = [run for run in chained.runs() if run.config.seed == 0]
    todo = [State.TODO] * 3
    assert states(chained) == [State.TODO] * 6
    left(parent, Status.FAILED, error="RuntimeError: no")
    assert states(chained) == [State.FAILED, State.BLOCKED, State.BLOCKED, *todo]
    progress = progress_of(chained)
    text = progress.as_text()
    assert "6 runs, 1 failed, 2 blocked, 3 to do" in text
    assert "    digits/smoke, which others start from: 1 failed, 1 to do" in text
    assert progress.as_json()["started_from"][0]["failed"] == 1
    assert progress.as_json()["cells"][0]["blocked"] == 1
    [status] = statuses_of([chained], None, lambda _: None)
    assert "    digits/smoke, which others start from: 1 failed, 1 to do" in table_text(status)
    assert status.seen[children[0].key].state is State.BLOCKED
    assert status.seen[children[0].key].why == "what it starts from has not ended well"
    left(children[0])  # done before its parent was tried once more: it stays what it is
    assert states(chained)[:3] == [State.FAILED, State.DONE, State.BLOCKED]


def test_a_plan_tells_of_parents_of_which_only_the_record_is_here(chained):
    parents = [run for run in chained.runs() if run.config.start is None]
    for run in parents:
        left(run)
    progress = progress_of(chained)
    assert list(progress.without_weights) == parents
    assert progress.as_json()["without_weights"] == [run.key for run in parents]
    assert "of these 2 done without their weights being here: `retable verify digits/" in (
        progress.as_text()
    )
    (parents[0].folder / "attempts/1").mkdir(parents=True, exist_ok=True)
    (parents[0].folder / "attempts/1/start.safetensors").touch()
    assert list(progress_of(chained).without_weights) == parents[1:]
    for run in chained.runs():
        left(run)
    assert not progress_of(chained).without_weights  # nothing is to start from it any more


def test_a_child_is_stale_by_its_parent(chained):
    parent, child, other = [run for run in chained.runs() if run.config.seed == 0]
    for run in (parent, child):
        left(run)
    left(other, started_from=StartedFrom(key=parent.key, weights_sha256="b" * 64))
    assert states(chained)[:3] == [State.DONE, State.DONE, State.STALE]
    again = f"retable retry {chained.name} --protocol smoke --stale"
    assert f"has changed, {again} does them again" in progress_of(chained).as_text()
    path = parent.folder / "record.json"
    record = records.read(path)
    path.unlink()
    path.write_text(records.dump(structs.replace(record, fingerprint="0" * 64)))
    assert states(chained)[:3] == [State.STALE, State.STALE, State.STALE]


def test_what_a_job_could_not_start_is_to_do_when_it_can():
    submitted = Submitted(blocked="it starts from x, which is failed")
    assert judge(StateFacts(submitted=submitted)) == (State.BLOCKED, submitted.blocked)
    assert submitted.over
    assert not submitted.unexplained


def test_blocked_follows_the_parent(chained):
    parent, child, _ = [run for run in chained.runs() if run.config.seed == 0]
    for above, before, after in (
        (State.DONE, State.BLOCKED, State.TODO),
        (State.RUNNING, State.BLOCKED, State.TODO),
        (State.LOST, State.TODO, State.BLOCKED),
        (State.DIVERGED, State.TODO, State.BLOCKED),
        (State.FAILED, State.RUNNING, None),
        (State.TODO, State.TODO, None),
    ):
        changed = recorded.blocked(chained, {parent.key: above, child.key: before})
        assert changed.get(child.key) is after
