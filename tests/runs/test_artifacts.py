"""Arrays that a run declares are files of its attempt, and their checksums part of its record."""

from __future__ import annotations

import pytest
import torch
from msgspec import structs
from retable.papers.digits.averaged import Averaged
from safetensors.torch import load_file

from retable.launch.worker import Exit
from retable.report.listing import run_text
from retable.runs.artifacts import file_of, is_recorded, read_recorded, write_artifacts
from retable.runs.equality import compare, first_difference
from retable.runs.records import dump, parse
from retable.training.tested import tensors_sha256
from retable.util.errors import UserError
from support.job import (
    StopAfter,
    logged,
    written,
)
from support.runs import record_of

EMA = "model._target_=retable.papers.digits.averaged.Averaged"


def arrays(run, attempt):
    return load_file(run.folder / "attempts" / str(attempt) / "artifacts" / "average.safetensors")


def test_what_a_run_leaves_is_what_its_record_says(runs):
    run = written(EMA)
    code, _ = logged(run, 1)
    assert code is Exit.DONE
    record, found = record_of(run), arrays(run, 1)
    assert record.artifacts == {"average": tensors_sha256(found)}
    assert found["count"] == 2  # updates: as many as batches
    assert found["first"].shape == (32, 64)
    assert parse(dump(record), "record") == record
    assert "average: attempts/1/artifacts/average.safetensors" in run_text(run)


def test_a_run_that_was_stopped_leaves_the_same(runs):
    whole, parts = (
        written(EMA, "trainer.max_epochs=3"),
        written(EMA, "trainer.max_epochs=3", seed=0),
    )
    assert whole.key == parts.key
    logged(whole, 1)
    record = record_of(whole)
    (whole.folder / "record.json").unlink()
    for file in (whole.folder / "attempts").rglob("*.*"):
        file.unlink()
    code, _ = logged(whole, 2, StopAfter(2))
    assert code is Exit.INTERRUPTED
    assert not (whole.folder / "attempts" / "2" / "artifacts").exists()
    code, log = logged(whole, 3)
    assert "resuming after" in log
    assert record_of(whole).artifacts == record.artifacts
    assert compare(record, record_of(whole)).kind == "bitwise equal"


def test_records_with_other_artefacts_are_not_equal(runs):
    run = written(EMA)
    logged(run, 1)
    record = record_of(run)
    other = structs.replace(record, artifacts={"average": "0" * 64})
    assert record.substance_sha256() != other.substance_sha256()
    assert first_difference(record, other) == "the artifacts"
    assert compare(record, record).detail.endswith("weights, history, artifacts")
    lacking = structs.replace(record, artifacts={})
    assert compare(record, lacking).kind == "equal in all that both have"
    assert compare(record, lacking).detail == "bitwise; only in the first record: average"
    lacking = structs.replace(lacking, weights_sha256="0" * 64)
    assert compare(record, lacking).kind == "different"
    assert "average / none" in compare(record, lacking).detail


def test_a_run_without_them_has_none_and_its_record_is_as_before(runs):
    run = written()
    logged(run, 1)
    assert not (run.folder / "attempts" / "1" / "artifacts").exists()
    assert '"artifacts"' not in dump(record_of(run))
    assert "artifacts" not in record_of(run).substance()


@pytest.mark.parametrize("kind", [torch.bool, torch.bfloat16, torch.int64, torch.float64])
def test_arrays_of_every_type_come_back_as_they_were(runs, monkeypatch, kind):
    given = torch.tensor([[0, 1], [2, 3]]).to(kind)
    monkeypatch.setattr(
        Averaged, "artifacts", lambda self: {"average": {"x": given.T, "empty": given[:0]}}
    )
    run = written(EMA)
    logged(run, 1)
    found = arrays(run, 1)
    assert torch.equal(found["x"], given.T)
    assert found["x"].dtype == kind
    assert found["empty"].shape == (0, 2)
    assert record_of(run).artifacts == {"average": tensors_sha256(found)}


@pytest.mark.parametrize(
    "kind",
    [
        *(torch.bool, torch.int8, torch.uint16, torch.int64, torch.float16, torch.bfloat16),
        *(torch.float32, torch.float64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2),
    ],
)
def test_pages_read_the_recorded_arrays_without_torch_s_help(tmp_path, kind):
    given = {"x": torch.tensor([[0, 1], [2, 3]]).to(kind), "empty": torch.zeros(0, 2).to(kind)}
    (sha256,) = write_artifacts(tmp_path, {"one": given}).values()
    file = file_of(tmp_path, "one")
    assert sha256 == tensors_sha256(given)
    found = read_recorded(file, sha256)
    assert {name: array.shape for name, array in found.items()} == {"x": (2, 2), "empty": (0, 2)}
    wide = torch.complex128 if kind.is_complex else torch.float64
    assert found["x"].tolist() == given["x"].to(wide).tolist()
    with pytest.raises(UserError, match="holds other arrays than the record of its run says"):
        read_recorded(file, "0" * 64)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="cannot be read"):
        read_recorded(file, sha256)
    assert not is_recorded(file, sha256)
