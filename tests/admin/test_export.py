"""A finished run's network leaves its folder as a file, or is refused with the reason."""

from __future__ import annotations

import json

import msgspec
import pytest
import torch
from retable.papers.digits.module import Perceptron

from retable.admin.export import export
from retable.launch.dispatch import launch
from retable.runs import records
from retable.runs.lookup import find
from retable.training.tested import weights_sha256
from retable.util.errors import UserError
from support.runs import freeze


@pytest.fixture
def exporting(monkeypatch):
    """The digits paper with a form for export."""
    seen = []

    def write(self, file, data):
        seen.append((weights_sha256(self), self.training, len(data.test_dataloader())))
        torch.save({}, file)
        return "in words"

    monkeypatch.setattr(Perceptron, "export", write)
    return seen


def done(*overrides):
    run = freeze(*overrides)
    launch([run])
    return find(run.key)


def test_the_tested_weights_are_exported(runs, tmp_path, exporting):
    found = done("best_epoch={monitor: val/loss,mode: min}", "trainer.max_epochs=2")
    assert found.record.status == "done"
    assert export(found, tmp_path / "net").startswith(
        "in words; made for inputs of retable.papers.digits.data.Digits(batch_size=100"
    )
    assert exporting == [(found.record.weights_sha256, False, 1)]
    with pytest.raises(UserError, match="exists already"):
        export(found, tmp_path / "net")
    with pytest.raises(UserError, match="no such folder"):
        export(found, tmp_path / "no" / "net")


def test_a_write_that_fails_leaves_no_file(runs, tmp_path, monkeypatch):
    def half(self, file, data):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Perceptron, "export", half)
    with pytest.raises(UserError, match=r"cannot be written .No space left on device"):
        export(done(), tmp_path / "net")
    assert [path for path in tmp_path.iterdir() if "net" in path.name] == []


def test_a_paper_without_a_form_for_export(runs, tmp_path):
    with pytest.raises(UserError, match="digits: its networks have no form for export"):
        export(done(), tmp_path / "net")


def test_weights_that_are_gone_or_altered(runs, tmp_path, exporting):
    found = done()
    (newest_checkpoint,) = sorted(found.folder.glob("attempts/1/checkpoints/*.ckpt"))[-1:]
    content = torch.load(newest_checkpoint, weights_only=False)
    content["state_dict"]["net.0.bias"] += 1
    torch.save(content, newest_checkpoint)
    with pytest.raises(UserError, match="weights are not the recorded ones"):
        export(found, tmp_path / "net")
    for file in found.folder.glob("attempts/1/checkpoints/*.ckpt"):
        file.unlink()
    with pytest.raises(UserError, match="no checkpoint of the trained network any more"):
        export(found, tmp_path / "net")
    assert not exporting


def test_only_done_runs_whose_folder_is_here(runs, tmp_path, exporting):
    found = done()
    record = json.loads((found.folder / records.RUN_RECORD).read_text())
    record["status"] = "diverged"
    diverged = msgspec.convert(record, records.Record)
    with pytest.raises(UserError, match="is diverged; only a done run"):
        export(type(found)(diverged, [], found.folder, found.where), tmp_path / "net")
    with pytest.raises(UserError, match="published only"):
        export(type(found)(found.record, [], None, found.where), tmp_path / "net")


def test_an_average_is_exported_as_it_was_tested(runs, tmp_path, exporting):
    """Ready for use, though the record's checksum is of what the checkpoint holds."""
    found = done(
        "model._target_=retable.papers.digits.averaged.Averaged",
        "tested={ema: {weights: ema}, last: {}}",
        "trainer.max_epochs=2",
    )
    assert {r.result_row for r in found.record.results} == {"ema", "last"}
    export(found, tmp_path / "net")
    ((sha, training, _),) = exporting
    assert not training
    assert sha != found.record.weights_sha256


@pytest.mark.slow
def test_the_weights_of_the_first_row_are_exported(runs, tmp_path, exporting):
    best = "best_epoch={monitor: val/loss,mode: max}"
    found = done(best, "tested={a: {}, b: {epoch: best}}", "trainer.max_epochs=3")
    export(found, tmp_path / "net")
    assert exporting[0][0] == found.record.weights_sha256
    assert found.record.best_epoch is None
    other = done(best, "trainer.max_epochs=3")
    assert other.record.weights_sha256 != found.record.weights_sha256
