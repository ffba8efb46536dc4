"""The index of a table: what is kept, what is refused, and when a file is not what it was."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest

from retable.runs import index, records, scan
from retable.runs.columns import About, Columns, Entry, Place
from retable.runs.records import Record, Status
from support.records import config_of, leave, record_of

PLACES: list[Place] = [("a", "", None), ("b", "row", 3), ("val/a", None, None)]


def of_seed(seed: int, **changes) -> Record:
    numbers = {"a": seed + 0.1, ("b", "row", 3): -0.0} if seed % 2 else {"a": seed + 0.1}
    return record_of(config_of(seed), numbers, **changes)


@pytest.fixture
def base(runs) -> Path:
    return runs / "digits"


@pytest.fixture
def file(runs) -> Path:
    file = index.file_of(runs, "digits/many", "paper")
    file.parent.mkdir(parents=True)
    return file


def columns_of(base: Path, keys: list[str]) -> Columns:
    return scan.read(str(base), keys, PLACES)


def some(runs: Path, n: int = 8) -> list[str]:
    made = [of_seed(n, device="cuda" if n == 3 else "cpu") for n in range(n)]
    for record in made:
        leave(runs, record)
    return [record.key for record in made]


def same(one: Columns, other: Columns) -> bool:
    arrays = zip(one.arrays().values(), other.arrays().values(), strict=True)
    equal = all(np.array_equal(a, b, equal_nan=a.dtype == np.float64) for a, b in arrays)
    return equal and (one.keys, one.abouts, one.places) == (
        other.keys,
        other.abouts,
        other.places,
    )


def test_no_paper_can_have_the_name_of_its_folder():
    from retable.util import paths

    assert index.FOLDER.startswith("_")  # what locations.run_folders leaves out
    assert list(paths.run_folders(Path("/nowhere"))) == []


def test_it_says_again_what_was_read(runs, base, file):
    columns = columns_of(base, some(runs))
    index.save(file, columns)
    loaded = index.load(file, PLACES)
    assert loaded is not None
    assert same(loaded, columns)
    assert loaded.abouts[1].device == "cuda"
    assert all(isinstance(about, About) for about in loaded.abouts)
    assert math.copysign(1, loaded.values[1, 1]) == -1  # every bit of it


def test_some_of_its_numbers_in_any_order(runs, base, file):
    columns = columns_of(base, some(runs))
    index.save(file, columns)
    loaded = index.load(file, [PLACES[2], PLACES[0]])
    assert loaded is not None
    assert same(loaded, columns)  # the others are kept for those who ask for them
    cut = loaded.at([PLACES[2], PLACES[0]])
    assert np.array_equal(cut.values, columns.values[:, [2, 0]], equal_nan=True)
    assert cut.places == [PLACES[2], PLACES[0]]
    assert loaded.at([]).values.shape == (8, 0)
    assert index.load(file, [*PLACES, ("c", "", None)]) is None  # a number nobody looked for


def test_none_and_no_runs(runs, base, file):
    assert index.load(file, PLACES) is None
    empty = Columns.of([], PLACES)
    index.save(file, empty)
    loaded = index.load(file, PLACES)
    assert loaded is not None
    assert same(loaded, empty)
    assert same(Columns.joined([empty, empty]), empty)


def test_a_damaged_file_is_none(runs, base, file):
    index.save(file, columns_of(base, some(runs)))
    data = file.read_bytes()
    rng = random.Random(0)
    cases = [data[: len(data) * n // 20] for n in range(20)]
    cases += [b"", b"PK\x03\x04" * 99, rng.randbytes(9000), b"{}\n" + data, data + b"\0", data[1:]]
    for _ in range(300):
        at = rng.randrange(len(data))
        cases.append(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    for case in cases:
        file.write_bytes(case)
        assert index.load(file, PLACES) is None
    file.unlink()
    file.mkdir()
    assert index.load(file, PLACES) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"[3, 4, 5]\n",
        b"[[], [], []]\n",
        b'[[["a"]], [], []]\nx',
        b"[3, 4, []]\nPK",
    ],
)
def test_another_format_under_a_right_checksum_is_none(file, body):
    file.write_bytes(index._seal(body) + body)
    assert index.load(file, []) is None


def test_what_other_code_wrote_is_none(runs, base, file, monkeypatch):
    """Another version may refuse what this one accepted."""
    index.save(file, columns_of(base, some(runs)))
    monkeypatch.setattr(index, "_code", lambda: b"another")
    assert index.load(file, PLACES) is None


def test_a_change_of_the_code_that_reads_is_another_code(monkeypatch, tmp_path):
    before = index._code()
    edited = tmp_path / "records.py"
    edited.write_text(Path(records.__file__).read_text() + "# more\n")
    monkeypatch.setattr(records, "__file__", str(edited))
    index._code.cache_clear()
    try:
        assert index._code() != before
    finally:
        index._code.cache_clear()


# What still stands.


def kept(columns: Columns, base: Path, keys: list[str]) -> list[str]:
    good, other = index.standing(columns, str(base), keys)
    assert sorted([*good.keys, *other]) == sorted(keys)
    assert [key for key in keys if key in set(other)] == other  # in the order that was asked for
    return good.keys


def test_files_that_are_as_they_were(runs, base):
    keys = some(runs)
    columns = columns_of(base, keys)
    assert kept(columns, base, keys) == keys
    assert kept(columns, base, keys[::-1]) == keys[::-1]
    assert kept(columns, base, [*keys, "0" * 64]) == keys
    assert kept(columns, base, keys[3:4]) == keys[3:4]
    assert kept(Columns.of([], PLACES), base, keys) == []


def test_whatever_is_done_to_a_file_is_seen(runs, base):
    keys = some(runs)
    columns = columns_of(base, keys)
    files = [base / key / "record.json" for key in keys]
    for file in files:
        file.with_name("saved").write_bytes(file.read_bytes())

    text = files[0].read_text()
    before = files[0].stat()
    files[0].write_text(text.replace('"cores":1', '"cores":2'))  # same size
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))  # and time
    files[1].unlink()
    files[2].with_name("new").write_bytes(files[2].read_bytes())
    files[2].with_name("new").replace(files[2])  # same content, another file
    files[3].write_text("")
    files[4].chmod(0o600)  # that changes a time as well
    assert kept(columns, base, keys) == keys[5:]


def test_another_record_that_speaks_for_the_run_is_seen(runs, base):
    made = [of_seed(n, status=Status.FAILED, attempt=2) for n in range(5)]
    for record in made:
        leave(runs, record)
    keys = [record.key for record in made]
    columns = columns_of(base, keys)
    assert columns.slots.tolist() == [2] * 5
    assert kept(columns, base, keys) == keys
    (base / keys[0] / "attempts" / "3").mkdir()  # running
    assert kept(columns, base, keys) == keys
    leave(runs, of_seed(0, status=Status.TIMEOUT, attempt=3))
    leave(runs, of_seed(1, attempt=1))  # done after all
    leave(runs, of_seed(2, status=Status.FAILED, attempt=1))  # an older one speaks for nobody
    (base / keys[3] / "attempts" / "2" / "record.json").unlink()
    assert kept(columns, base, keys) == [keys[2], keys[4]]


def test_an_unreadable_folder_is_looked_at_again(runs, base, monkeypatch):
    keys = some(runs)
    columns = columns_of(base, keys)
    stat = os.stat

    def refuse(path, **options):
        if keys[2] in str(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert kept(columns, base, keys) == [key for key in keys if key != keys[2]]


def test_inodes_beyond_63_bits(runs, base, monkeypatch):
    keys = some(runs)
    stat, fstat = os.stat, os.fstat

    def huge(result: os.stat_result) -> os.stat_result:
        values = list(result)
        values[1] = 2**63 + values[1]
        return os.stat_result(
            values,
            {name: getattr(result, name) for name in ("st_mtime_ns", "st_ctime_ns")},
        )

    monkeypatch.setattr(os, "fstat", lambda *args: huge(fstat(*args)))
    monkeypatch.setattr(os, "stat", lambda *args, **options: huge(stat(*args, **options)))
    columns = columns_of(base, keys)
    assert columns.stamps.min() >= 0
    assert kept(columns, base, keys) == keys


# What may be kept.


def test_only_what_changed_a_while_ago_is_kept(runs, base, file):
    keys = some(runs)
    columns = columns_of(base, keys)
    now = index.clock(file)
    assert now is not None
    assert index.settled(columns, now).tolist() == []  # the next change could have the same times
    later = int(columns.stamps[:, 2].max()) + 2_000_000_001
    assert index.settled(columns, later).tolist() == list(range(8))
    between = sorted(columns.stamps[:, 2].tolist())[3] + 2_000_000_001
    assert len(index.settled(columns, between)) >= 4


def test_what_is_unusual_is_not_kept():
    made = [Entry.of(of_seed(n), [0.0] * 3, stamp=(1, 1, 1, 1)) for n in range(8)]
    made[2] = Entry.of(of_seed(2), [0.0] * 3)
    made[3] = made[3]._replace(slot=10**200)
    made[4] = made[4]._replace(key="short")
    columns = Columns.of(made, PLACES)
    assert index.settled(columns, 2**62).tolist() == [0, 1, 5, 6, 7]


def test_the_clock_is_the_file_system_s_and_clears_up(file):
    dead = file.with_name(f".{file.name}.abc.tmp")
    alive = file.with_name(f".{file.name}.def.tmp")
    dead.touch()
    alive.touch()
    os.utime(dead, (1, 1))
    now = index.clock(file)
    assert now is not None
    assert abs(now - alive.stat().st_mtime_ns) < 5e9
    assert sorted(path.name for path in file.parent.iterdir()) == [alive.name]


def test_no_clock_where_nothing_can_be_written(file, monkeypatch):
    file.parent.rmdir()
    file.parent.write_text("a file")
    assert index.clock(file) is None


# Columns.


def test_taking_and_joining(runs, base):
    keys = some(runs)
    whole = columns_of(base, keys)
    parts = [columns_of(base, keys[:3]), columns_of(base, []), columns_of(base, keys[3:])]
    joined = Columns.joined(parts)
    assert joined.keys == keys
    abouts = [[c.abouts[n] for n in c.about] for c in (whole, joined)]
    assert abouts[0] == abouts[1]
    assert len(joined.abouts) == 2
    assert np.array_equal(joined.values, whole.values, equal_nan=True)
    taken = whole.take(np.array([5, 1]))
    assert taken.keys == [keys[5], keys[1]]
    assert taken.stamps.tolist() == whole.stamps[[5, 1]].tolist()


def test_the_file_is_small(runs, base, file):
    """Per record some hundred bytes of fifteen thousand."""
    keys = some(runs, 200)
    index.save(file, columns_of(base, keys))
    assert file.stat().st_size < 200 * 176 + 4000
    assert json.loads(file.read_bytes().splitlines()[1])[0] == [list(p) for p in PLACES]
