"""The shipped experiments on generated texts, and what their tables compare."""

from __future__ import annotations

import functools

import pytest

from retable.config.compose import compose, hydra_ready
from retable.tables import spec
from retable.tables.grid import plan
from retable.training.execute import build


@functools.cache
def composed(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=peft_debias/{name}", "seed=0", *overrides])


@functools.cache
def cells(name, column):
    """The setting of each row's cell."""
    grid = plan(f"peft_debias/{name}", "reduced")
    return {row: cell.setting.config for (row, of), cell in grid.cells.items() if of == column}


@pytest.mark.parametrize("name", ["r0_pretrain", "r0_upstream", "r0_downstream", "r0_ft"])
def test_generated_texts_are_never_shown_as_the_papers(name):
    config = composed(name)
    assert config.protocol == "reduced"
    data, module = build(config.model_dump(mode="json"))
    assert module.vocabulary == data.vocabulary
    assert config.model["optimizer"]["weight_decay"] == 0
    if not data.mlm:
        assert module.n_classes == data.classes


def test_a_patch_downstream_is_that_of_the_run_upstream():
    """By row: kind and size of the patch, and the very run that the other table has."""
    upstream, downstream = cells("r0_upstream", "crows"), cells("r0_downstream", "gap")
    assert set(upstream) - set(downstream) == {"bert"}
    for row, config in downstream.items():
        parent = config.start.run
        if row == "ft":
            assert parent.experiment == "peft_debias/r0_pretrain"
            continue
        debiased = upstream[row]
        assert (parent.model, parent.trainer) == (debiased.model, debiased.trainer)
        kind = debiased.model["trained"]
        assert config.model.get("patch", "none") == ("none" if kind == "all" else kind)
        assert config.model.get("patch_size") == debiased.model.get("patch_size")
        assert parent.data["cda"] == debiased.data["cda"] == "gender"
        assert parent.start.run.experiment == "peft_debias/r0_pretrain"
    assert downstream["ft"].model.items() <= downstream["full"].model.items()


def test_patches_have_a_hundredth_of_the_parameters():
    for row, config in cells("r0_upstream", "share").items():
        _, module = build(config.model_dump(mode="json"))
        if row == "sft":
            assert module.sft_share == 0.01
        else:
            assert 0.007 < module._share() < 0.013, row


def test_bert_is_scored_as_it_is_on_the_same_texts():
    rows = cells("r0_upstream", "perplexity")
    assert rows["bert"].stages == ["test"]
    assert rows["bert"].data == rows["lora"].data
    sft, lora = rows["sft"], rows["lora"]
    # Each of its two stages is as long as the others' only one.
    assert sft.model["sft_rewind"] == sft.trainer.max_epochs - lora.trainer.max_epochs
    assert sft.best_epoch is None


def test_claims_are_named_as_ours():
    for name in ("r0_upstream", "r0_downstream"):
        table = spec.load(f"peft_debias/{name}")
        assert not table.reported
        assert not table.source.own
        assert all(claim.id.startswith("R0_") for claim in table.claims)
