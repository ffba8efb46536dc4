"""Tokenizers and masks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.peft_debias.masking import IGNORED, draws, masked, mixed
from retable.papers.peft_debias.tokens import SPECIALS, WordPieces, Words
from retable.util.errors import UserError

BITS = (1 << 64) - 1


def words(n=50, max_length=12):
    return Words([f"w{k}" for k in range(n)], max_length)


# --- tokenizers


def test_the_most_frequent_words_and_then_the_alphabet():
    texts = ["b a, b", "C c b", "d ma'am"]
    made = Words.of(texts, 4, 8, always=["z"])
    assert made.tokens == [*SPECIALS, "z", "b", "c", ","]
    assert Words.of(reversed(texts), 4, 8, always=["z"]).tokens == made.tokens
    assert made.encode("B a c.") == [made.cls, 6, made.unk, 7, made.unk, made.sep]
    assert "ma'am" in Words.of(texts, 9, 8).tokens
    assert made.vocab_size == 9


def test_a_text_is_cut_and_special_tokens_are_kept():
    made = Words(["it", "is"], 5)
    assert made.encode("it is it is it") == [2, 5, 6, 5, 3]
    assert made.encode("[MASK] is") == [2, made.mask, 6, 3]
    assert made.decode([2, made.mask, 6, 3, 0, 0]) == "[MASK] is"
    assert made.encode("") == [2, 3]


def test_word_pieces(tmp_path):
    tokens = [*SPECIALS, "walk", "##ing", "##ed", "the", "dog", ".", "un", "##known"]
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(tokens) + "\n")
    made = WordPieces(file, 12)
    inner = [made.number[piece] for piece in ("the", "dog", "walk", "##ing", ".")]
    assert made.encode("The dog walking.") == [made.cls, *inner, made.sep]
    inner = [made.unk, made.number["walk"], made.number["##ed"], made.number["un"]]
    expected = [made.cls, *inner, made.number["##known"], made.sep]
    assert made.encode("dogs walked unknown") == expected
    assert made.encode("the [MASK]") == [made.cls, made.number["the"], made.mask, made.sep]
    assert made.encode("") == [made.cls, made.sep]
    assert made.decode(made.encode("Walking the dog.")) == "walking the dog ."
    assert made.encode("the dog " * 20)[-2:] == [made.number["dog"], made.sep]


def test_refusals(tmp_path):
    with pytest.raises(UserError, match=r"data\.max_length: 2 leaves no token"):
        Words(["a"], 2)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    with pytest.raises(UserError, match=r"has no \[MASK\]"):
        WordPieces(tmp_path / "vocab.txt", 8)


# --- masks


def reference(x):
    x &= BITS
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & BITS
    return x ^ (x >> 31)


@given(st.integers(-(2**63), 2**63 - 1))
def test_the_mixing_is_that_of_splitmix(x):
    assert int(mixed(torch.tensor([x]))) & BITS == reference(x)


def test_splitmix_gives_its_published_numbers():
    # The first outputs for the state 1234567, in Vigna's and in other implementations.
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + k * golden) & BITS for k in (1, 2)]
    signed = torch.tensor([s - (1 << 64) if s >> 63 else s for s in states])
    found = [int(x) & BITS for x in mixed(signed)]
    assert found == [6457827717110365317, 3203168211198807973]


def test_special_tokens_are_never_chosen_and_others_as_often_as_said():
    made = words()
    torch.manual_seed(0)
    ids = torch.randint(5, made.vocab_size, (2000, 20))
    ids[:, 0], ids[:, 18], ids[:, 19], ids[:, 7] = made.cls, made.sep, made.pad, made.unk
    given_, labels = masked(ids, torch.arange(2000), 3, made)
    chosen = labels != IGNORED
    assert not chosen[:, [0, 7, 18, 19]].any()
    assert torch.equal(labels[chosen], ids[chosen]), "the label is the token"
    assert torch.equal(given_[~chosen], ids[~chosen]), "the rest is untouched"
    n, k = 2000 * 16, int(chosen.sum())
    assert abs(k / n - 0.15) < 3 * math.sqrt(0.15 * 0.85 / n)
    hidden = given_[chosen] == made.mask
    random = ~hidden & (given_[chosen] != ids[chosen])
    # One random token in 55 is the token itself, one is [MASK].
    for share, expected in ((hidden, 0.8 + 0.1 / 55), (random, 0.1 * 53 / 55)):
        se = math.sqrt(expected * (1 - expected) / k)
        assert abs(float(share.double().mean()) - expected) < 3 * se
    seen = given_[chosen][random]
    assert len(seen.unique()) == 54, "any token of the vocabulary but [MASK] itself"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_at_the_ends(share):
    made = words()
    ids = torch.full((3, 5), 9)
    _, labels = masked(ids, torch.arange(3), 0, made, share=share)
    assert (labels != IGNORED).float().mean() == share


@settings(max_examples=25)
@given(st.integers(0, 2**63 - 1), st.permutations(range(6)), st.integers(0, 4))
def test_masks_are_the_same_in_any_batch(seed, order, padding):
    made = words()
    ids = torch.arange(5, 53).view(6, 8)
    whole = masked(ids, torch.arange(6), seed, made)
    chosen = torch.tensor(order[:3])
    wide = torch.nn.functional.pad(ids[chosen], (0, padding), value=made.pad)
    part = masked(wide, chosen, seed, made)
    for all_, some in zip(whole, part, strict=True):
        assert torch.equal(some[:, :8], all_[chosen])


def test_masks_differ_by_seed_by_item_and_by_place():
    drawn = draws(1, torch.arange(50), 40)
    assert len(drawn.unique()) == drawn.numel(), "no number twice among 6000 of 2**31"
    assert not (draws(2, torch.arange(50), 40) == drawn).any()
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 2**31
    u = drawn.double().flatten(1) / 2**31
    assert torch.allclose(u.mean(1), torch.tensor(0.5).double(), atol=3 / math.sqrt(12 * 2000))
    assert (torch.corrcoef(u) - torch.eye(3)).abs().max() < 3.5 / math.sqrt(2000)
