"""Bit sequences: modes, reward, test strings, exact likelihood, correlation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.subtb.bitseq import (
    BitSequences,
    exact_l1,
    log_partition,
    spearman,
)
from retable.papers.subtb.bitseq_data import BLOCKS, BitProblem, bits_of, words_of
from retable.papers.subtb.seq_model import SequenceModel

SMALL = BitProblem(n=16, k=2, modes=5)


def small_model(problem, seed=0) -> SequenceModel:
    torch.manual_seed(seed)
    return SequenceModel(problem.space, layers=1, heads=2, width=16, hidden=16)


@pytest.mark.parametrize("k", [1, 2, 4, 6, 8, 10])
def test_the_papers_word_lengths_divide_120_bits(k):
    problem = BitProblem(k=k)
    assert problem.space.steps == 120 // k
    assert problem.space.actions == problem.space.words == 2**k
    assert problem.space.valid.all()


@given(st.integers(1, 10), st.integers(1, 6), st.randoms())
def test_bits_and_words_are_inverse(k, length, random):
    words = torch.tensor([[random.randrange(2**k) for _ in range(length)] for _ in range(3)])
    bits = bits_of(words, k)
    assert torch.equal(words_of(bits, k), words)
    text = "".join(format(word, f"0{k}b") for word in words[0].tolist())
    assert "".join(map(str, bits[0].tolist())) == text


def test_modes_are_made_of_the_five_blocks_and_the_same_in_all_runs():
    problem = BitProblem()
    centres = problem.centres
    assert centres.shape == (60, 120)
    assert len({tuple(mode) for mode in centres.tolist()}) == 60
    blocks = ["".join(map(str, b)) for b in centres.view(-1, 8).tolist()]
    assert set(blocks) == set(BLOCKS)
    shares = np.array([blocks.count(b) for b in BLOCKS]) / len(blocks)
    assert np.abs(shares - 0.2).max() < 0.06  # 900 blocks
    assert torch.equal(BitProblem(k=8).centres, centres)
    assert not torch.equal(BitProblem(problem=1).centres, centres)


def test_few_possible_modes_are_all_there_without_repetition():
    assert len({tuple(m) for m in BitProblem(n=8, modes=5).centres.tolist()}) == 5
    with pytest.raises(ValueError, match=r"modes: 6 is not in 1 \.\. 5"):
        BitProblem(n=8, modes=6)


def test_distances_and_reward_by_brute_force():
    strings = SMALL.every_string()[::997]
    distances = SMALL.distances(strings)
    for row, string in enumerate(strings.tolist()):
        for column, mode in enumerate(SMALL.centres.tolist()):
            assert distances[row, column] == sum(a != b for a, b in zip(string, mode, strict=True))
    reward = SMALL.log_reward(distances)
    assert reward.tolist() == [-2.0 * min(row) for row in distances.tolist()]
    divided = BitProblem(n=16, k=2, modes=5, beta=3.0, per_bit=True).log_reward(distances)
    torch.testing.assert_close(divided, 3 / 16 * reward / 2)


def test_default_reward_puts_a_string_well_within_the_threshold():
    """Under R around one mode each bit differs with probability 1 / (1 + e^beta)."""
    for beta, bits in ((2.0, 14.3), (1.0, 32.3), (3 / 120, 59.3)):
        assert 120 / (1 + math.exp(beta)) == pytest.approx(bits, abs=0.05)
    assert BitProblem().beta == 2
    assert BitProblem().radius == 30
    assert BitProblem(n=32, modes=8).radius == 8


def test_log_partition_of_one_mode_has_a_closed_form():
    problem = BitProblem(n=16, modes=1, beta=0.7)
    assert log_partition(problem) == pytest.approx(16 * math.log1p(math.exp(-0.7)), abs=1e-5)


def test_a_mode_is_found_within_the_threshold_and_not_beyond():
    problem = BitProblem(n=16, modes=2, threshold=3)
    near, far = problem.centres[0].clone(), problem.centres[0].clone()
    near[:3] ^= 1
    far[:4] ^= 1
    environment = BitSequences(problem)
    for string, first in ((near, True), (far, False)):
        distances = (string != problem.centres).sum(1)
        assert environment.found(string[None]).tolist() == [first, bool(distances[1] <= 3)]


def test_test_strings_are_7200_with_every_number_of_flips():
    problem = BitProblem()
    strings = problem.strings()
    assert strings.shape == (7200, 120)
    flips = (strings.view(60, 120, 120) != problem.centres[:, None]).sum(2)
    assert torch.equal(flips, torch.arange(120).expand(60, 120))
    where = (strings.view(60, 120, 120)[:, 60] != problem.centres).double().mean(0)
    assert where.std() < 0.1  # each bit is flipped in about half of them: sqrt(.25 / 60) = 0.065
    assert torch.equal(BitProblem(k=6).strings(), strings)


def test_strings_of_a_validation_are_none_of_the_tests_but_the_modes():
    problem = BitProblem(n=32, modes=8)
    test = {tuple(s) for s in problem.strings().tolist()}
    other = problem.strings("validation", 4)
    assert len(other) == 8 * 8
    shared = {tuple(s) for s in other.tolist()} & test
    modes = {tuple(m) for m in problem.centres.tolist()}
    assert modes <= shared
    assert len(shared) <= len(modes) + 2


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_probabilities_of_all_65536_strings_sum_to_one(k):
    problem = BitProblem(n=16, k=k, modes=4)
    distance, mass = exact_l1(problem, small_model(problem))
    assert mass == pytest.approx(1, abs=1e-5)
    assert 0 < distance < 2


def test_exact_distance_is_zero_of_the_target_itself(monkeypatch):
    problem = BitProblem(n=8, modes=2)
    reward = problem.log_reward(problem.distances(problem.every_string())).double()
    exact = reward.log_softmax(0)
    monkeypatch.setattr(BitSequences, "log_likelihood", lambda *_: exact)
    assert exact_l1(problem, small_model(problem))[0] == pytest.approx(0, abs=1e-6)
    monkeypatch.setattr(BitSequences, "log_likelihood", lambda *_: exact.flip(0))
    assert exact_l1(problem, small_model(problem))[0] > 0.1


def test_enumeration_of_many_bits_is_refused():
    with pytest.raises(ValueError, match=r"2\^120 strings"):
        BitProblem().every_string()


def test_likelihood_does_not_depend_on_how_many_strings_share_a_pass(monkeypatch):
    model, strings = small_model(SMALL), SMALL.strings()
    environment = BitSequences(SMALL)
    together = environment.log_likelihood(model, strings)
    monkeypatch.setattr("retable.papers.subtb.bitseq.CHUNK_TOKENS", 1)
    alone = environment.log_likelihood(model, strings[:9])
    torch.testing.assert_close(alone, together[:9], rtol=0, atol=1e-5)


def test_drawn_trajectories_are_what_was_drawn():
    environment = BitSequences(SMALL)
    torch.manual_seed(0)
    drawn = environment.draw(small_model(SMALL), 12)
    assert drawn.actions.shape == (12, 8)
    assert bool((drawn.lengths == 8).all())
    assert torch.equal(words_of(drawn.objects, 2), drawn.actions)
    expected = SMALL.log_reward(SMALL.distances(drawn.objects))
    assert torch.equal(drawn.log_reward, expected)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=40))
def test_spearman_is_scipys(pairs):
    a, b = (torch.tensor(x, dtype=torch.float64) for x in zip(*pairs, strict=True))
    found = spearman(a, b)
    if a.unique().numel() == 1 or b.unique().numel() == 1:
        assert found == 0
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


def test_spearman_sees_the_order_alone():
    x = torch.arange(50.0)
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, -(x**3)) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 7}, "7 does not divide the 120 bits"),
        ({"n": 20, "k": 2}, "20 is no multiple of 8"),
        ({"modes": 0}, "modes: 0"),
    ],
)
def test_refusals_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        BitProblem(**options)


def test_enumeration_covers_every_string_once():
    strings = BitProblem(n=8, modes=1).every_string().tolist()
    assert sorted(map(tuple, strings)) == sorted(itertools.product((0, 1), repeat=8))
