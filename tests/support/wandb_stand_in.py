"""A small stand-in of W&B's server, as far as the real client of wandb 0.31 calls it.

It keeps runs as the service does: the lines of a run's history by their offset, so that lines which
are sent twice replace each other, config, summary, tags and how the run ended. Faults can be asked
for. By hand: PYTHONPATH=tests python -m support.wandb_stand_in 8080, then, in another terminal,

    export WANDB_BASE_URL=http://127.0.0.1:8080
    export WANDB_API_KEY=0123456789012345678901234567890123456789
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
ENTITY = "someone"


@dataclass
class StoredRun:
    """What the server knows of a run."""

    entity: str
    project: str
    id: str
    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[int, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    completed: int = 0

    @property
    def storage_id(self) -> str:
        return base64.b64encode(f"{self.entity}/{self.project}/{self.id}".encode()).decode()

    def lines(self, name: str) -> list[Any]:
        """Lines of one of the streams, in order."""
        stored = self.files.get(name, {})
        return [json.loads(stored[offset]) for offset in sorted(stored)]

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.lines("wandb-history.jsonl")

    @property
    def summary(self) -> dict[str, Any]:
        found = self.lines("wandb-summary.json")
        return found[-1] if found else {}

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.history]

    @property
    def state(self) -> str:
        return {None: "running", 0: "finished"}.get(self.exit_code, "failed")

    def node(self) -> dict[str, Any]:
        """Every field that some query asks for."""
        summary = json.dumps(self.summary)
        steps = self.steps
        return {
            "id": self.storage_id,
            "projectId": "1",
            "name": self.id,
            "displayName": self.about.get("displayName") or self.id,
            "tags": self.about.get("tags") or [],
            "group": self.about.get("groupName"),
            "jobType": self.about.get("jobType"),
            "state": self.state,
            "config": json.dumps(self.config),
            "summaryMetrics": summary,
            "systemMetrics": "{}",
            "historyLineCount": len(steps),
            "logLineCount": len(self.files.get("output.log", {})),
            "eventsLineCount": len(self.files.get("wandb-events.jsonl", {})),
            "historyTail": json.dumps([json.dumps(row) for row in self.history[-1:]]),
            "eventsTail": "[]",
            "historyKeys": {"lastStep": max(steps, default=-1)},
            "wandbConfig": json.dumps({"t": 1}),
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00",
            "description": None,
            "notes": None,
            "commit": None,
            "sweepName": None,
            "readOnly": False,
            "user": {"name": ENTITY, "username": ENTITY},
            "project": {"id": "p", "name": self.project, "entity": {"id": "e", "name": ENTITY}},
        }


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed closes its connections without a word."""


class Server:
    """The server; ``url`` is what ``WANDB_BASE_URL`` has to be.

    Attributes:
        runs: by (project, id).
        calls: what was asked, in order: names of GraphQL operations, else method and path.
        fault: given what is asked, the HTTP status to answer instead, None for no fault.
    """

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[tuple[str, str], StoredRun] = {}
        self.calls: list[str] = []
        self.bodies: list[tuple[str, Any]] = []
        self.fault: Callable[[str], int | None] = lambda _: None
        self.lock = threading.RLock()
        self.http = _Http(("127.0.0.1", port), _handler_of(self))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the real client talks to this server, and to no other."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def run(self, identifier: str) -> StoredRun:
        """A run by its id, whatever its project."""
        return next(run for (_, name), run in self.runs.items() if name == identifier)

    def stored(self, project: str | None, identifier: str) -> StoredRun:
        """A run, made where there is none."""
        place = (project or "uncategorized", identifier)
        return self.runs.setdefault(place, StoredRun(ENTITY, *place))

    def graphql(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answer of one operation.

        Raises:
            KeyError: for one that it does not know.
        """
        with self.lock:
            return {"data": _OPERATIONS[name](self, given)}

    def stream(self, place: tuple[str, str], body: dict[str, Any]) -> None:
        """Lines of a run's streams, each at its offset, and how the run ended."""
        with self.lock:
            run = self.stored(*place)
            for name, chunk in (body.get("files") or {}).items():
                lines = run.files.setdefault(name, {})
                for number, line in enumerate(chunk.get("content") or []):
                    lines[chunk.get("offset", 0) + number] = line
            if body.get("complete"):
                run.exit_code = body.get("exitcode", 0)
                run.completed += 1


def _viewer(server: Server, given: dict[str, Any]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"edges": []}
    return {
        "viewer": {
            "id": "u", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "flags": "{}",
            "email": "someone@example.com", "admin": False, "deletedAt": None,
            "teams": nothing, "apiKeys": nothing, "capabilities": [],
        }
    }  # fmt: skip


def _upsert(server: Server, given: dict[str, Any]) -> dict[str, Any]:
    project, name = given.get("project"), given.get("name")
    inserted = (project or "uncategorized", name) not in server.runs
    run = server.stored(project, name)
    run.about |= {key: value for key, value in given.items() if value is not None}
    if given.get("config"):
        run.config = json.loads(given["config"])
    if given.get("summaryMetrics"):
        run.files["wandb-summary.json"] = {0: given["summaryMetrics"]}
    return {"upsertBucket": {"bucket": run.node(), "inserted": inserted}}


def _resume(server: Server, given: dict[str, Any]) -> dict[str, Any]:
    run = server.runs.get((given["project"], given["name"]))
    entity = {"id": "e", "name": ENTITY}
    bucket = run and run.node()
    return {"model": {"id": "p", "name": given["project"], "entity": entity, "bucket": bucket}}


def _files(server: Server, given: dict[str, Any]) -> dict[str, Any]:
    base = f"{server.url}/upload/{given['project']}/{given['run']}"
    files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in given["files"]]
    return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}


def _matches(run: StoredRun, filters: Any) -> bool:
    """The part of the service's filters that is used here."""
    for name, wanted in filters.items():
        if name == "$and" and not all(_matches(run, part) for part in wanted):
            return False
        if name == "$or" and not any(_matches(run, part) for part in wanted):
            return False
        if name.startswith("$"):
            continue
        value = run.node()[name]
        choices = wanted["$in"] if isinstance(wanted, dict) else [wanted]
        if not set(value if isinstance(value, list) else [value]) & set(choices):
            return False
    return True


def _runs(server: Server, given: dict[str, Any]) -> dict[str, Any]:
    known = [run for (project, _), run in server.runs.items() if project == given["project"]]
    if not known:
        return {"project": None}
    filters = json.loads(given.get("filters") or "{}")
    found = [run for run in known if _matches(run, filters)]
    start = int(given.get("cursor") or 0)
    page = found[start : start + given["perPage"]]
    edges = [{"node": run.node(), "cursor": str(start + n + 1)} for n, run in enumerate(page)]
    more = start + len(page) < len(found)
    return {
        "project": {
            "internalId": "1", "runCount": len(found), "readOnly": False,
            "runs": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": more}},
        }
    }  # fmt: skip


def _run(server: Server, given: dict[str, Any]) -> dict[str, Any]:
    name = given.get("name") or given.get("run") or given.get("runName")
    run = server.runs.get((given["project"], name))
    if run is None:
        return {"project": {"run": None}}
    low, high = int(given.get("minStep", 0)), int(given.get("maxStep", 1 << 60))
    rows = [json.dumps(row) for row in run.history if low <= row["_step"] < high]
    live = [row for row in run.history if "liveKeys" in given]
    parquet = {"parquetUrls": [], "liveData": live}
    return {"project": {"run": {**run.node(), "history": rows, "parquetHistory": parquet}}}


_OPERATIONS: dict[str, Callable[[Server, dict[str, Any]], dict[str, Any]]] = {
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "Viewer": _viewer,
    "GetViewer": _viewer,
    "GetDefaultEntity": _viewer,
    "UpsertBucket": _upsert,
    "RunResumeStatus": _resume,
    "CreateRunFiles": _files,
    "MarkRunFilesUploaded": lambda *_: {"markRunFilesUploaded": {"success": True}},
    "Runs": _runs,
    **dict.fromkeys(("Run", "RunHistoryKeys", "RunParquetHistory", "HistoryPage"), _run),
}


def _handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self._body() or b"{}")
            name = self.path
            if self.path == "/graphql":
                operation = re.search(r"\b(?:query|mutation)\s+(\w+)", body["query"])
                name = operation[1] if operation else "?"
            if not self._asked(f"POST {name}" if name.startswith("/") else name, body):
                return
            stream = re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", self.path)
            if stream:
                server.stream((stream[2], stream[3]), body)
                self._answer(200, {"exitcode": None, "limits": {}})
            elif self.path == "/graphql":
                try:
                    self._answer(200, server.graphql(name, body.get("variables") or {}))
                except KeyError as error:
                    self._answer(400, {"errors": [{"message": f"stand-in: {name}: no {error}"}]})
            else:
                self._answer(404, {})

        def do_PUT(self) -> None:
            data = self._body()
            if not self._asked(f"PUT {self.path}", None):
                return
            _, _, project, run, name = self.path.split("/", 4)
            with server.lock:
                server.stored(project, run).uploads[name] = data
            self._answer(200, {})

        def do_GET(self) -> None:
            if self._asked(f"GET {self.path}", None):
                self._answer(404, {})

        def _body(self) -> bytes:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            zipped = self.headers.get("Content-Encoding") == "gzip"
            return gzip.decompress(data) if zipped else data

        def _asked(self, what: str, body: Any) -> bool:
            """Note what is asked; False where a fault is the answer."""
            with server.lock:
                server.calls.append(what)
                server.bodies.append((what, body))
                status = server.fault(what)
            if status is not None:
                self._answer(status, {"errors": [{"message": f"fault {status}"}]})
            return status is None

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def running(port: int = 0):
    """A server while the block lasts."""
    server = Server(port)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


if __name__ == "__main__":
    with running(int(sys.argv[1]) if sys.argv[1:] else 0) as served:
        print(served.url, flush=True)
        threading.Event().wait()
