"""Every command that a page shows: it is one, what it names is there, and quick ones are run."""

from __future__ import annotations

import shlex

import pytest

from retable.launch import hydra_sweep
from retable.tables import grid, spec
from retable.util import paths
from support import pages

# Words that stand for what only the reader has, and what is taken in their place.
STANDS_FOR = {
    "TABLE": "risk_parity/example_bai2016",  # any table
    "cluster=mine": "cluster=example",  # a profile of the reader's, copied from this one
}
# What nothing can be taken for: read by the program, and no more.
THE_READERS_OWN = {
    "mine/table": "a table of a paper that is not here",
    "experiment=mine/stage2": "an experiment of it",
    "3f2a91c0": "the key of a run of the reader's",
    "<run>": "the same",
    "KEY": "the same",
    "sharpness": "the paper of docs/first-paper.md, which tests/test_first_paper.py writes",
    "sharpness/accuracy": "its table",
    "experiment=sharpness/smoke": "its experiment",
}
# Commands that take seconds; of all others, what they name is looked for.
RUN = (
    "list",
    "doctor",
    "table risk_parity/iterations --from results --explain newton,t1_n25",
    "train -m experiment=risk_parity/random data.test=1,2 data.n_assets=25,50 'seed=range(0,5)'",
    "summarize risk_parity/random --by data.test,data.n_assets --metric test/n_iter",
    "retry binary_connect/table2 --failed",
    "cancel binary_connect/table2",
    "diff 62660140 bd4ed3c0",
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("table", "Missing parameter: name"),
        ("nothing", "no command nothing"),
        ("wandb sync --what", "No such option: --what"),
        ("run a/b --seeds x", "a valid integer"),
        ("plan a/b --protcol x", "No such option: --protcol"),
        ("plan risk_parity/iterations --protocol reduced", "no protocol reduced"),
        ("plan risk_parity/iteration", "did you mean 'risk_parity/iterations'"),
        ("run binary_connect/table2 --column mnits", "mnits"),
        ("run risk_parity/iterations launcher.wrokers=2", "wrokers"),
        ("table risk_parity/iterations --explain newton,t1_n26", "t1_n26"),
        ("train -m experiment=risk_parity/random data.tset=1,2", "tset"),
        ("summarize risk_parity/randm", "randm"),
    ],
)
def test_what_is_not_there_is_seen(line, message, cached_once):
    with pytest.raises(Exception, match=message):
        try_out(shlex.split(line))


@pytest.mark.parametrize(("page", "line"), pages.commands(), ids=lambda text: text)
def test_commands_are_what_the_program_takes(page, line, cached_once):
    words = [STANDS_FOR.get(word, word) for word in shlex.split(line)]
    if THE_READERS_OWN.keys() & set(words):
        pages.parse(words)
    else:
        try_out(words)


def try_out(words: list[str]) -> None:
    """Do what a command would do, up to where something is planned, started or written."""
    command, asked = words[0], pages.parse(words)
    if command == "show" and "=" in asked["name"]:
        assert hydra_sweep.freeze_jobs([[asked["name"], *asked["overrides"]]])
    elif command == "train":
        jobs = [asked["overrides"]]
        if asked["multirun"]:
            jobs = hydra_sweep.expand(hydra_sweep.match_configs(asked["overrides"]))
        assert hydra_sweep.freeze_jobs(jobs)
    elif command == "summarize":
        assert asked["experiment"] in pages.configs(), asked["experiment"]
    elif command == "retry" and asked["name"] in paths.config_names("experiment"):
        pass
    elif asked.get("name"):
        protocol = asked.get("protocol") or "paper"
        row, column = (asked.get("explain") or ",").split(",")
        rows, columns = {row, *(asked.get("row") or [])}, {column, *(asked.get("column") or [])}
        of_protocol = 0
        for name in grid.expand_names(asked["name"]):
            table = spec.load(name)
            of_protocol += protocol in table.protocols()
            assert rows <= {"", *table.rows}, rows
            assert columns <= {"", *table.columns}, columns
            if asked.get("overrides"):
                one = next(filter(None, (table.experiment(c, protocol) for c in table.columns)))
                hydra_sweep.freeze_jobs([[f"experiment={one}", "seed=0", *asked["overrides"]]])
        assert of_protocol, f"{asked['name']}: no protocol {protocol}"


def test_what_is_listed_here_is_shown():
    shown = [line for _, line in pages.commands()]
    words = {word for line in shown for word in shlex.split(line)}
    assert {*STANDS_FOR, *THE_READERS_OWN} <= words
    assert set(RUN) <= set(shown)


@pytest.mark.slow
def test_quick_commands_do_what_the_pages_say(retable, monkeypatch):
    """One after the other, as a reader would; the runs of one are what another tells of."""
    monkeypatch.delenv("RETABLE_EXTRA")  # it would be where published results are looked for
    said = {line: retable(*shlex.split(line)) for line in RUN}
    assert "20 run" in next(
        done.stderr for line, done in said.items() if line.startswith("train -m")
    )
    summary = next(done.stdout for line, done in said.items() if line.startswith("summarize"))
    assert summary.startswith("risk_parity/random: 20 runs in "), summary
