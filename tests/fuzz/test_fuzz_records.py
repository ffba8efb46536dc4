"""A thousand malformed inputs, part four: records, frozen runs and published files."""

from __future__ import annotations

import json
import random
import shutil
from statistics import fmean

import pytest

from retable.config.schema import keyed_part
from retable.runs import frozen, records
from retable.runs.records import Provenance, Record, ResultRow, Status
from retable.tables.grid import plan
from retable.util.errors import UserError, one_line
from support.fuzz import SEED, examples, house_in
from support.fuzz_mutations import broken_yaml, structural, textual

TABLE = """\
paper: digits
title: Many
source: {paper_ref: "Table 1"}
metrics: {accuracy: {key: test/accuracy, unit: "%"}}
seeds: 50
columns: {accuracy: {metric: accuracy, experiment: digits/smoke}}
rows: {slow: [model.optimizer.lr=0.01], fast: []}
"""
PROVENANCE = Provenance(
    commit=None, dirty=None, packages="p", python="3", torch="2", cpu="c", cores=2
)


@pytest.fixture
def house(tmp_path):
    with house_in(tmp_path) as house:
        (house.extra / "conf" / "table" / "digits" / "many.yaml").write_text(TABLE)
        yield house


def record_of(run, value: float) -> Record:
    return Record(
        key=run.key, paper="digits", experiment="digits/smoke", protocol="smoke",
        seed=run.config.seed, config=frozen.recorded(run.config), status=Status.DONE,
        results=[
            ResultRow(metric="test/accuracy", value=value),
            ResultRow(metric="x", step=3, value=1.0),
        ],
        timing_metrics=["x"], attempt=1, started="2024-01-01T00:00:00+00:00", wall_s=1.5, cpu_s=1.0,
        peak_memory_mb=100.0, device="cpu", threads=1, workers=1, weights_sha256="0" * 64,
        fingerprint=run.fingerprint, provenance=PROVENANCE,
    )  # fmt: skip


def values_of(run) -> float:
    return 0.5 + run.config.seed / 200


SWAPS = [
    ('"value":0.', '"value":1e999,"x":0.'), ('"value":', '"value":NaN,"y":'),
    ('"wall_s":1.5', '"wall_s":1e999'),
    ('"wall_s":1.5', '"wall_s":-1'), ('"attempt":1', '"attempt":1' + "0" * 40),
    ('"step":3', '"step":1e30'),
    ('"step":3', '"step":"3"'), ('"version":1', '"version":2'), ('"version":1', '"version":true'),
    ('"version":1,', ""), ('"status":"done"', '"status":"don"'),
    ('"status":"done"', '"status":"failed"'),
    ('"key":"', '"key":"0'), ('"device":"cpu"', '"device":"\\ud800"'),
    ('"results":[', '"results":[[],'),
    ('"config":{', '"config":' + '{"a":' * 300 + "{" + "}" * 300 + ',"z":{'), ('"cpu"', "'cpu'"),
    ("{", "\ufeff{"), ("}", "},}"), ('"paper"', '"\\u001b[31m"'),
    ('"value":', '"value":-Infinity,"v":'),
]  # fmt: skip


def broken_json(rng: random.Random, text: str, mark: object) -> bytes:
    """A record with something wrong."""
    match rng.randrange(4):
        case 0:
            return json.dumps(structural(rng, json.loads(text)), default=str).encode()
        case 1:
            old, new = rng.choice(SWAPS)
            return text.replace(old, new, 1).encode()
        case 2:
            return rng.choice(
                [b"", b"\x00" * 900, b"[]", b"null", b"{}", b'"x"', b"[" * 100_000, b"{" * 9]
            )
        case _:
            return textual(rng, text, mark)


def strictly(data: bytes, key: str):
    """What a careful reader takes from the bytes of a record; None for what is none."""

    def refuse(constant: str):
        raise ValueError(constant)

    try:
        content = json.loads(data.decode("utf-8"), parse_constant=refuse)
        return content if content["key"] == key else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


@pytest.mark.parametrize("command", ["table", "plan"])
def test_a_broken_record_is_named_skipped_and_never_counted(house, command):
    """Not a refusal: whoever prints a table wants the rest of it."""
    rng = random.Random(f"{SEED}{command}")
    undetectable = malformed = 0
    for _ in range(examples(1)):
        grid = plan("digits/many")
        for run in grid.runs():
            run.folder.mkdir(parents=True)
            text = records.dump(record_of(run, values_of(run)))
            (run.folder / "record.json").write_bytes(broken_json(rng, text, house.mark))
            if rng.random() < 0.1:
                (run.folder / "attempts" / rng.choice(["1", "²", "x", "9" * 200])).mkdir(
                    parents=True
                )
        outcome = house.call(command, "digits/many", "--json")
        assert outcome.code == 0
        warned = outcome.err.splitlines()
        assert all(line.startswith("warning: ") and line.isprintable() for line in warned)
        assert all(len(line) < 700 for line in warned)
        content = json.loads(outcome.out)
        for row in ("slow", "fast"):
            taken = []
            for run in grid.cell_runs(grid.cells[row, "accuracy"]):
                file = run.folder / "record.json"
                found = strictly(file.read_bytes(), run.key)
                lines = [line for line in warned if str(file) in line]
                assert len(lines) <= 1
                assert found is not None or lines, file.read_bytes()[:500]
                malformed += bool(lines)
                if not lines and found["status"] == "done":
                    results = {r["metric"]: r["value"] for r in found.get("results", [])}
                    taken += [results["test/accuracy"]] if "test/accuracy" in results else []
                    undetectable += taken[-1:] != [values_of(run)]
            (cell,) = [c for c in content["cells"] if c["row"] == row]
            if command == "table":
                assert cell["n"] == len(taken)
                assert cell["mean"] is None or cell["mean"] == pytest.approx(100 * fmean(taken))
        shutil.rmtree(house.folder / "runs")
    print(f"records, {command}: {malformed} skipped, {undetectable} with other numbers but right")
    assert malformed >= examples(60)
    house.settle(0, "commands that read records")


def test_broken_frozen_runs_are_refused_in_one_line(house):
    rng = random.Random(SEED)
    (run, *_) = plan("digits/many").runs()
    text = (frozen.write(run) / frozen.FILE).read_text(encoding="utf-8")
    same = 0
    for _ in range(examples(120)):
        (run.folder / frozen.FILE).write_bytes(broken_yaml(rng, text, house.mark))
        said = refusal(run)
        if said is None:
            same += 1
            continue
        house.refused.append(said)
        assert said.startswith(str(run.folder))
        assert said == one_line(said)
        assert not house.mark.exists()
    print(f"frozen runs: {same} still valid")
    house.settle(examples(80), "frozen runs")


def refusal(run) -> str | None:
    """What is said of a frozen run; only what is outside of its key may have changed."""
    try:
        read = frozen.read(run.folder)
    except UserError as error:
        return str(error)
    assert read.key == run.key
    assert keyed_part(read.config) == keyed_part(run.config)
    return None


def broken_bytes(rng: random.Random, data: bytes) -> bytes:
    """A binary file as a bad disk, an editor or an interrupted copy would leave it."""
    at = rng.randrange(len(data))
    return rng.choice([
        data[:at], data[:at] + data[at + rng.randint(1, 90) :], b"", b"PAR1" * 9,
        rng.randbytes(500),
        data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:], data[:-8] + rng.randbytes(8),
        data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
    ])  # fmt: skip


@pytest.mark.slow
def test_broken_published_files_are_refused_in_one_line(house):
    rng = random.Random(SEED)
    grid = plan("digits/many")
    runs = list(grid.runs())[:10]
    for run in runs:
        run.folder.mkdir(parents=True)
        records.write_attempt(run.folder, record_of(run, values_of(run)))
    assert house.call("publish", "digits/many").code == 0
    house.problems.clear()  # publishing does write
    file = house.extra / "results" / "digits" / "many.parquet"
    right = house.call("table", "digits/many", "--from", "results").out
    data = file.read_bytes()
    for _ in range(examples(60)):
        file.write_bytes(broken_bytes(rng, data))
        outcome = house.call("table", "digits/many", "--from", "results")
        assert outcome.code == 2 or outcome.out == right
    house.settle(examples(50), "published files")
