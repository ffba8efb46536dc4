"""A run with perturbations of all images that is killed, not stopped, in the middle of an epoch."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from retable.runs import frozen, records
from support.runs import freeze, record_of, wait_for

OPTIONS = [
    "trainer.max_epochs=8", "model.smoothing.phases=[0,8]", "model.attack.reset=5",
    "model.attack.kind=momentum", "model.attack.labels=soft", "model.match=10",
    "model.smoothing.weight=1", "model.smoothing.on=clean",
]  # fmt: skip


def worker(run):
    return subprocess.Popen([sys.executable, "-m", "retable.launch.worker", str(run.folder)])


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit_with_its_perturbations(tmp_path):
    whole, killed = (
        freeze(*OPTIONS, f"paths.runs={tmp_path / name}", experiment="converge_smooth/smoke")
        for name in ("whole", "killed")
    )
    for run in (whole, killed):
        frozen.write(run)
    assert worker(whole).wait(240) == 0
    process = worker(killed)
    history = killed.folder / "attempts" / "1" / "history.jsonl"
    wait_for(lambda: history.exists() and len(history.read_text().splitlines()) >= 3, 240)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert not (killed.folder / "record.json").exists()
    assert worker(killed).wait(240) == 0
    record = record_of(killed)
    assert len(records.attempts(killed.folder)) == 2
    assert record.substance() == record_of(whole).substance()
    assert len(history.read_text().splitlines()) < 8, "it was killed in the middle"
