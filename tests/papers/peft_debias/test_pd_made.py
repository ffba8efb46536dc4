"""Generated texts and the batches that all text data share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from retable.data.base import DataPaths
from retable.papers.peft_debias import made
from retable.papers.peft_debias.batches import CHUNK, Encoded, bucketed
from retable.papers.peft_debias.data_made import MadeBios, MadeText
from retable.papers.peft_debias.masking import IGNORED
from retable.util.errors import UserError

SMALL = {"n_train": 70, "n_validation": 30, "n_test": 40, "batch_size": 8, "eval_batch_size": 16}


def ready(kind, tmp_path, *, seed=0, **options):
    data = kind(seed=seed, paths=DataPaths(tmp_path), **{**SMALL, **options})
    data.setup("fit")
    return data


def at(data, epoch):
    """Batches of an epoch, as the trainer would ask for them."""
    device = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(current_epoch=epoch, strategy=device)
    return list(data.train_dataloader())


def same(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
        for x, y in zip(a, b, strict=True)
    )


# --- batches


def test_a_batch_is_filled_to_its_longest():
    rows = [[2, 7, 3], [2, 3], [2, 8, 9, 3]]
    encoded = Encoded(rows, {"label": torch.tensor([4, 5, 6])}, pad=0)
    batch = encoded.batch(torch.tensor([2, 1]))
    assert batch["input_ids"].tolist() == [[2, 8, 9, 3], [2, 3, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["label"].tolist() == [6, 5]
    assert encoded.batch(torch.tensor([1]))["input_ids"].tolist() == [[2, 3]]


def test_batches_of_a_pass_have_every_item_once_and_like_lengths():
    lengths = torch.randint(3, 48, (4 * CHUNK * 2 + 3,), generator=torch.Generator().manual_seed(1))
    batches = bucketed(lengths, 4, torch.Generator().manual_seed(2))
    assert torch.cat(batches).sort().values.tolist() == list(range(len(lengths)))
    assert sorted({len(batch) for batch in batches}) == [3, 4]
    filled = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert filled < 1.03 * int(lengths.sum())
    others = bucketed(lengths, 4, torch.Generator().manual_seed(3))
    assert torch.cat(batches).tolist() != torch.cat(others).tolist()
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest), "not from short to long"


@pytest.mark.parametrize("kind", [MadeText, MadeBios])
def test_an_epoch_is_a_function_of_the_seed_and_its_number(tmp_path, kind):
    data = ready(kind, tmp_path)
    first = [at(data, epoch) for epoch in range(3)]
    assert same(at(ready(kind, tmp_path), 2), first[2]), "resumed"
    assert not same(first[0], first[1])
    assert not same(at(ready(kind, tmp_path, seed=1), 0), first[0])
    for split in ("val", "test"):
        batches = [
            list(getattr(ready(kind, tmp_path, seed=seed), f"{split}_dataloader")())
            for seed in (0, 1)
        ]
        assert same(*batches), "the same for every seed"
        assert same(batches[0], list(getattr(data, f"{split}_dataloader")())), "in every epoch"


def test_epochs_of_some_batches_follow_each_other(tmp_path):
    whole = ready(MadeText, tmp_path)
    passes = [batch for epoch in range(3) for batch in at(whole, epoch)]
    data = ready(MadeText, tmp_path, iterations=4)
    assert [len(data.train_dataloader())] == [4]
    parts = [batch for epoch in range(5) for batch in at(data, epoch)]
    assert same(parts, passes[:20])
    long = ready(MadeText, tmp_path, iterations=13)
    assert same(at(long, 1), passes[13:26])


def test_masks_differ_from_pass_to_pass(tmp_path):
    data = ready(MadeText, tmp_path, batch_size=70)
    ((one,), (two,)) = at(data, 0), at(data, 1)
    whole = [
        sorted(torch.where(b["labels"] == IGNORED, b["input_ids"], b["labels"]).tolist())
        for b in (one, two)
    ]
    assert whole[0] == whole[1], "the same texts"
    shares = [float((b["labels"] != IGNORED).sum() / b["attention_mask"].sum()) for b in (one, two)]
    assert all(0.05 < share < 0.25 for share in shares)
    assert sorted(one["labels"].tolist()) != sorted(two["labels"].tolist())


# --- what is generated


def test_the_vocabulary_has_all_words(tmp_path):
    for data in (ready(MadeText, tmp_path, cda="gender"), ready(MadeBios, tmp_path)):
        for encoded in data._encoded.values():
            assert not (encoded.flat == data.tokenizer.unk).any()
            assert int(encoded.lengths.max()) <= 48
    words = [word for text, _ in made.probes() for word in text.split()]
    words += [word for pair in made.pairs() for text in pair for word in text.split()]
    assert set(words) <= {*made.vocabulary(), "[MASK]"}
    fixed = " ".join((*made.SENTENCES, *made.BIOS, *made.VERBS, *made.OCCUPATIONS)).split()
    assert not set(fixed) & set(made.TOOLS), "a tool is seen as such"
    assert len(made.TOOLS) == len(set(made.TOOLS)) == made.OWN * len(made.OCCUPATIONS)


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_gender_goes_with_the_occupation_as_often_as_said(share):
    n = 20_000
    texts = made.sentences("train", n, share, 0.7)
    female = set(made.GENDERED[1].values())
    agree = own = 0
    for text in texts:
        words = text.split()
        (occupation,) = [k for k, name in enumerate(made.OCCUPATIONS) if name in words]
        (tool,) = [k for k, name in enumerate(made.TOOLS) if name in words]
        agree += bool(female & set(words)) == (occupation >= made.N_MALE)
        own += tool // made.OWN == occupation
    assert abs(agree / n - share) < 3 * (share * (1 - share) / n) ** 0.5
    expected = 0.7 + 0.3 / len(made.OCCUPATIONS)
    assert abs(own / n - expected) < 3 * (expected * (1 - expected) / n) ** 0.5


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_augmented_text_has_each_gender_half_of_the_time(tmp_path, split):
    data = ready(MadeText, tmp_path, cda="gender")
    texts = data.rows(split).texts
    assert len(texts) == 2 * data.sizes[split], "every sentence has a gendered word"
    assert list(texts[1::2]) == list(ready(MadeText, tmp_path).rows(split).texts)
    words = [word for text in texts for word in text.split()]
    for male, female in (("he", "she"), ("himself", "herself"), ("man", "woman")):
        assert words.count(male) == words.count(female) > 0


def test_bios_have_the_gap_of_the_best_rule():
    n, own, twin, share = 30_000, 0.6, 0.15, 0.9
    texts, labels, genders = made.bios("test", n, share, own, twin)
    place = {tool: k // made.OWN for k, tool in enumerate(made.TOOLS)}
    nouns = torch.tensor([[place[w] for w in text.split() if w in place] for text in texts])
    assert nouns.shape == (n, 4)
    female = set(made.GENDERED[1].values())
    seen = torch.tensor([int(bool(female & set(text.split()))) for text in texts])
    assert torch.equal(seen, genders), "gender can be read off the text"
    k = len(made.OCCUPATIONS)
    table = torch.full((k, k), (1 - own - twin) / k)
    for o in range(k):
        table[o, o] += own
        table[o, (o + made.N_MALE) % k] += twin
    scores = table.log()[:, nouns].sum(-1).T
    prior = torch.where(made.stereotype(torch.arange(k)) == genders[:, None], share, 1 - share)

    def accuracy_and_gap(scores):
        right = (scores.argmax(1) == labels).double()
        rates = [
            [right[(labels == o) & (genders == g)].mean() for g in (made.MALE, made.FEMALE)]
            for o in range(k)
        ]
        gaps = torch.tensor(rates).diff(dim=1)
        assert (gaps[: made.N_MALE] < 0.06).all()
        return float(right.mean()), float(gaps.square().mean().sqrt())

    accuracy, gap = accuracy_and_gap(scores + prior.log())
    assert abs(accuracy - 0.91) < 0.01
    assert abs(gap - 0.34) < 0.03
    accuracy, gap = accuracy_and_gap(scores)
    assert abs(accuracy - 0.835) < 0.01
    assert gap < 0.05


def test_pairs_differ_in_one_token_and_have_both_stereotypes():
    pairs = made.pairs()
    assert len(pairs) == len(made.OCCUPATIONS) * len(made.SENTENCES)
    male = set(made.GENDERED[0].values())
    first = []
    for stereotype, other in pairs:
        a, b = stereotype.split(), other.split()
        (k,) = [k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        assert (a[k] in male) != (b[k] in male)
        first.append(a[k] in male)
    assert sum(first) == len(first) / 2
    assert [gender for _, gender in made.probes()] == [0] * 10 + [1] * 10


def test_a_batch_of_bios_has_occupation_gender_and_item(tmp_path):
    data = ready(MadeBios, tmp_path)
    rows = data.rows("test")
    for batch in data.test_dataloader():
        for row, item in enumerate(batch["item"].tolist()):
            tokens = batch["input_ids"][row].tolist()
            assert data.tokenizer.decode(tokens) == rows.texts[item]
            assert batch["label"][row] == rows.columns["label"][item]
            assert batch["group"][row] == rows.columns["group"][item]
    assert data.classes == 20


def test_probabilities_above_one_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.twin: 0\.5 with data\.own=0\.75; 0\.25 at most"):
        ready(MadeBios, tmp_path, own=0.75, twin=0.5)
