"""Peptides and proteins: spaces, motifs, edit distance, proxies from a user's file."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retable.data.base import DataPaths
from retable.data.fetch import sha256_of
from retable.papers.subtb import bioproxy, molecule_data
from retable.papers.subtb.bioproxy import ProxyNetwork, proxy, read_file
from retable.papers.subtb.bioseq import (
    ALPHABET,
    Motifs,
    Powers,
    edit_distances,
    mean_edit_distance,
    space_of,
    top,
)
from retable.papers.subtb.module_bioseq import BioSequenceGFlowNet
from retable.papers.subtb.user_files import UpdatesOnFiles
from retable.util.errors import UserError


def levenshtein(a, b):
    """The textbook's table, one entry at a time."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i, j] = min(
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (a[i - 1] != b[j - 1]),
            )
    return table[-1, -1]


@given(st.lists(st.lists(st.integers(0, 2), max_size=7), min_size=2, max_size=5))
def test_edit_distances_are_the_textbooks(sequences):
    words = np.full((len(sequences), 7), 9)  # what lies behind the end must not count
    for row, sequence in enumerate(sequences):
        words[row, : len(sequence)] = sequence
    lengths = np.array([len(s) for s in sequences])
    pairs = np.array([(i, j) for i in range(len(sequences)) for j in range(len(sequences))])
    found = edit_distances(words, lengths, pairs)
    assert found.tolist() == [levenshtein(sequences[i], sequences[j]) for i, j in pairs]


def test_diversity_is_the_mean_over_pairs():
    words = torch.tensor([[0, 1, 2], [0, 1, 3], [1, 2, 0]])
    lengths = torch.tensor([3, 3, 2])
    expected = (1 + levenshtein([0, 1, 2], [1, 2]) + levenshtein([0, 1, 3], [1, 2])) / 3
    assert mean_edit_distance(words, lengths) == pytest.approx(expected)
    with pytest.raises(ValueError, match="fewer than two"):
        mean_edit_distance(words[:1], lengths[:1])


def test_spaces_of_the_two_tasks():
    amp, gfp = space_of("amp", min_length=12), space_of("gfp")
    assert (amp.actions, amp.steps, amp.stop, amp.min_length) == (21, 61, True, 12)
    assert (gfp.actions, gfp.steps, gfp.stop) == (20, 237, False)
    assert not amp.valid[:12, 20].any()
    assert amp.valid[12:, 20].all()
    assert len(set(ALPHABET)) == 20


def test_motifs_by_brute_force():
    motifs = Motifs(number=5, length=2, words=3, scale=1.5)
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(3, (60, 6), generator=generator)
    lengths = torch.randint(0, 7, (60,), generator=generator)
    found = motifs.score(words, lengths)
    for row in range(60):
        text = words[row, : lengths[row]].tolist()
        there = {tuple(text[i : i + 2]) for i in range(len(text) - 1)}
        assert found[row] == sum(tuple(m) in there for m in motifs.motifs.tolist())
    assert found.max() > 1
    assert torch.equal(motifs.log_reward(found), 1.5 * found)
    assert len({tuple(m) for m in motifs.motifs.tolist()}) == 5
    with pytest.raises(ValueError, match="so many different motifs"):
        Motifs(number=10, length=2, words=3)


def test_powers_of_a_score_are_floored_in_log_space():
    reward = Powers(exponent=3.0, floor=1e-6).log_reward(torch.tensor([0.5, 0.0, -2.0]))
    expected = [3 * np.log(0.5), 3 * np.log(1e-6), 3 * np.log(1e-6)]
    assert reward.tolist() == pytest.approx(expected, rel=1e-5)


def test_top_takes_the_largest():
    score = torch.tensor([0.1, 0.9, 0.5])
    assert top(score, 2).tolist() == [1, 2]
    assert len(top(score, 100)) == 3


def write(folder, task, rows):
    path = folder / "subtb" / f"{task}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["sequence,target", *rows]) + "\n")
    return path


def test_a_file_is_read_with_words_lengths_and_targets(tmp_path):
    path = write(tmp_path, "amp", ["ACD,1", "y,0", *["GG,0.5"] * 8])
    data = read_file(path, 5)
    assert data.words[:2].tolist() == [[0, 1, 2, 0, 0], [19, 0, 0, 0, 0]]
    assert data.lengths[:3].tolist() == [3, 1, 2]
    assert data.targets[:3].tolist() == [1, 0, 0.5]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["AXC,1"], "line 2: 'X' is none of"),
        (["A,1", "ACDEFG,1"], r"line 3: length 6 is not in 1 \.\. 5"),
        (["A,one"], "a target is no number"),
        (["A"], "a target is no number"),
        (["A,1"] * 9, "9 sequences are too few"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(tmp_path, rows, words):
    with pytest.raises(UserError, match=words):
        read_file(write(tmp_path, "amp", rows), 5)


def test_a_file_without_a_column_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("seq,target\nA,1\n")
    with pytest.raises(UserError, match="has no column 'sequence'"):
        read_file(path, 5)


def test_proxy_does_not_see_behind_the_end():
    torch.manual_seed(0)
    network = ProxyNetwork(6, layers=2, heads=2, width=8).eval()
    words, lengths = torch.randint(20, (4, 6)), torch.tensor([2, 3, 6, 1])
    behind = torch.arange(6) >= lengths[:, None]
    other = torch.where(behind, (words + 1) % 20, words)
    torch.testing.assert_close(network(other, lengths), network(words, lengths), atol=1e-6, rtol=0)
    short = network(words[:2, :3], lengths[:2])
    torch.testing.assert_close(short, network(words, lengths)[:2], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["amp", "gfp"])
def test_a_proxy_is_fitted_once_and_learns_its_file(tmp_path, monkeypatch, task):
    """Sequences with a W score higher than those without."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(240):
        letters = "".join(generator.choice(list("ACDE"), 6))
        rows.append(f"{'W' + letters if number % 2 else letters},{number % 2 + (task == 'gfp')}")
    write(tmp_path, task, rows)
    options = {"rate": 3e-3, "batch": 32, "max_epochs": 12, "layers": 1, "heads": 2, "width": 16}
    path = tmp_path / "subtb" / f"{task}.csv"
    settings = {"path": path, "cache": tmp_path / "cache", "exponent": 1.0, "floor": 1e-6}
    fitted = proxy(task, 8, **settings, **options)
    words = torch.tensor([[18, 0, 1, 2, 3, 0, 1, 0], [2, 0, 1, 2, 3, 0, 1, 0]])
    high, low = fitted.score(words, torch.tensor([7, 7])).tolist()
    assert high > 0.75
    assert low < 0.25
    monkeypatch.setattr(bioproxy, "fit", None)  # must not be called again
    again = proxy(task, 8, **settings, **options)
    assert again.score(words, torch.tensor([7, 7])).tolist() == [high, low]


def test_a_run_takes_the_users_file(tmp_path, monkeypatch):
    write(tmp_path, "amp", [f"{'ACDE'[i % 4] * (2 + i % 3)},{i % 2}" for i in range(40)])
    module = BioSequenceGFlowNet(
        seed=0, task="amp", max_length=5, min_length=1, exponent=3.0, layers=1, heads=2, width=8,
        hidden=8, test_samples=20, best=5,
    )  # fmt: skip
    paths = DataPaths(tmp_path / "cache", tmp_path)
    sha256 = sha256_of(tmp_path / "subtb" / "amp.csv")
    data = UpdatesOnFiles(seed=0, paths=paths, files=["amp"], checksums=[sha256])
    monkeypatch.setattr(BioSequenceGFlowNet, "trainer", SimpleNamespace(datamodule=data))
    fit = bioproxy.fit
    monkeypatch.setattr(
        bioproxy, "fit", lambda *a: fit(*a, max_epochs=1)
    )  # with the network's own size, so that it is found again
    module.setup("fit")
    drawn = module.draw(12, 0.0)
    score = module.score().score(drawn.objects, drawn.lengths - 1)
    assert bool(((score > 0) & (score < 1)).all())
    torch.testing.assert_close(drawn.log_reward, 3 * score.log())
    module.test_step(None, 0)
    found = {r.metric: r.value for r in module.results}
    assert found["test/top100_reward"] >= found["test/mean_reward"]
    assert 1 <= found["test/length"] <= 5
    assert not any("scored" in name for name in module.state_dict())


def test_files_of_the_seh_task(tmp_path):
    path = tmp_path / "blocks.json"
    content = {
        "block_smi": {"0": "CC", "1": "CC", "2": "O"},
        "block_rs": {"0": [0, 1], "1": [1, 0], "2": [0]},
    }
    path.write_text(json.dumps(content))
    fragments = molecule_data.read_fragments(path)
    assert fragments.ports == (2, 1)
    assert fragments.joins == ((0, 0), (0, 1), (1, 0))
    path.write_text("{}")
    with pytest.raises(UserError, match="is no file of fragments"):
        molecule_data.read_fragments(path)
    with pytest.raises(UserError, match=r"is no program of torch\.export"):
        molecule_data.read_proxy(path, 10.0)


def test_reward_of_a_proxy_of_molecules_is_floored_and_raised():
    reward = molecule_data.ProxyReward(lambda states: states[:, 0, 0].float(), exponent=2.0)
    objects = torch.tensor([[[8, 0, 0, 0]], [[4, 0, 0, 0]], [[-5, 0, 0, 0]]])
    expected = [0.0, 2 * np.log(0.5), 2 * np.log(0.1 / 8)]
    assert reward.log_reward(objects).tolist() == pytest.approx(expected, abs=1e-5)


def test_made_up_reward_of_molecules_is_a_sum_over_fragments():
    toy = molecule_data.ToyReward(3)
    objects = torch.full((2, 4, 4), -1)
    objects[0, :2, 0] = torch.tensor([2, 0])
    objects[1, :3, 0] = torch.tensor([1, 1, 2])
    w = toy.weights
    torch.testing.assert_close(toy.log_reward(objects), torch.stack([w[2] + w[0], 2 * w[1] + w[2]]))
