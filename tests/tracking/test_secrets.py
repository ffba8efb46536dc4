"""Values that were planted are found nowhere: in no record, and in nothing that is uploaded."""

from __future__ import annotations

import json
import subprocess

import pytest

from retable.launch.worker import Exit, perform
from retable.tracking import naming
from support.runs import LAUNCHED
from support.tracking import attempt_of, followed
from support.wandb_stand_in import KEY, running

TOKEN, PASSWORD, ADDRESS = "ghp_planted0123456789", "planted-pass-word", "planted@example.org"
LOCAL = {"config.yaml", "lease.json"}
"""Files of a run with its folders in them, which nothing publishes."""


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A user with secrets, whose runs are below the home folder."""
    home = tmp_path / "home" / "planteduser"
    home.mkdir(parents=True)
    for name, value in {
        "HOME": str(home),
        "RETABLE_RUNS": str(home / "runs"),
        "WANDB_API_KEY": KEY,
        "GITHUB_TOKEN": TOKEN,
        "DB_PASSWORD": PASSWORD,
        "EMAIL": ADDRESS,
        "GIT_AUTHOR_EMAIL": ADDRESS,
        "WANDB_USER_EMAIL": ADDRESS,
        "WANDB_USERNAME": "planteduser",
    }.items():
        monkeypatch.setenv(name, value)
    command = ["git", "config", "--global", "user.email", ADDRESS]
    subprocess.run(command, check=True, cwd=home)
    return home


@pytest.fixture
def talkative(monkeypatch, home):
    """A paper whose error says everything."""
    from retable.papers.digits.module import Perceptron

    def shared_step(self, batch):
        raise RuntimeError(f"{home}/data {KEY} {TOKEN} {PASSWORD} {ADDRESS}")

    monkeypatch.setattr(Perceptron, "shared_step", shared_step)


def planted_in(data, home, *, paths=True):
    values = [KEY, TOKEN, PASSWORD, ADDRESS, *([str(home), "planteduser"] if paths else [])]
    return [value for value in values if value.encode() in data]


def check(home):
    """Nothing is found in what may be published, and no secret even in what stays here."""
    runs = home / "runs"
    seen = set()
    for path in (path for path in runs.rglob("*") if path.is_file()):
        stays = path.name in LOCAL or path.parent.name == "logs" or path.name == "wandb.log"
        assert planted_in(path.read_bytes(), home, paths=not stays) == [], path
        seen.add(path.suffix)
    assert {".wandb", ".json", ".txt"} <= seen
    assert {path.name for path in home.iterdir()} == {"runs", ".gitconfig"}  # nor is it littered


@pytest.mark.slow
def test_a_run_that_fails_says_nothing_of_its_user(home, talkative):
    run = followed(experiment="digits/smoke")
    assert perform(run.folder, LAUNCHED) is Exit.FAILED
    check(home)
    record = json.loads((attempt_of(run) / "record.json").read_text())
    assert record["error"] == "RuntimeError: ~/data <secret> <secret> <secret> <e-mail>"
    assert "<secret>" in (attempt_of(run) / "traceback.txt").read_text()


@pytest.mark.slow
def test_nothing_of_the_user_is_uploaded(home, talkative, monkeypatch):
    with running() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = followed(experiment="digits/smoke", mode="online")
        perform(run.folder, LAUNCHED)
        [told] = server.runs.values()
        assert (told.state, told.about["tags"]) == ("failed", ["failed"])
        assert "<secret>" in told.summary["error"]
        sent = json.dumps(server.bodies).encode() + b"".join(told.uploads.values())
    assert planted_in(sent, home) == []
    check(home)


def test_no_library_is_told_of_a_run_that_is_not_followed(home, talkative):
    run = followed("logger=none", experiment="digits/smoke")
    perform(run.folder, LAUNCHED)
    assert not naming.folder(home / "runs").exists()
