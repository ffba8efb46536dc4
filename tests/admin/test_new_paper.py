"""What `retable new paper` writes and refuses; tests/test_layout.py has the files of a paper."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retable.admin import new_paper, paper_names
from retable.admin.new_paper import Home
from retable.cli import new
from retable.cli.main import main
from retable.util import paths
from retable.util.errors import UserError

ROOT = Path(__file__).parents[2]
LONG = "a" * paper_names.MAX_LENGTH
EXTRA = [
    "papers/mine/__init__.py",
    "papers/mine/module.py",
    "papers/mine/README.md",
    "papers/mine/paper.yaml",
    "conf/experiment/mine/base.yaml",
    "conf/experiment/mine/smoke.yaml",
    "conf/table/mine/accuracy.yaml",
    "tests/test_mine.py",
]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def extra(tmp_path, monkeypatch) -> Path:
    """A folder that RETABLE_EXTRA names and that is not there yet."""
    folder = tmp_path / "my papers"
    monkeypatch.setenv("RETABLE_EXTRA", str(folder))
    return folder


def test_in_a_folder_of_ones_own_that_is_made(extra):
    written = new_paper.write("mine", new_paper.home())
    assert [str(file.relative_to(extra)) for file in written] == EXTRA
    assert files(extra) == sorted(EXTRA)
    assert "retable.papers.mine.module" in written[4].read_text()
    assert "reported: {}\n" in written[6].read_text()


def test_in_the_repository_only_without_a_folder_of_ones_own(extra, monkeypatch, tmp_path):
    assert new_paper.home() == Home(extra, False)
    assert new_paper.home(str(ROOT)) == Home(ROOT, True)
    monkeypatch.delenv("RETABLE_EXTRA")
    assert new_paper.home() == Home(ROOT, True)
    monkeypatch.setattr(paths, "project_root", lambda: paths.PACKAGE)  # as of a wheel
    with pytest.raises(UserError, match="--into: say in which folder"):
        new_paper.home()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--into: .*file is not a folder"):
        new_paper.home(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("slug", "said"),
    [
        ("My-Paper", "'my_paper' would do"),
        ("2nd", "'nd' would do"),
        ("été", "'t' would do"),
        ("../x", "'x' would do"),
        ("_x", "'x' would do"),
        ("lambda", "'lambda_paper' would do"),
        ("", "'' cannot name a package"),
        (f"{LONG}a", "has 41 characters; at most 40"),
        ("risk_parity", "is taken by src/retable/papers/risk_parity"),
        ("base", "is taken by src/retable/papers/base.py"),
        ("seed", "is a word of the harness (src/retable/"),
    ],
)
def test_a_slug_that_cannot_be_had_is_refused_before_anything_is_written(extra, slug, said):
    with pytest.raises(UserError) as refused:
        new_paper.write(slug, new_paper.home())
    assert said in str(refused.value)
    assert not extra.exists()


def test_a_slug_inside_other_words_can_be_had(extra):
    """`same` and `organ` are words of the harness, `sam` and `gan` are none."""
    for slug in ("sam", "gan", LONG):
        new_paper.write(slug, new_paper.home())


@pytest.mark.parametrize(
    "there", ["papers/mine", "papers/mine.py", "conf/experiment/mine", "conf/table/mine"]
)
def test_a_slug_of_ones_own_is_taken(extra, there, tmp_path):
    (extra / there).mkdir(parents=True)
    for at in (new_paper.home(), Home(tmp_path / "other", False)):
        with pytest.raises(UserError, match=f"is taken by .*/{there}; choose another"):
            new_paper.write("mine", at)
    assert files(tmp_path) == []


def test_no_file_is_overwritten_even_one_that_leads_nowhere(extra):
    (extra / "tests").mkdir(parents=True)
    (extra / "tests" / "test_mine.py").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"test_mine\.py: is there already"):
        new_paper.write("mine", new_paper.home())
    assert [p.name for p in extra.iterdir()] == ["tests"]


def test_a_place_that_cannot_be_written(extra):
    extra.mkdir()
    (extra / "papers").touch()
    with pytest.raises(UserError, match=r"papers/mine/__init__.py: cannot be written \("):
        new_paper.write("mine", new_paper.home())


@pytest.mark.parametrize("is_repository", [True, False])
@pytest.mark.parametrize("slug", ["zz", LONG])
def test_what_is_written_is_as_ruff_would_have_it(tmp_path, slug, is_repository):
    new_paper.write(slug, Home(tmp_path, is_repository))
    options = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(tmp_path)]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [Path(sys.executable).parent / "ruff", *command, *options],
            cwd=ROOT,  # what is ours and what is not follows from it
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_written_is_as_pyright_would_have_it(tmp_path):
    new_paper.write("mine", Home(tmp_path, True))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    settings = text[text.index("[tool.pyright]") : text.index("[tool.pytest")]
    settings = settings.replace('venvPath = "."', f'venvPath = "{ROOT}"')
    (tmp_path / "pyproject.toml").write_text(f'{settings}\nextraPaths = ["{ROOT / "src"}"]\n')
    done = subprocess.run(
        [Path(sys.executable).parent / "pyright"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "0 errors, 0 warnings" in done.stdout, done.stdout


def test_what_the_command_says(monkeypatch, tmp_path, capsys):
    def call(*args: str) -> object:
        monkeypatch.setattr(sys, "argv", ["retable", "new", "paper", *args])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code

    folder = tmp_path / "my papers"
    assert call("mine", "--into", str(folder)) == 0
    assert capsys.readouterr().out.splitlines() == [
        *EXTRA,
        f"in {folder}; FILL IN marks what is yours to say",
        "",
        "next:",
        f"  export RETABLE_EXTRA='{folder}'",
        "  retable check-paper mine",
        "  retable run mine/accuracy --protocol smoke",
        "  retable run mine/accuracy",
    ]
    monkeypatch.setenv("RETABLE_EXTRA", str(folder))
    assert call("my_other") == 0
    assert "export" not in capsys.readouterr().out
    assert call("mine") == 2
    refused = f"error: NAME: 'mine' is taken by {folder}/papers/mine; choose another\n"
    assert capsys.readouterr().err == refused


def test_a_paper_of_the_repository_has_what_is_left_to_do_by_hand(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(new_paper, "home", lambda _: Home(tmp_path, True))
    new.paper("mine")
    said = capsys.readouterr().out
    assert "src/retable/papers/mine/module.py\n" in said
    assert "tests/papers/test_mine.py\n" in said
    assert "python tests/runs/test_identity.py --write" in said
    assert "README.md: a line" in said
    assert "RETABLE_EXTRA" not in said
    assert (tmp_path / "src/retable/papers/mine/__init__.py").is_file()


@pytest.mark.slow
def test_what_is_written_keeps_to_what_every_paper_keeps_to(retable, tmp_path):
    folder = tmp_path / "extra"
    retable("new", "paper", "mine", RETABLE_EXTRA=folder)
    said = retable("check-paper", "mine", RETABLE_EXTRA=folder).stdout
    assert "mine: 7 of 7 are as they have to be" in said
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env={**os.environ, "RETABLE_EXTRA": str(folder)},
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout, done.stdout
