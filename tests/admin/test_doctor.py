"""What doctor finds, and that it says what to do."""

from __future__ import annotations

import json

import pytest

from retable.admin import doctor


def finding(what: str) -> doctor.Check:
    """Of one check alone: all of them take a second."""
    check = getattr(doctor, f"_{what}")()
    assert check.what == what
    return check


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in ("RETABLE_MIRROR", "WANDB_API_KEY", "SLURM_CONF"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
def test_every_check_that_is_not_ok_has_a_remedy():
    checks = doctor.examine()
    assert {c.what for c in checks} >= {"versions", "device", "slurm", "wandb", "mirror", "disk"}
    for check in checks:
        assert check.finding
        assert check.state == "ok" or check.remedy


def test_whether_bf16_pays_off_on_this_processor(monkeypatch):
    for flags, said in (
        ({"avx2"}, "neither AVX512-BF16 nor AMX"),
        ({"avx2", "avx512_bf16"}, "has AVX512-BF16"),
        ({"avx512_bf16", "amx_bf16"}, "has AVX512-BF16 and AMX"),
    ):
        monkeypatch.setattr(doctor, "cpu_flags", lambda flags=flags: frozenset(flags))
        check = finding("bf16")
        assert check.state == "ok"
        assert said in check.finding
        assert ("bf16-mixed" in check.remedy) == (len(flags) > 1)


def test_mirror(monkeypatch, tmp_path):
    assert finding("mirror").state == "missing"
    monkeypatch.setenv("RETABLE_MIRROR", str(tmp_path / "nowhere"))
    broken = finding("mirror")
    assert (broken.state, broken.remedy) == ("broken", "correct it or unset it")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("RETABLE_MIRROR", str(tmp_path / "file"))
    assert finding("mirror").state == "broken"
    monkeypatch.setenv("RETABLE_MIRROR", str(tmp_path))
    assert finding("mirror").state == "ok"


@pytest.mark.slow
def test_login(monkeypatch, tmp_path):
    key = "0123456789" * 4
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    check = finding("wandb")
    assert (check.state, check.finding) == ("missing", "no login for wandb.example.org")
    (tmp_path / "netrc").write_text(f"machine wandb.example.org login user password {key}\n")
    check = finding("wandb")
    assert check.state == "ok"
    assert key not in check.finding + check.remedy
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example.org")
    assert finding("wandb").state == "missing"
    monkeypatch.setenv("WANDB_API_KEY", key)
    check = finding("wandb")
    assert check.state == "ok"
    assert key not in check.finding + check.remedy


def test_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "a" / "b"))
    assert finding("disk").state == "ok"
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert finding("disk").remedy == "set RETABLE_RUNS"
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "_NEEDED_GB", 1e12)
    assert finding("disk").state == "broken"


def test_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert finding("slurm").finding == "no sinfo on the PATH"
    sinfo = tmp_path / "sinfo"
    for script, state in (
        ("echo debug*; echo gpu", "ok"),
        ("echo 'slurm_load_partitions: Unable to contact' >&2; exit 1", "missing"),
    ):
        sinfo.write_text(f"#!/bin/sh\n{script}\n")
        sinfo.chmod(0o755)
        assert finding("slurm").state == state


def test_command(retable, tmp_path):
    good = json.loads(retable("doctor", "--json").stdout)
    assert {check["what"] for check in good} >= {"versions", "mirror", "disk"}
    bad = retable("doctor", code=1, RETABLE_MIRROR=tmp_path / "nowhere")
    (line,) = [x for x in bad.stdout.splitlines() if "mirror" in x]
    assert line.startswith("broken")
    assert "-> correct it or unset it" in line
