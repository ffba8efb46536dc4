"""The records a published table follows from, as one small Parquet file beside it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from retable.runs import history_points
from retable.runs.columns import Place
from retable.runs.history import rows_of
from retable.runs.published_files import parquet_file as parquet_file
from retable.runs.records import Record, RecordError, dump, parse
from retable.util import paths
from retable.util.atomic import write_atomic
from retable.util.errors import UserError, brief

MAX_HISTORY = 100
_SEAL = b"retable sha256 "
_TOP = ("key", "paper", "experiment", "protocol", "seed", "status", "wall_s", "fingerprint")


def looks_file(name: str, protocol: str) -> Path:
    """File of the looks at a published table that was run until it was decided."""
    return parquet_file(name, protocol).with_suffix(".looks.json")


def thinned(rows: list[dict[str, float]], places: Collection[Place] = ()) -> list[dict[str, float]]:
    """At most 100 rows of a history, evenly spaced, first and last kept; and those of places.

    What was thinned so for the same places is left as it is.
    """
    kept = history_points.named(rows, places)
    if len(rows) <= MAX_HISTORY + len(kept):
        return rows
    last = len(rows) - 1
    kept |= {round(i * last / (MAX_HISTORY - 1)) for i in range(MAX_HISTORY)}
    return [rows[i] for i in sorted(kept)]


def write(
    path: Path,
    records: Mapping[str, Record],
    histories: Mapping[str, str],
    places: Collection[Place] = (),
) -> None:
    """Write records, in the order of their keys; the same records give the same bytes.

    Args:
        path: file to write.
        records: by key.
        histories: text of ``history.jsonl`` by key, where a run has one.
        places: of numbers that the table shows; rows of a history that have one are kept.
    """
    rows: list[dict[str, object]] = []
    for key in sorted(records):
        content = json.loads(dump(records[key]))
        results = content.pop("results", [])
        config = content.pop("config")
        history = rows_of(histories.get(key, ""))
        rows.append(
            {
                **{name: content.pop(name, None) for name in _TOP},
                "results": [{"result_row": "", "step": None, **result} for result in results],
                "config": json.dumps(config),
                "rest": json.dumps(content),
                "history": json.dumps(thinned(history, places)) if history else None,
            }
        )
    frame = pl.DataFrame(
        rows,
        schema={
            **dict.fromkeys(_TOP, pl.String),
            "seed": pl.Int64,
            "wall_s": pl.Float64,
            "results": pl.List(
                pl.Struct(
                    {
                        "result_row": pl.String,
                        "metric": pl.String,
                        "step": pl.Int64,
                        "value": pl.Float64,
                    }
                )
            ),
            "config": pl.String,
            "rest": pl.String,
            "history": pl.String,
        },
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=19, statistics=False)
    write_atomic(path, _sealed(buffer.getvalue()))


def _sealed(data: bytes) -> bytes:
    """A Parquet file with its checksum before the footer, where no reader looks."""
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:footer] + _SEAL + hashlib.sha256(data).digest() + data[footer:]


def _frame(path: Path) -> pl.DataFrame:
    """Content of a file, once its checksum is found right.

    Parquet has none of its own: a flipped bit is another number, or ends the process.
    """
    data = path.read_bytes()
    head, seal, rest = data.rpartition(_SEAL)
    if seal and hashlib.sha256(head + rest[32:]).digest() != rest[:32]:
        raise ValueError("altered or truncated since it was written")
    try:
        return pl.read_parquet(data)
    except pl.exceptions.PanicException as error:
        raise ValueError(str(error)) from None


def read(path: Path) -> list[Record]:
    """Records of a published table.

    Raises:
        UserError: for a file that is broken or of a newer version.
    """
    try:
        return _read(path)
    except _BROKEN as error:
        raise _unreadable(path, error) from None


_BROKEN = (
    pl.exceptions.PolarsError,
    msgspec.MsgspecError,
    RecordError,
    KeyError,
    OSError,
    ValueError,
)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read ({brief(str(error))}); publish it again")


def _read(path: Path) -> list[Record]:
    return [_record(path, row) for row in _frame(path).iter_rows(named=True)]


def _record(path: Path, row: dict[str, Any]) -> Record:
    rest = msgspec.json.decode(row["rest"], type=dict[str, msgspec.Raw])  # parsed once, below
    top = {name: row[name] for name in _TOP}
    config = msgspec.Raw(row["config"].encode())
    content = msgspec.json.encode({**rest, **top, "results": row["results"], "config": config})
    return parse(content, f"{path.name}:{row['key'][:12]}")


def find(prefix: str) -> dict[str, tuple[Record, list[dict[str, float]], Path]]:
    """Published records whose key begins so, with history (thinned where long) and file.

    Raises:
        UserError: for a file that is broken or of a newer version.
    """
    found: dict[str, tuple[Record, list[dict[str, float]], Path]] = {}
    for path in sorted(paths.results_dir().rglob("*.parquet")):
        try:
            rows = _frame(path).filter(pl.col("key").str.starts_with(prefix))
            for row in rows.iter_rows(named=True):
                history = json.loads(row["history"]) if row["history"] else []
                found[row["key"]] = _record(path, row), history, path
        except _BROKEN as error:
            raise _unreadable(path, error) from None
    return found


def histories(path: Path) -> dict[str, str]:
    """Histories (thinned where long) of a published table's runs, as JSON by key.

    Raises:
        UserError: for a file that is broken.
    """
    try:
        rows = _frame(path).select("key", "history").drop_nulls("history")
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    return dict(rows.iter_rows())
