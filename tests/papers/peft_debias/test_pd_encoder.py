"""Encoders: closed forms of their sizes, seeds, and weights that move between them."""

from __future__ import annotations

import pytest
import torch

from retable.papers.peft_debias.encoder import NETWORKS, classifier, load_weights, masked_lm
from retable.util.errors import UserError

VOCAB = 30_522


def encoder_size(sizes, vocab):
    """Parameters without a pooler: embeddings, and four dense layers and two norms a layer."""
    layers, d, _, inner, positions = sizes
    norm = 2 * d
    embeddings = (vocab + positions + 2) * d + norm
    layer = 4 * (d * d + d) + (d * inner + inner) + (inner * d + d) + 2 * norm
    return embeddings + layers * layer


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_sizes_in_closed_form(network):
    d = NETWORKS[network].width
    with torch.device("meta"):
        words = masked_lm(network, VOCAB, seed=0)
        classes = classifier(network, VOCAB, 28, seed=0)
    body = encoder_size(NETWORKS[network], VOCAB)
    assert count(words) == body + (d * d + d) + 2 * d + VOCAB  # a bias; the decoder is tied
    assert count(classes) == body + (d * d + d) + 28 * (d + 1)


def test_bert_is_that_of_the_paper():
    """109.5 million parameters, the pooler with them."""
    assert encoder_size(NETWORKS["bert"], VOCAB) + 768 * 768 + 768 == 109_482_240


def test_a_seed_gives_the_weights_and_leaves_the_global_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (masked_lm("tiny", 40, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[n], same[n]) for n in one)
    name = "bert.encoder.layer.1.output.dense.weight"
    assert not torch.equal(one[name], other[name])
    assert abs(float(one[name].std()) - 0.02) < 0.001


def test_an_unknown_network_is_named_with_a_near_one():
    with pytest.raises(ValueError, match=r"model\.network: 'tinny'.*'tiny'"):
        masked_lm("tinny", 40, seed=0)


def early(state):
    """As the first files of BERT: other names in LayerNorms, no decoder, heads besides."""
    renamed = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in state.items()
        if ".decoder." not in n
    }
    return {**renamed, "cls.seq_relationship.weight": torch.ones(2, 64)}


def test_weights_of_an_early_file_are_taken_by_both():
    source = masked_lm("tiny", 40, seed=1)
    torch.nn.init.normal_(source.cls.predictions.bias)
    torch.nn.init.normal_(source.bert.encoder.layer[0].output.LayerNorm.weight)
    source.eval()
    target = masked_lm("tiny", 40, seed=2).eval()
    ids = torch.arange(12).view(2, 6)
    load_weights(target, early(source.state_dict()), source="a file")
    assert torch.equal(source(ids, ids >= 0), target(ids, ids >= 0))
    classes = classifier("tiny", 40, 3, seed=2)
    head = classes.classifier.weight.clone()
    load_weights(classes, early(source.state_dict()), source="a file")
    assert torch.equal(classes.classifier.weight, head)
    assert torch.equal(
        classes.bert.embeddings.word_embeddings.weight,
        source.bert.embeddings.word_embeddings.weight,
    )


def test_weights_that_do_not_fit_name_the_tensor_and_the_file():
    state = dict(masked_lm("tiny", 40, seed=1).state_dict())
    with pytest.raises(UserError, match=r"a file: bert\.embeddings\.word_embeddings\.weight has"):
        load_weights(masked_lm("tiny", 41, seed=1), state, source="a file")
    del state["bert.encoder.layer.1.output.dense.bias"]
    with pytest.raises(UserError, match=r"a file: there is no bert\.encoder\.layer\.1\.output"):
        load_weights(masked_lm("tiny", 40, seed=1), state, source="a file")
