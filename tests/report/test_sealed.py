"""A published file is read only where it is as it was written; Parquet itself would not notice."""

from __future__ import annotations

import io

import polars as pl
import pytest

from retable.runs import published_records
from retable.util import paths
from retable.util.errors import UserError

PUBLISHED = paths.project_root() / "results" / "risk_parity" / "real_data.parquet"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "t.parquet"
    published_records.write(
        path, {record.key: record for record in published_records.read(PUBLISHED)}, {}
    )
    return path


def test_every_altered_byte_is_noticed(file):
    right, data = published_records.read(file), file.read_bytes()
    for at in range(0, len(data), 7):
        file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        if published_records._SEAL not in file.read_bytes():
            # What is left without its checksum is read as files from before there was one.
            assert published_records.read(file) == right
            continue
        with pytest.raises(UserError, match="altered or truncated since it was written"):
            published_records.read(file)


def test_any_reader_of_parquet_reads_it(file):
    data = file.read_bytes()
    frame = pl.read_parquet(file)
    assert frame["key"].to_list() == [record.key for record in published_records.read(file)]
    buffer = io.BytesIO()
    frame.write_parquet(buffer)  # a file without a checksum
    assert published_records._SEAL in data
    assert published_records._SEAL not in buffer.getvalue()
    file.write_bytes(buffer.getvalue())
    assert [r.key for r in published_records.read(file)] == frame["key"].to_list()


def test_what_ends_in_a_panic_is_a_refusal(file, monkeypatch):
    def panic(_):
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(UserError, match=r"cannot be read \(assertion failed\); publish it again"):
        published_records.read(file)
