"""Mirror, cache and download of single files."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from retable.data.fetch import DataUnavailable, fetch, find, sha256_of
from retable.util.errors import UserError

CONTENT = b"1;2;3\n" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/x"


@pytest.fixture
def server():
    """A local server of ``CONTENT``; yields its address and the list of requests."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if self.path == "/missing":
                self.send_error(404)
                return
            self.send_response(200)
            short = self.path == "/short"
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100] if short else CONTENT)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", requests
        httpd.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def left(folder: Path) -> list[str]:
    """Files below a folder, without the locks that stay."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    return sorted(p.relative_to(folder).as_posix() for p in files)


def test_fetched_once_then_from_the_cache(server, cache):
    url, requests = server
    for _ in range(2):
        path = fetch("a/b.csv", f"{url}/b", SHA, cache=cache, mirror=None)
    assert path == cache / "a" / "b.csv"
    assert path.read_bytes() == CONTENT
    assert requests == ["/b"]
    assert left(cache) == ["a/b.csv"]
    assert sha256_of(path) == SHA


def test_the_mirror_comes_first_and_is_left_alone(tmp_path, cache):
    mirror = tmp_path / "mirror"
    (mirror / "a").mkdir(parents=True)
    (mirror / "a" / "b.csv").write_bytes(CONTENT)
    cache.mkdir()
    (cache / "b.csv").write_bytes(b"other")
    assert fetch("a/b.csv", NOWHERE, SHA, cache=cache, mirror=mirror) == mirror / "a" / "b.csv"
    assert left(mirror) == ["a/b.csv"]
    assert find("c.csv", SHA, cache=cache, mirror=mirror) is None


@pytest.mark.parametrize(("place", "remedy"), [("mirror", "mend the mirror"), ("cache", "delete")])
def test_a_wrong_checksum_is_refused_with_file_and_remedy(tmp_path, place, remedy):
    folders = {"mirror": tmp_path / "mirror", "cache": tmp_path / "cache"}
    folders[place].mkdir()
    (folders[place] / "b.csv").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError) as caught:
        fetch("b.csv", NOWHERE, SHA, **folders)
    assert not isinstance(caught.value, DataUnavailable)
    assert str(folders[place] / "b.csv") in str(caught.value)
    assert remedy in str(caught.value)
    assert SHA[:12] in str(caught.value)


def test_neither_network_nor_mirror_says_both_remedies(cache):
    with pytest.raises(DataUnavailable) as caught:
        fetch("b.csv", NOWHERE, SHA, cache=cache, mirror=None)
    said = str(caught.value)
    assert "set RETABLE_MIRROR to a folder that holds b.csv" in said
    assert "run where there is a network" in said
    assert left(cache) == []


@pytest.mark.parametrize("url", ["/missing", "/short", "not a url", "http://[bad/x", ""])
def test_every_way_in_which_fetching_fails_leaves_nothing(server, cache, url):
    address = f"{server[0]}{url}" if url.startswith("/") else url
    with pytest.raises(DataUnavailable):
        fetch("b.csv", address, SHA, cache=cache, mirror=None)
    assert left(cache) == []


def test_another_file_from_the_source_is_refused(server, cache):
    with pytest.raises(UserError, match="gave another file") as caught:
        fetch("b.csv", f"{server[0]}/b", "0" * 64, cache=cache, mirror=None)
    assert "RETABLE_MIRROR" in str(caught.value)
    assert left(cache) == []


@pytest.mark.parametrize("name", ["../b.csv", "/tmp/b.csv", "a/../../b.csv"])
def test_no_name_leads_out_of_the_cache(tmp_path, cache, name):
    with pytest.raises(UserError, match="has to lie below"):
        fetch(name, NOWHERE, SHA, cache=cache, mirror=tmp_path)
    assert left(tmp_path) == []


def test_a_cache_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="RETABLE_CACHE"):
        fetch("b.csv", NOWHERE, SHA, cache=tmp_path / "file", mirror=None)


def test_of_two_processes_one_fetches(server, cache):
    url, requests = server
    code = (
        "from pathlib import Path\nfrom retable.data.fetch import fetch\n"
        f"print(fetch('b.csv', '{url}/b', '{SHA}', cache=Path({str(cache)!r}), mirror=None))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [p.communicate(timeout=60)[0].strip() for p in processes]
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert outputs == [str(cache / "b.csv")] * 3
    assert len(requests) == 1
    assert left(cache) == ["b.csv"]
