"""Online or offline: what the library finds, what follows from it, and what is said of it."""

from __future__ import annotations

import socket

import pytest

from retable.launch.dispatch import launch
from retable.runs import frozen
from retable.tracking import wandb_mode
from retable.tracking.wandb_mode import Inquiry, WandbState, decide
from retable.util.errors import UserError
from support.tracking import followed, without
from support.wandb_stand_in import ENTITY, KEY, running

HERE = WandbState(login=True, reachable=True, host="h", app="https://a", entity="me")


@pytest.fixture(autouse=True)
def _nothing_heard(monkeypatch):
    monkeypatch.setattr(wandb_mode, "_heard", set())


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """As for somebody who has never used W&B; returns what is written as if by ``wandb login``."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("wanted", "found", "mode", "word"),
    [
        ("auto", HERE, "online", "login"),
        (
            "auto",
            WandbState(login=False, reachable=True, host="h"),
            "offline",
            "no valid login for h",
        ),
        ("auto", WandbState(login=True, address="h:1"), "offline", "h:1 cannot be reached"),
        ("auto", WandbState(login=True, reachable=True, set_to="offline"), "offline", "'offline'"),
        ("auto", WandbState(login=True, reachable=True, set_to="disabled"), None, "'disabled'"),
        ("offline", HERE, "offline", "logger.mode=offline"),
        ("online", WandbState(set_to="offline"), "online", "logger.mode=online"),
        ("offline", WandbState(missing="not there"), None, "not there"),
        ("auto", WandbState(missing="not there"), None, "not there"),
    ],
)
def test_what_follows_from_what_is_found(wanted, found, mode, word):
    decision = decide(wanted, found)
    assert decision.mode == mode
    assert word in decision.why


def test_nobody_is_logged_in(alone):
    found = Inquiry(online=False).answer()
    assert (found.missing, found.login, found.reachable) == (None, False, False)
    assert found.host


@pytest.mark.slow
def test_a_key_in_the_environment_is_a_login_and_the_server_is_asked(alone, monkeypatch):
    with running() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        found = Inquiry(online=False).answer()
    assert (found.login, found.reachable, found.entity) == (True, True, ENTITY)
    assert found.app == server.url
    assert (found.host, found.address) == ("127.0.0.1", server.url.removeprefix("http://"))


@pytest.mark.slow
def test_a_netrc_entry_of_the_server_is_a_login(alone, monkeypatch):
    port = closed_port()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    (alone / ".netrc").write_text(f"machine 127.0.0.1:{port}\n  login user\n  password {KEY}\n")
    found = Inquiry(online=False).answer()
    assert (found.login, found.reachable) == (True, False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.2:9")
    assert not Inquiry(online=False).answer().login


def test_a_key_that_is_none_is_no_login(alone, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    found = Inquiry(online=False).answer()
    assert (found.missing, found.login) == (None, False)


@pytest.mark.slow
def test_a_mode_that_the_library_is_set_to_is_heeded_and_nobody_is_called(alone, monkeypatch):
    with running() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_MODE", "offline")
        found = Inquiry(online=False).answer()
        assert (found.set_to, found.reachable, server.calls) == ("offline", False, [])
        assert Inquiry(online=True).answer().reachable


@pytest.mark.parametrize(
    ("content", "word"), [("raise ImportError('no such thing')", "no such thing"), ("", "cannot")]
)
def test_a_library_that_is_broken_is_said_to_be(tmp_path, monkeypatch, content, word):
    (tmp_path / "path" / "wandb").mkdir(parents=True)
    (tmp_path / "path" / "wandb" / "__init__.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    assert word in Inquiry(online=False).answer().missing


class Known(Inquiry):
    """An answer that is known."""

    def __init__(self, *, online):
        self.online = online

    def answer(self):
        return self.found


@pytest.fixture
def settled(monkeypatch):
    """Settle for runs where so much is found; returns what is said, and what decided."""
    monkeypatch.setattr(wandb_mode, "Inquiry", Known)

    def settle(runs, found, **more):
        Known.found = found
        made, said = wandb_mode.Followed(runs), []
        made.settle(said.append, **more)
        return said, made

    return settle


def test_it_is_said_once_and_written_for_the_jobs(settled):
    runs = [followed(mode="auto", seed=seed) for seed in (0, 1)]
    said, made = settled(runs, WandbState(host="h"))
    assert said == [
        "W&B: offline (there is no valid login for h); 'retable wandb sync' uploads what is there"
    ]
    assert settled(runs, WandbState(host="h"))[0] == []
    as_written = [made.frozen(run) for run in runs]
    assert [run.config.logger.mode for run in as_written] == ["offline", "offline"]
    assert [run.key for run in as_written] == [run.key for run in runs]
    frozen.write(as_written[0])
    assert frozen.read(runs[0].folder).config.logger.mode == "offline"


def test_online_it_says_where(settled):
    run = followed("logger.project=mine", mode="auto")
    assert settled([run], HERE)[0] == ["W&B: online, https://a/me/mine"]
    unknown = WandbState(login=True, reachable=True, host="h", app="https://a")
    run = followed(mode="online")
    assert settled([run], unknown)[0] == ["W&B: online, https://a, project retable"]


def test_online_with_a_server_that_cannot_be_reached_says_what_happens(settled):
    found = WandbState(login=True, reachable=False, address="127.0.0.1:9", app="https://a")
    assert settled([followed(mode="online")], found)[0] == [
        "W&B: online, but 127.0.0.1:9 cannot be reached now; runs that begin before it can be"
        " are kept offline, and 'retable wandb sync' uploads them"
    ]


def test_the_name_of_a_server_holds_no_password():
    assert wandb_mode._address("https://me:secret@h:8080/path") == "h:8080"
    assert wandb_mode._address("https://api.wandb.ai") == "api.wandb.ai"


def test_online_without_a_login_is_refused(settled):
    with pytest.raises(UserError, match=r"logger\.mode=online: there is no valid login for h"):
        settled([followed(mode="online")], WandbState(host="h"))


def test_without_the_library_runs_go_on_without_it(settled):
    run = followed()
    said, made = settled([run], WandbState(missing="the package wandb is not there"))
    assert said == ["warning: runs go on without W&B: the package wandb is not there"]
    assert made.frozen(run).config.logger.name == "none"


def test_nodes_of_a_cluster_decide_for_themselves(settled):
    run = followed(mode="auto")
    said, _ = settled([run], WandbState(host="h"), on_nodes=True)
    assert said == ["W&B: every node decides: offline where it has no login or no network"]
    assert settled([followed()], WandbState(host="h"), on_nodes=True)[0] == [
        "W&B: offline (logger.mode=offline); 'retable wandb sync' uploads what is there"
    ]


def test_runs_that_are_not_followed_ask_nothing(monkeypatch):
    monkeypatch.setattr(wandb_mode, "Inquiry", None)  # calling it would fail
    run = without(followed())
    made = wandb_mode.Followed([run])
    made.settle(pytest.fail)
    assert made.frozen(run) is run


def test_refused_before_anything_is_launched(alone, fake, runs):
    run = followed(mode="online")
    with pytest.raises(UserError, match="no valid login"):
        launch([run])
    assert fake.log == []
    assert not list(runs.rglob("attempts"))


@pytest.mark.slow
def test_online_runs_that_were_kept_offline_are_counted_at_the_end(
    alone, fake, monkeypatch, capsys
):
    address = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv("WANDB_BASE_URL", f"http://{address}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert launch([followed(mode="online", seed=seed) for seed in (0, 1)]).done == 2
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"W&B: online, but {address} cannot be reached now")
    assert last == "W&B: 2 runs are incomplete there; 'retable wandb sync' completes them"


def test_a_sweep_without_the_library_warns_once(fake, tmp_path, runs, monkeypatch, capsys):
    (tmp_path / "path" / "wandb").mkdir(parents=True)
    (tmp_path / "path" / "wandb" / "__init__.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    summary = launch([followed(experiment="digits/smoke", seed=seed) for seed in (0, 1)])
    assert (summary.done, summary.ok) == (2, True)
    assert capsys.readouterr().err.count("warning: runs go on without W&B") == 1
    assert not list(runs.rglob("wandb.*"))
