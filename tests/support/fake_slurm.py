"""SLURM's commands as files that print what the real ones (24.11) do, and note how they are called.

A job that is submitted is in the queue, pending, until it is cancelled or the test says otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMANDS = Path(__file__).with_name("fake_slurm_commands.py")
DEAD = "Unable to contact slurm controller (connect failure)"


@dataclass
class FakeSlurm:
    """The commands, in a folder that comes first on the path."""

    folder: Path

    def calls(self, command=None):
        """Arguments of all calls so far, of one command or with its name before them."""
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return found if command is None else [c[1:] for c in found if c[0] == command]

    def answer(self, command, text="", error="", code=0):
        """Have a command say this from now on, whatever it is asked."""
        said = {"text": text, "error": error, "code": code}
        (self.folder / f"{command}.json").write_text(json.dumps(said))

    def usual(self, command):
        """Have a command do again what it should."""
        (self.folder / f"{command}.json").unlink(missing_ok=True)

    @property
    def jobs(self):
        """What was submitted and not cancelled: id -> options of the script and of the call."""
        return {p.stem: json.loads(p.read_text()) for p in sorted((self.folder / "q").iterdir())}

    def set(self, job, **about):
        """Change what squeue says of a job."""
        path = self.folder / "q" / f"{job}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **about}))

    def forget(self, job):
        """The controller has forgotten a job that ended."""
        (self.folder / "q" / f"{job}.json").unlink()


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    folder = tmp_path / "fake slurm"
    (folder / "q").mkdir(parents=True)
    for command in ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun"):
        path = folder / command
        path.write_text(f"#!{sys.executable} -IS\n{COMMANDS.read_text()}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name in list(os.environ):
        if name.startswith(("SLURM", "SBATCH")):
            monkeypatch.delenv(name)
    return FakeSlurm(folder)
