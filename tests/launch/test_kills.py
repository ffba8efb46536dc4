"""Killed at any moment and in the middle of any write, a run goes on to the same bits.

``RETABLE_KILL_SEED`` adds a second seed of the moments to the fixed one.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch

from retable.runs import records
from support.kill import (
    EARLY,
    EPOCHS,
    SETTINGS,
    Lab,
    check_done,
    check_killed,
    check_went_on,
    leftovers,
    loading_of,
    saved,
)

RANDOM_KILLS = 18
FORCED = [
    "lease-unlinked",
    "lease-linked",
    "checkpoint-half",
    "checkpoint-synced",
    "checkpoint-renamed",
    "checkpoint-pruned",
    "history-half",
    "history-synced",
    "history-renamed",
    "record-half",
    "record-synced",
    "record-unpublished",
    "record-published",
]
SEEDS = [20260, *(int(seed) for seed in os.environ.get("RETABLE_KILL_SEED", "").split())]


@dataclass
class Tally:
    """What became of the kills of one seed."""

    random: list[tuple[str, float, str]] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)
    too_late: int = 0
    runs: int = 0
    left: list[int] = field(default_factory=list)

    def text(self, seed):
        where = Counter(phase for phase, _, _ in self.random)
        tenths = Counter(min(int(10 * share), 9) for _, share, _ in self.random)
        loading = Counter(loading for _, _, loading in self.random)
        return "\n".join(
            [
                f"\nkills, seed {seed}: {len(self.random)} at random moments, {len(self.forced)}"
                f" forced, in {self.runs} runs ({self.too_late} more came after the end)",
                "  random, by phase: " + ", ".join(f"{k} {n}" for k, n in sorted(where.items())),
                "  random, by tenth of the time the undisturbed run takes:"
                f" {[tenths[i] for i in range(10)]}",
                "  random, by loading: " + ", ".join(f"{k} {n}" for k, n in loading.items()),
                "  forced, point:epochs finished by then: " + ", ".join(sorted(self.forced)),
                f"  left of killed writes: {len(self.left)} temporary files, {sum(self.left)} B",
            ]
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    yield from Lab.open(tmp_path_factory.mktemp("kills"))


def kills_of(rng):
    """For every setting its kills, in some order: None is a random moment, else a fault point."""
    names = list(SETTINGS)
    rng.shuffle(names)
    kills = {name: [] for name in names}
    for number in range(RANDOM_KILLS):
        kills[names[number % len(names)]].append(None)
    for number, point in enumerate(FORCED):
        kills[names[-1 - number % len(names)]].append(point)
    for several in kills.values():
        rng.shuffle(several)
    return kills


class Victim:
    """A run that is killed, goes on, and is killed again; a fresh one where it got to its end."""

    def __init__(self, lab, name, tally):
        self.lab, self.name, self.tally = lab, name, tally
        self.reference = lab.reference(name)
        self.begin()

    def begin(self):
        self.run = self.lab.fresh(self.name)
        self.kills = 0
        self.tally.runs += 1

    def kill(self, point, rng):
        """Kill it once, for real."""
        epoch = rng.randint(1, self.reference.epochs)
        # A fresh run comes to every point; a moment may be too late many times on a busy machine.
        for _ in range(60 if point is None else 5):
            done = saved(self.run) if self.kills else 0
            if point is None:
                moment = rng.uniform(0, self.reference.rest(done))
                ended = self.lab.attempt(self.run, moment=moment)
            else:
                order = f"{point}:{0 if point.startswith('lease') else epoch}"
                ended = self.lab.attempt(self.run, order=order)
            self.kills += ended.killed
            check_went_on(self.run, ended, done)
            if ended.killed:
                check_killed(self.run, ended, done, self.reference)
            if ended.killed and point is not None:
                self.tally.forced.append(order.removesuffix(":0"))
                return
            if not (self.run.folder / "record.json").exists():
                share = 1 - (self.reference.rest(done) - ended.wall) / self.reference.wall
                self.tally.random.append((ended.phase, share, loading_of(self.name)))
                return
            self.tally.too_late += point is None
            self.finish()
            self.begin()
        pytest.fail(f"{self.name}: {point or 'a random moment'} was never reached")

    def finish(self):
        """Let it come to its end, and hold it against the undisturbed run."""
        before = records.read_run(self.run.folder, pytest.fail)
        done = saved(self.run)
        ended = self.lab.attempt(self.run)
        check_went_on(self.run, ended, done)
        record = check_done(self.run, self.reference)
        if before is not None:
            assert record == before, "computed again although its record was there"
        elif done:
            assert record.resumed_from_epoch == done
        left = leftovers(self.run)
        # They do not multiply: a killed write leaves its own file and nothing else.
        assert len(left) <= self.kills, left
        self.tally.left += [path.stat().st_size for path in left]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_run_goes_on_to_the_bits_of_one_that_was_not(lab, seed, capsys):
    rng, tally = random.Random(seed), Tally()
    for name, kills in kills_of(rng).items():
        victim = Victim(lab, name, tally)
        for point in kills:
            victim.kill(point, rng)
        victim.finish()
    with capsys.disabled():
        print(tally.text(seed))
    assert len(tally.random) == RANDOM_KILLS
    assert [point.partition(":")[0] for point in sorted(tally.forced)] == sorted(FORCED)
    # Its loading processes do not outlive a killed run, but for the seconds they take to notice.
    deadline = time.monotonic() + 20
    while left := lab.processes():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.slow
def test_what_could_be_lost_is_there_to_lose(lab):
    """Else the test above would hold for want of anything that a resumption could forget."""
    for name, overrides in SETTINGS.items():
        reference = lab.reference(name)
        rows = [json.loads(line) for line in reference.history.splitlines()]
        assert [row["epoch"] for row in rows] == list(range(reference.epochs))
        assert 3 <= reference.epochs <= EPOCHS, name
        assert (reference.epochs < EPOCHS) == (EARLY in overrides), (name, reference.history)
        assert (len({row["train/lr"] for row in rows}) > 1) == (name != "none"), name
        chosen = any(override.startswith("best_epoch") for override in overrides)
        assert (reference.best_epoch is not None) == chosen, name


def test_every_scheduler_that_a_config_can_name_is_killed():
    # The base class, and two that are made of schedulers which have their optimizer already.
    others = {"LRScheduler", "SequentialLR", "ChainedScheduler"}
    known = set(torch.optim.lr_scheduler.__all__) - others
    assert known <= set(SETTINGS)
