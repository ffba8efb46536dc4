"""Texts without what belongs to their user."""

from __future__ import annotations

import subprocess
import sys

import pytest

from retable.util.redact import EMAIL, SECRET, is_secret, private_at, scrub


@pytest.fixture(autouse=True)
def _planted(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("MY_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("SHORT_TOKEN", "true")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("nothing to hide", "nothing to hide"),
        ("/home/jane/runs and /home/jane", "~/runs and ~"),
        ("/home/janet/runs", "/home/janet/runs"),
        ("/home/jane.bak", "/home/jane.bak"),
        ("key=0123456789abcdef!", f"key={SECRET}!"),
        ("0123456789abcdefhunter2hunter2", SECRET + SECRET),
        ("true", "true"),
        ("Jane Doe <jane.doe+x@mail.example.org>", f"Jane Doe <{EMAIL}>"),
        ("user@host:/path and x @ y", "user@host:/path and x @ y"),
        ("", ""),
    ],
)
def test_scrubbed(text, clean):
    assert scrub(text) == clean
    assert scrub(clean) == clean


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "apikey",
        "DB_PASSWORD", "PGPASSWORD", "GOOGLE_APPLICATION_CREDENTIALS", "SSH_PASSPHRASE",
        "GITHUB_TOKENS", "CLIENT_SECRET",
    ],
)  # fmt: skip
def test_names_of_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["HOME", "PATH", "KEYBOARD", "TOKENIZERS_PARALLELISM", "MONKEYS1"])
def test_other_names(name):
    assert not is_secret(name)


def test_the_longest_secret_goes_first(monkeypatch):
    monkeypatch.setenv("A_KEY", "0123456789abcdef-and-more")
    assert scrub("0123456789abcdef-and-more") == SECRET


def test_a_line_of_a_key_is_hidden_too(monkeypatch):
    monkeypatch.setenv("PRIVATE_KEY", "-----BEGIN-----\nMIIEpAIBAAKCAQEA\n-----END-----")
    assert scrub("at 'MIIEpAIBAAKCAQEA'") == f"at '{SECRET}'"


def test_where_home_leads_is_hidden_too(monkeypatch, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    assert scrub(f"{tmp_path}/link/a {tmp_path}/real/a") == "~/a ~/a"


@pytest.mark.parametrize("home", ["", "/"])
def test_who_has_no_home_keeps_all_paths(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    assert scrub("/a/b") == "/a/b"


def test_importing_it_is_cheap():
    code = "import sys; from retable.util.redact import scrub; print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150


def test_where_a_tree_holds_what_is_private():
    tree = {"a": 1, "b": [None, {"c": "x", "d": "key 0123456789abcdef"}]}
    assert private_at(tree) == ["b", "1", "d"]
    assert private_at({"a": ["x", 2.0, True]}) is None
    assert private_at("jane@example.org") == []
