"""Texts: a chain and its entropy, crops, characters, OpenWebText from files of its structure."""

from __future__ import annotations

import hashlib
import math
import os

import numpy as np
import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.papers.weight_decay.text import crops
from retable.papers.weight_decay.text_characters import CharacterText
from retable.papers.weight_decay.text_markov import Chain, MarkovText
from retable.papers.weight_decay.text_openweb import OpenWebText
from retable.training.execute import build
from retable.util.errors import UserError
from support.texts import write_web

MIRROR = os.environ.get("RETABLE_MIRROR")
SHAPE = {"context": 6, "batch_size": 3, "iterations": 4}


def flat(loader):
    return torch.cat([torch.stack(batch).flatten() for batch in loader])


def markov(tmp_path, seed=0, **options):
    given = {"vocabulary": 5, "concentration": 0.5, **SHAPE, **options}
    return MarkovText(seed=seed, paths=DataPaths(tmp_path), **given)


@pytest.mark.parametrize("order", [1, 2])
def test_the_entropy_rate_by_eigenvectors_of_the_whole_chain(order):
    chain = Chain(4, order, 0.3, seed=1)
    n = 4**order
    whole = torch.zeros(n, n, dtype=torch.float64)
    for state in range(n):
        for token in range(4):
            whole[state, (state * 4 + token) % n] += float(chain.rows[state, token])
    values, vectors = torch.linalg.eig(whole.T)
    pi = vectors[:, values.real.argmax()].real
    pi = pi / pi.sum()
    assert np.allclose(pi, chain.stationary, atol=1e-10)
    rate = -sum(
        float(pi[s] * p) * math.log(p) for s in range(n) for p in chain.rows[s].tolist() if p
    )
    assert chain.entropy_rate == pytest.approx(rate, abs=1e-10)


def test_the_entropy_of_two_tokens_in_closed_form():
    chain = Chain(2, 1, 1.0, seed=0)
    a, b = 0.3, 0.1  # leaves 0, leaves 1
    chain.rows = np.array([[1 - a, a], [b, 1 - b]])
    chain.stationary = chain._stationary()
    h = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (a, b)]
    assert chain.stationary.tolist() == pytest.approx([b / (a + b), a / (a + b)])
    assert chain.entropy_rate == pytest.approx((b * h[0] + a * h[1]) / (a + b))
    assert chain.floor(7) == chain.entropy_rate


def test_the_floor_of_order_2_counts_the_first_target_by_itself():
    chain = Chain(3, 2, 0.5, seed=2)
    pairs = chain.stationary.reshape(3, 3)
    given_one = pairs / pairs.sum(1, keepdims=True)
    first = float(-(pairs * np.log(given_one)).sum())
    assert first > chain.entropy_rate
    assert chain.floor(1) == pytest.approx(first)
    assert chain.floor(4) == pytest.approx((first + 3 * chain.entropy_rate) / 4)


@pytest.mark.parametrize("order", [1, 2])
def test_what_is_drawn_has_the_chains_frequencies_and_its_floor(tmp_path, order):
    data = markov(tmp_path, order=order, eval_sequences=20_000, eval_batch_size=20_000)
    [(x, y)] = data.val_dataloader()
    tokens = torch.cat([x[:, :1], y], 1)
    chain = data.chain
    rows, stationary = torch.from_numpy(chain.rows), torch.from_numpy(chain.stationary)
    begin = tokens[:, :order] @ torch.tensor([5, 1][-order:])
    share = torch.bincount(begin, minlength=5**order) / len(begin)
    assert torch.allclose(share.double(), stationary, atol=0.015)
    windows = tokens.unfold(1, order + 1, 1).flatten(0, 1)
    code = windows[:, :-1] @ torch.tensor([5, 1][-order:])
    counts = torch.bincount(code * 5 + windows[:, -1], minlength=5 ** (order + 1))
    counts = counts.view(-1, 5).double()
    seen = counts.sum(1) > 2000
    found = counts[seen] / counts[seen].sum(1, keepdim=True)
    assert seen.any()
    assert torch.allclose(found, rows[seen], atol=0.04)
    # The loss of whoever knows the chain, on the same sequences.
    log_p = rows.log()[code, windows[:, -1]].view(len(tokens), -1)
    if order == 2:
        pairs = stationary.view(5, 5)
        first = (pairs / pairs.sum(1, keepdim=True)).log()[tokens[:, 0], tokens[:, 1]]
        log_p = torch.cat([first[:, None], log_p], 1)
    assert float(-log_p.mean()) == pytest.approx(data.floor, abs=0.01)


def test_an_epoch_follows_from_seed_stream_and_epoch_alone(tmp_path):
    one = flat(markov(tmp_path).train_dataloader())
    assert torch.equal(one, flat(markov(tmp_path).train_dataloader()))
    for other in (markov(tmp_path, seed=1), markov(tmp_path, stream=1)):
        assert not torch.equal(one, flat(other.train_dataloader()))
        assert other.entropy_rate == markov(tmp_path).entropy_rate  # the chain is one
        assert torch.equal(flat(other.val_dataloader()), flat(markov(tmp_path).val_dataloader()))
    later = markov(tmp_path)
    later._seed = lambda: 5
    assert not torch.equal(one, flat(later.train_dataloader()))
    assert not torch.equal(flat(later.val_dataloader()), flat(later.test_dataloader()))
    sizes = [len(x) for x, _ in markov(tmp_path, eval_sequences=7, eval_batch_size=3).sample()]
    assert sizes == [3, 3, 1]


def test_crops_are_pieces_of_the_text_and_reach_both_ends():
    text = torch.arange(20, dtype=torch.int32)
    drawn = torch.cat(list(crops(text, 4)(50, 8, torch.Generator().manual_seed(0))))
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn - drawn[:, :1], torch.arange(5).expand(400, 5))
    assert drawn[:, 0].unique().tolist() == list(range(16))


def characters(tmp_path, text, **options):
    (tmp_path / "text.txt").write_bytes(text.encode())
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    given = {"file": "text.txt", "sha256": sha256, **SHAPE, **options}
    data = CharacterText(seed=0, paths=DataPaths(tmp_path / "cache", tmp_path), **given)
    data.prepare_data()
    data.setup("fit")
    return data


def test_characters_and_what_is_held_out(tmp_path):
    data = characters(tmp_path, "abcdé" * 18 + "wxyz" * 2 + "\r\n")
    assert data.vocabulary == 11
    assert set(flat(data.val_dataloader()).tolist()) <= {0, 1, 6, 7, 8, 9}
    assert set(flat(data.train_dataloader()).tolist()) == {2, 3, 4, 5, 10}
    other = "zzzzzzzz"
    (tmp_path / "other.txt").write_text(other)
    sha256 = hashlib.sha256(other.encode()).hexdigest()
    data = characters(tmp_path, "ab" * 9, held_out="other.txt", held_out_sha256=sha256)
    assert set(flat(data.val_dataloader()).tolist()) == {2}


@pytest.mark.skipif(MIRROR is None, reason="needs the real data: set RETABLE_MIRROR")
@pytest.mark.parametrize(
    ("experiment", "sizes"),
    [
        ("lm_shakespeare", (1_003_854, 111_540)),
        ("lm_wikitext", (1_120_192, 1_255_018)),
    ],
)
def test_the_real_texts_have_the_vocabularies_that_the_networks_are_given(experiment, sizes):
    """65 characters of Tiny Shakespeare, 137 of both parts of WikiText-2."""
    with hydra_ready():
        made = compose([f"experiment=weight_decay/{experiment}", "seed=0"])
    cfg = made.model_dump(mode="json")
    data, _ = build(cfg)
    data.prepare_data()
    data.setup("fit")
    assert data.vocabulary == cfg["model"]["net"]["vocabulary"]
    assert data.vocabulary == {"lm_shakespeare": 65, "lm_wikitext": 137}[experiment]
    assert tuple(map(len, data._parts)) == sizes
    assert torch.cat(data._parts).unique().tolist() == list(range(data.vocabulary))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 18}, r"data\.context: 18 is longer than a text of 18; 17 at most"),
        ({"context": 2}, r"data\.context: 2 is longer than a text of 2"),
        ({"sha256": "0" * 64}, r"text\.txt: is truncated or altered"),
        ({"file": "other.txt"}, r"data\.file: other\.txt: not in .* a text in UTF-8"),
        ({"held_out": "other.txt"}, r"needs data\.held_out_sha256"),
    ],
)
def test_texts_that_are_refused(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        characters(tmp_path, "ab" * 10, **options)


@pytest.fixture
def web(tmp_path):
    """A mirror with a small vocabulary and documents in parquet files."""
    pytest.importorskip("tokenizers")
    return tmp_path, *write_web(tmp_path, "own/web", "tokenizer.json")


def openweb(root, **options):
    vocabulary = root / "tokenizer.json"
    sha256 = hashlib.sha256(vocabulary.read_bytes()).hexdigest() if vocabulary.is_file() else None
    given = {
        "corpus": "own/web", "vocabulary_file": "tokenizer.json", "vocabulary_sha256": sha256,
        "held_out": 0.1, "checksum": None, **SHAPE, **options,
    }  # fmt: skip
    return OpenWebText(seed=0, paths=DataPaths(root / "cache", root), **given)


@pytest.mark.slow
def test_open_web_text_is_tokenised_once_and_held_out_in_part(web):
    root, texts, tokenizer = web
    with pytest.raises(
        UserError, match=r"data\.checksum: none is given; .* has [0-9a-f]{64}"
    ) as no:
        openweb(root).prepare_data()
    checksum = str(no.value).partition(" has ")[2][:64]
    data = openweb(root, checksum=checksum)
    stamp = (data.folder / "train.bin").stat().st_mtime_ns
    data.prepare_data()
    data.setup("fit")
    assert (data.folder / "train.bin").stat().st_mtime_ns == stamp
    assert data.vocabulary == tokenizer.get_vocab_size()
    train, held_out = (part.tolist() for part in data._parts)
    assert train.count(0) == 18  # one after each document: in a text it is no token of its own
    assert held_out.count(0) == 2
    assert tokenizer.decode(held_out[: held_out.index(0)]) == texts[9]
    [x, y] = next(iter(data.train_dataloader()))
    assert x.shape == (3, 6)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert [p.name for p in data.folder.parent.iterdir() if p.is_dir()] == [data.folder.name]


@pytest.mark.slow
def test_what_open_web_text_refuses(web, monkeypatch):
    root, *_ = web
    with pytest.raises(UserError, match=r"data\.checksum has 000000000000"):
        openweb(root, checksum="0" * 64).prepare_data()
    with pytest.raises(UserError, match=r"no token '<\|endoftxt\|>'; did you mean '<\|endoftext"):
        openweb(root, end="<|endoftxt|>").prepare_data()
    with pytest.raises(UserError, match=r"vocabulary_sha256: none is given; .* has"):
        openweb(root, vocabulary_sha256=None).prepare_data()
    with pytest.raises(
        DataUnavailable, match=r"data\.vocabulary_file: none\.json: not in .* a file tokenizer"
    ):
        openweb(root, vocabulary_file="none.json").prepare_data()

    def no_network(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", no_network)
    with pytest.raises(DataUnavailable, match=r"data\.corpus: own/none is neither in a mirror"):
        openweb(root, corpus="own/none").prepare_data()
    with pytest.raises(UserError, match=r"is longer than a text of"):
        openweb(root, context=5000).setup("fit")
    assert not list((root / "cache").glob("**/*.tmp"))
