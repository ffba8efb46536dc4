"""The compose cache is never believed blindly, and a broken one is none."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retable.config import compose_cache
from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.tables import grid
from retable.util.errors import UserError
from support.composed import BASE, asked, cache, conf, only, planned  # noqa: F401 - fixtures


def write(file: Path, entries: dict[str, str]) -> None:
    """A file as retable itself writes it, whatever is in it."""
    body = "".join(f"{key}\n{text}\n" for key, text in entries.items()).encode()
    file.write_bytes(compose_cache._checksum(file, body) + body)


# What is not believed.


def test_refusals_are_never_kept(cache):
    for wrong in ("trainer.max_epoch=3", "model.hidden=big", "model=[1]", "experiment=nope"):
        with planning(), pytest.raises(UserError):
            compose([*BASE, wrong])
    assert not cache.exists()


def test_nothing_is_written_where_a_cell_is_refused(cache, monkeypatch):
    table = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits"
    text = (table / "accuracy.yaml").read_text(encoding="utf-8")
    made = table / "wrong.yaml"
    made.write_text(text.replace("optimizer.lr=0.1]", "optimizer.lrr=0.1]"), encoding="utf-8")
    try:
        with pytest.raises(UserError, match="lrr"):
            grid.plan("digits/wrong")
    finally:
        made.unlink()
    assert not cache.exists()
    grid.plan("digits/accuracy")
    assert only(cache)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"typo": 1}, "typo: unknown key"),
        ({"seed": -1}, "seed: -1 is not valid"),
        ({"model": {"_target_": "os.system", "command": "true"}}, "'os.system' may not be built"),
        ({"data": None}, "data: None is not valid"),
    ],
)
def test_what_comes_from_the_cache_is_validated(cache, change, message):
    planned()
    file = only(cache)
    [(key, text)] = compose_cache._load(file).items()
    write(file, {key: json.dumps({**json.loads(text), **change})})
    with planning(), pytest.raises(UserError) as caught:
        compose(BASE)
    assert message in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"', "{", "", "é", "[" * 5000])
def test_an_entry_that_is_none_is_composed_anew(cache, asked, text):
    before = planned()
    file = only(cache)
    write(file, dict.fromkeys(compose_cache._load(file), text))
    assert planned() == before
    assert len(asked) == 2
    assert planned() == before
    assert len(asked) == 2


def damage():
    yield "deleted", lambda data: None
    yield "empty", lambda data: b""
    for size in (1, 30, 68, 69, 80, -1, -2):
        yield f"cut at {size}", lambda data, size=size: data[:size]
    for at in (0, 1, 40, 67, 68, 69, 100, 500, -1, -3):
        yield (
            f"bit of {at}",
            lambda data, at=at: (
                data[: at % len(data)] + bytes([data[at] ^ 4]) + data[at % len(data) + 1 :]
            ),
        )
    yield "twice", lambda data: data + data
    yield "lines swapped", lambda data: b"\n".join(reversed(data.split(b"\n")))
    yield "other bytes", lambda data: os.urandom(1000)


@pytest.mark.slow
@pytest.mark.parametrize("break_it", [b for _, b in damage()], ids=[name for name, _ in damage()])
def test_a_broken_file_is_ignored_and_written_anew(cache, asked, break_it):
    before = planned("model.dropout=0.3")
    file = only(cache)
    data = file.read_bytes()
    broken = break_it(data)
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    assert planned("model.dropout=0.3") == before
    assert len(asked) == 2
    assert only(cache).read_bytes() == data
    assert planned("model.dropout=0.3") == before
    assert len(asked) == 2


def test_a_file_under_another_digest_is_not_believed(cache, asked, monkeypatch):
    planned()
    file = only(cache)
    monkeypatch.setattr(compose_cache, "__version__", "9")
    other = compose_cache._file(compose_cache.sources())
    shutil.copy(file, other)
    planned()
    assert len(asked) == 2


@pytest.mark.parametrize(
    "values",
    [{"a": float("nan")}, {"a": b"x"}, {1: 2}, {"a": (1, 2)}, {"a": {1}}, {"a": Path("x")}],
)  # fmt: skip
def test_what_json_cannot_say_is_not_kept(cache, values):
    with planning():
        compose_cache.keep(["a=1"], values)
        compose_cache.keep(["b=1"], {"a": [1, 1.0, True, None, "é\ud800", 1e-300, 2**70]})
    [(key, text)] = compose_cache._load(only(cache)).items()
    assert json.loads(key) == ["b=1"]
    assert repr(json.loads(text)["a"]) == repr([1, 1.0, True, None, "é\ud800", 1e-300, 2**70])


# Folders, files, writers.


@pytest.mark.slow
@pytest.mark.parametrize("where", ["a file", "below a file", "gone", "read-only", "full"])
def test_a_cache_that_cannot_be_written_is_not_used(cache, tmp_path, monkeypatch, where):
    place = tmp_path / "place"
    monkeypatch.setenv("RETABLE_CACHE", str(place))
    if where == "a file":
        place.touch()
    elif where == "below a file":
        place.touch()
        monkeypatch.setenv("RETABLE_CACHE", str(place / "cache"))
    elif where == "gone":
        place.symlink_to(tmp_path / "nowhere")
    else:
        number = errno.EROFS if where == "read-only" else errno.ENOSPC

        def fails(*_):
            raise OSError(number, "no")

        monkeypatch.setattr(compose_cache, "write_atomic", fails)
    assert planned() == planned()


def test_a_file_that_is_a_folder_is_not_used(cache):
    compose_cache._file(compose_cache.sources()).mkdir(parents=True)
    assert planned() == planned()


def test_two_writers_keep_what_both_have(cache, asked):
    with planning():
        compose([*BASE, "model.hidden=3"])
        planned("model.hidden=4")
    assert len(compose_cache._load(only(cache))) == 2
    planned("model.hidden=3")
    planned("model.hidden=4")
    assert len(asked) == 2


@pytest.mark.slow
def test_many_writers_at_once_leave_a_whole_file(cache):
    code = (
        "import sys\nfrom retable.config import compose_cache\n"
        "from retable.config.compose import compose\n"
        "compose_cache.WORTH_A_FILE = 1\n"
        "for i in range(4):\n    with compose_cache.planning():\n"
        f"        compose([*{BASE!r}, f'model.hidden={{sys.argv[1]}}{{i}}'])\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], stderr=subprocess.PIPE, text=True)
        for n in range(1, 4)
    ]
    for process in processes:
        assert process.communicate(timeout=300)[1] == ""
    # The last writer may not have seen another's; what stands there is whole and its own is in it.
    entries = compose_cache._load(only(cache))
    assert 4 <= len(entries) <= 12
    assert all(json.loads(text)["paper"] == "digits" for text in entries.values())


@pytest.mark.slow
def test_files_that_are_not_used_any_more_go_and_a_used_one_stays(cache, asked, monkeypatch):
    for version in ("1", "2", "3", "1", "4", "5", "1"):
        monkeypatch.setattr(compose_cache, "__version__", version)
        planned()
        for file in cache.iterdir():  # an hour passes
            times = file.stat().st_mtime
            os.utime(file, (times - 3600, times - 3600))
        assert len(list(cache.iterdir())) <= compose_cache.KEPT_FILES
    assert len(asked) == 5
    monkeypatch.setattr(compose_cache, "__version__", "2")
    planned()
    assert len(asked) == 6


@pytest.mark.slow
def test_the_oldest_entries_go_where_a_file_grows_too_large(cache, monkeypatch):
    planned("model.hidden=3")
    monkeypatch.setattr(compose_cache, "MAX_BYTES", 2 * only(cache).stat().st_size)
    for hidden in (4, 5, 6):
        planned(f"model.hidden={hidden}")
    keys = [json.loads(key)[-1] for key in compose_cache._load(only(cache))]
    assert keys == ["model.hidden=5", "model.hidden=6"]
    assert only(cache).stat().st_size < compose_cache.MAX_BYTES + 100
    monkeypatch.setattr(compose_cache, "MAX_BYTES", 10)
    assert planned("model.hidden=7").model["hidden"] == 7
    assert compose_cache._load(only(cache)) == {}


@pytest.mark.parametrize("variable", [True, False])
def test_the_folder_is_where_the_configs_say(conf, monkeypatch, tmp_path, variable):
    known = compose_cache.sources()
    if variable:
        monkeypatch.setenv("RETABLE_CACHE", str(tmp_path / "here"))
        assert compose_cache._file(known).parent == tmp_path / "here" / "compose"
        return
    monkeypatch.delenv("RETABLE_CACHE")
    assert compose_cache._file(known).parent == Path("cache/compose")
    file = conf[0] / "paths" / "default.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("RETABLE_CACHE,cache", "RETABLE_CACHE,../x"), encoding="utf-8")
    assert compose_cache._file(known).parent == Path("../x/compose")
    file.write_text("runs: a\ncache: b c\nmirror: null\n", encoding="utf-8")
    assert compose_cache._file(known).parent == Path("b c/compose")
    file.write_text("[", encoding="utf-8")
    assert compose_cache._file(known) is None
