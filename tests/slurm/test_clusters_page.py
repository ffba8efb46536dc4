"""The five commands of docs/clusters.md, exactly as they are written there, on a real cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.slurm import new_cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    text = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    return text.partition("```sh\n")[2].partition("```")[0].splitlines()


def test_from_nothing_to_a_finished_table_in_five_commands(tmp_path):
    assert len(commands()) == 5
    with new_cluster() as cluster:
        kept = {k: v for k, v in os.environ.items() if k != "RETABLE_EXTRA"}
        done = subprocess.run(
            ["bash", "-c", "set -e\n" + "\n".join(commands())],
            cwd=ROOT,
            env=kept | cluster.environment | {"RETABLE_RUNS": str(tmp_path / "runs")},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.rpartition("\n# ")[2]
    assert table.startswith("Risk parity weights of a five-asset example")
    assert "*6 runs, " in table
    assert "30 cells compared: 30 reproduced" in table
