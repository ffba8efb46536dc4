"""Whether runs are followed by W&B online or offline, decided once for a launch.

What the library would do here is asked of the library itself, in a process of its own
(``python -m retable.tracking.wandb_mode``), so that the launcher does not import it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from retable.tracking import ledger
from retable.tracking.wandb_run import environment
from retable.util.errors import UserError, brief

if TYPE_CHECKING:
    from retable.config.schema import LoggerConfig
    from retable.runs.frozen import FrozenRun

NETWORK_S = 2.0
"""Longest time in which a server that can be reached takes a connection."""

_ANSWER_S = 30.0


@dataclass(frozen=True)
class WandbState:
    """State of W&B here: library, login and server.

    Attributes:
        missing: why the library cannot be used; None where it can.
        login: whether it has a key for its server.
        reachable: whether that server takes a connection.
        set_to: mode that W&B's own settings or ``WANDB_MODE`` ask for.
        host: name of the server.
        address: its name, and its port where the URL has one.
        app: address of its pages.
        entity: default one of the login, where it is known.
    """

    missing: str | None = None
    login: bool = False
    reachable: bool = False
    set_to: str = "online"
    host: str = "W&B"
    address: str = "W&B"
    app: str = ""
    entity: str | None = None


@dataclass(frozen=True)
class Decision:
    """Mode in which runs are followed, and why.

    Attributes:
        mode: ``online`` or ``offline``; None: not at all.
        why: in words.
    """

    mode: str | None
    why: str


def decide(wanted: str, found: WandbState) -> Decision:
    """Decide how runs are followed whose ``logger.mode`` is ``wanted``."""
    if found.missing is not None:
        return Decision(None, found.missing)
    if wanted != "auto":
        return Decision(wanted, f"logger.mode={wanted}")
    if found.set_to == "disabled":
        return Decision(None, "W&B's own settings say 'disabled'")
    if found.set_to in {"offline", "dryrun"}:
        return Decision("offline", "W&B's own settings say 'offline'")
    if not found.login:
        return Decision("offline", f"there is no valid login for {found.host}")
    if not found.reachable:
        return Decision("offline", f"{found.address} cannot be reached")
    return Decision("online", f"there is a login for {found.host}")


def look(*, online: bool = False) -> WandbState:
    """Ask the library. Imports it, and takes as long as the network does, at most some seconds.

    Args:
        online: look for a network although W&B's own settings say that none is to be used.
    """
    try:
        import wandb
        from wandb.sdk import wandb_setup
        from wandb.sdk.lib import wbauth
    except Exception as error:  # a broken installation may raise anything
        return WandbState(missing=f"the package wandb cannot be imported ({_line(error)})")
    auth: Any = wbauth
    try:
        settings: Any = wandb_setup.singleton().settings
        url, app, mode = str(settings.base_url), str(settings.app_url), str(settings.mode)
    except Exception as error:
        return WandbState(missing=f"W&B's settings are not valid ({_line(error)})")
    key = None
    with suppress(Exception):  # what is no key is no login
        key = auth.authenticate_session(host=url, source="", prompt=False, update_session=False)
    found = WandbState(
        login=key is not None,
        set_to=mode,
        host=urlsplit(url).hostname or url,
        address=_address(url),
        app=app,
    )
    if key is None or not (online or mode == "online") or not _reachable(url):
        return found
    entity = None
    with suppress(Exception):
        api: Any = wandb.Api(timeout=5)
        entity = api.default_entity
    return replace(found, reachable=True, entity=entity)


def answers() -> bool:
    """Whether the server takes a connection; imports the library."""
    from wandb.sdk import wandb_setup

    settings: Any = wandb_setup.singleton().settings
    return _reachable(str(settings.base_url))


def _address(url: str) -> str:
    """Name and port, without a user's name or password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url


def _line(error: Exception) -> str:
    return brief(f"{type(error).__name__}: {error}", 200)


def _reachable(url: str) -> bool:
    """Whether a server, or the proxy on the way to it, takes a connection."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    address = (parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))
    answered = threading.Event()

    def connect() -> None:
        with suppress(OSError), socket.create_connection(address, NETWORK_S):
            answered.set()

    # Asking for a host's address has no limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(NETWORK_S)
    return answered.is_set()


class Inquiry:
    """A process that asks the library, while its parent does something else.

    Args:
        online: as of :func:`look`.
    """

    def __init__(self, *, online: bool) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", __name__, *(["online"] if online else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,  # Ctrl-C is not for it
        )

    def answer(self) -> WandbState:
        """The process's findings; waits for them."""
        try:
            out, _ = self._process.communicate(timeout=_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return WandbState(missing=f"the package wandb did not answer in {_ANSWER_S:g} s")
        try:
            return WandbState(**json.loads(out.splitlines()[-1]))
        except (ValueError, TypeError, IndexError):
            return WandbState(missing="the package wandb cannot be used here")


class Followed:
    """The runs of a launch that W&B is to follow, and how. Without such runs it does nothing.

    Args:
        runs: all runs of the launch.
    """

    def __init__(self, runs: Sequence[FrozenRun]) -> None:
        self._loggers = {
            logger.model_dump_json(): logger
            for logger in (run.config.logger for run in runs)
            if logger.name == "wandb"
        }
        self._decisions: dict[str, Decision] = {}
        self._runs = [run for run in runs if run.config.logger.name == "wandb"]
        modes = {logger.mode for logger in self._loggers.values()}
        self._inquiry = Inquiry(online="online" in modes) if modes else None

    def settle(self, say: Callable[[str], None], *, on_nodes: bool = False) -> None:
        """Decide, and say it, once in a process.

        Args:
            say: told how runs are followed.
            on_nodes: a cluster's nodes do the runs; where the mode is ``auto`` they decide.

        Raises:
            UserError: where runs are to be followed online, and nobody is logged in.
        """
        if self._inquiry is None:
            return
        found = self._inquiry.answer()
        for logger in self._loggers.values():
            decision = self._decisions[logger.mode] = decide(logger.mode, found)
            if decision.mode == "online" and not found.login:
                raise UserError(
                    f"logger.mode=online: there is no valid login for {found.host};"
                    " 'wandb login' makes one, and logger.mode=offline needs none"
                )
            text = _said(logger, decision, found, on_nodes=on_nodes)
            if text not in _heard:
                _heard.add(text)
                say(text)

    def frozen(self, run: FrozenRun) -> FrozenRun:
        """A run as it is written for its job: with what was decided."""
        logger = run.config.logger
        decision = self._decisions.get(logger.mode) if logger.name == "wandb" else None
        if decision is None:
            return run
        update = {"mode": decision.mode} if decision.mode else {"name": "none"}
        config = run.config.model_copy(update={"logger": logger.model_copy(update=update)})
        return replace(run, config=config)

    def report(self, say: Callable[[str], None]) -> None:
        """Say of how many runs that have come to their end W&B does not have all.

        Args:
            say: told of it, where there are any.
        """
        modes = {logger: decision.mode for logger, decision in self._decisions.items()}
        lacking: list[bool] = []
        for run in self._runs:
            mode = modes.get(run.config.logger.mode)
            lacks = None
            with suppress(OSError):  # what cannot be read has been said to be
                lacks = ledger.lacks(run.folder, online=mode == "online") if mode else None
            if lacks is not None:
                lacking.append(lacks)
        if told := sum(lacking):
            are, them = ("run is", "it") if told == 1 else ("runs are", "them")
            say(f"W&B: {told} {are} incomplete there; 'retable wandb sync' completes {them}")
        if untold := len(lacking) - sum(lacking):
            are, its = ("run is", "its attempt") if untold == 1 else ("runs are", "their attempts")
            say(f"W&B: {untold} {are} not there, and cannot be synced; wandb.log of {its} says why")


_heard: set[str] = set()


def _said(logger: LoggerConfig, decision: Decision, found: WandbState, *, on_nodes: bool) -> str:
    if decision.mode is None:
        return f"warning: runs go on without W&B: {decision.why}"
    if on_nodes and logger.mode == "auto":
        return "W&B: every node decides: offline where it has no login or no network"
    if decision.mode == "offline":
        return f"W&B: offline ({decision.why}); 'retable wandb sync' uploads what is there"
    entity = logger.entity or found.entity
    place = "/".join(part for part in (found.app, entity, logger.project if entity else "") if part)
    project = "" if entity else f", project {logger.project}"
    if not found.reachable:
        return (
            f"W&B: online, but {found.address} cannot be reached now; runs that begin before it can"
            " be are kept offline, and 'retable wandb sync' uploads them"
        )
    return f"W&B: online, {place}{project}"


def main() -> None:
    """Print what the library finds here, as one line of JSON."""
    print(json.dumps(asdict(look(online="online" in sys.argv[1:]))), flush=True)


if __name__ == "__main__":
    main()
