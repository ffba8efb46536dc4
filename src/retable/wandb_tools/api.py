"""Asking W&B's server through the library: what it has of a run, and the runs of a project."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from retable.util.errors import UserError, brief

if TYPE_CHECKING:
    from retable.tracking.wandb_mode import WandbState

T = TypeVar("T")

WAITS_S = (2.0, 4.0, 8.0, 16.0)
"""Pauses after each attempt that a network or a busy server has failed, before the next one."""

_PAGE = 100

_LATER = {408, 409, 425, 429}
"""Statuses that may be another one a moment later, besides those of a server's own errors."""

RETRIES = {"retry_max": 2, "retry_wait_min_seconds": 0.5, "retry_wait_max_seconds": 2.0}
"""The library's own patience; beyond it we wait ourselves, and say so."""


class Refused(Exception):
    """The server will not do it, now or later."""


class Unreachable(Exception):
    """No answer, or one that may be another a moment later."""


class Stopped(Exception):
    """Somebody asked for an end."""


def patiently(
    do: Callable[[], T],
    waits: Sequence[float] = WAITS_S,
    said: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> T:
    """Do something, again and again with growing pauses while the server cannot be reached.

    Args:
        do: what may raise :class:`Unreachable`; anything else it raises is not for waiting.
        waits: seconds before each new attempt; a little random is added, so that several that
            failed together do not come back together.
        said: told before each pause.
        stop: ends a pause.

    Raises:
        Unreachable: where the last attempt failed too.
        Stopped: where ``stop`` was set in a pause.
    """
    stop = stop or threading.Event()
    for wait in waits:
        try:
            return do()
        except Unreachable as error:
            said(f"{error}; again in {wait:g} s")
        if stop.wait(wait * random.uniform(1.0, 1.25)):  # noqa: S311 - no secret
            raise Stopped
    return do()


@dataclass(frozen=True)
class Seen:
    """Steps of a run that a server has.

    Attributes:
        last: the last one; -1 for none.
        count: how many.
    """

    last: int = -1
    count: int = 0


class Server:
    """W&B's server, with the login that the library finds.

    Args:
        found: what :func:`retable.tracking.wandb_mode.look` says of here.

    Attributes:
        host: its name.
        address: its name, and its port where the URL has one.

    Raises:
        Refused: where it does not take the login.
        Unreachable: where it does not answer.
    """

    def __init__(self, found: WandbState) -> None:
        import wandb

        settings: dict[str, Any] = {f"x_graphql_{k}": v for k, v in RETRIES.items()}
        wandb.setup(wandb.Settings(**settings, silent=True))
        self.host = found.host
        self.address = found.address
        self._app = found.app
        self._lock = threading.Lock()
        self._api: Any = self._asked(wandb.Api)
        self._entity: str | None = self._asked(lambda: self._api.default_entity)

    def owner(self, given: str | None) -> str:
        """User or team whose runs are meant: the given one, else the login's default.

        Raises:
            UserError: where there is neither.
        """
        entity = given or self._entity
        if not entity:
            raise UserError(f"{self.host} does not say whom the login is of; give --entity")
        return entity

    def page(self, project: str) -> str:
        """Address of a project, given as ``entity/project``, for people."""
        return f"{self._app or self.address}/{project}"

    def seen(self, project: str, identifier: str) -> Seen:
        """Steps that the server has of a run.

        Raises:
            Refused: where it does not let us see.
            Unreachable: where it does not answer.
        """

        def look() -> Seen:
            for run in self._runs(project, {"name": identifier}):
                return Seen(int(run.lastHistoryStep), int(run.historyLineCount or 0))
            return Seen()

        return self._asked(look)

    def runs(self, project: str, filters: dict[str, Any]) -> list[Any]:
        """Runs of a project, with config and summary.

        Args:
            project: that the runs are in, as ``entity/project``.
            filters: as W&B's API takes them.

        Raises:
            Refused: where it does not let us see.
            Unreachable: where it does not answer.
        """
        return self._asked(lambda: self._runs(project, filters, whole=True))

    def summary(self, run: Any) -> dict[str, Any]:
        """Summary of a run."""
        return self._asked(lambda: dict(run.summary_metrics))

    def rows(self, run: Any) -> list[dict[str, Any]]:
        """History of a run in the order of its steps, without the library's own entries."""

        def scan() -> Iterator[dict[str, Any]]:
            for row in sorted(run.scan_history(use_cache=False), key=lambda row: row["_step"]):
                yield {k: v for k, v in row.items() if k[0] != "_" and v is not None}

        return self._asked(lambda: list(scan()))

    def _runs(self, project: str, filters: dict[str, Any], *, whole: bool = False) -> list[Any]:
        self._api.flush()  # what was asked before is kept otherwise
        try:
            return list(self._api.runs(project, filters, per_page=_PAGE, lazy=not whole))
        except ValueError as error:
            if "find project" in str(error):
                return []
            raise

    def _asked(self, ask: Callable[[], T]) -> T:
        with self._lock:
            try:
                return ask()
            except Exception as error:
                raise _kind(error) from None


def reason(text: str) -> str:
    """The last thing that the library says of an error: the network's or the server's own words."""
    lines = [line.strip().removeprefix("while retrying: ") for line in text.strip().splitlines()]
    return brief(lines[-1], 200) if lines else "it says nothing"


def _kind(error: Exception) -> Exception:
    """Translate an error of the library's into one of ours, where there is one for it."""
    from wandb.errors import Error
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    inner: Any = getattr(error, "exc", None) or error.__cause__ or error
    text = reason(str(inner))
    if isinstance(inner, WandbApiFailedError):
        answer: Any = inner.response
        status = int(answer.http_status) if answer is not None and answer.http_status else 0
        if 400 <= status < 500 and status not in _LATER:
            return Refused(f"HTTP {status}: {text}")
        return Unreachable(text)
    if isinstance(inner, TimeoutError | OSError):
        return Unreachable(text)
    return Refused(text) if isinstance(error, Error) else error


def connect(
    say: Callable[[str], None], waits: Sequence[float] = WAITS_S[:2], doing: str = "sync"
) -> Server:
    """Log in at W&B's server.

    Args:
        say: told of each pause.
        waits: see :func:`patiently`.
        doing: what the user wants, for messages.

    Raises:
        UserError: where nobody is logged in, the login is refused, or the server does not answer.
    """
    from retable.tracking import wandb_mode

    found = wandb_mode.look()
    if found.missing is not None:
        raise UserError(f"wandb {doing}: {found.missing}")
    if not found.login and os.environ.get("WANDB_API_KEY"):
        raise UserError(f"wandb {doing}: WANDB_API_KEY is not a valid key of {found.host}")
    if not found.login:
        raise UserError(
            f"wandb {doing}: nobody is logged in at {found.host}; run 'wandb login', or set"
            " WANDB_API_KEY"
        )
    try:
        return patiently(lambda: Server(found), waits, lambda text: say(f"{found.host}: {text}"))
    except Refused as error:
        raise UserError(
            f"wandb {doing}: {found.host} refuses the login ({error}); 'wandb login --relogin'"
            " makes a new one"
        ) from None
    except Unreachable as error:
        raise UserError(f"wandb {doing}: {found.host} cannot be reached ({error})") from None
