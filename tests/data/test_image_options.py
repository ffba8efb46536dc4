"""What a config may choose of the image modules: objects of its own, ids, sizes of batches."""

from __future__ import annotations

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.data.image_sets import SETS
from retable.data.modules import GeneratedImages
from retable.runs.identity import modules_of
from retable.training.execute import build_data
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

OWN = "retable.papers.digits.images"
BASE = "retable.data.modules"
SMOKE = "binary_connect/mnist_smoke"


def config(*overrides, experiment=SMOKE):
    with hydra_ready():
        return compose([f"experiment={experiment}", "seed=0", *overrides])


def made(*overrides):
    data = build_data(config(*overrides).data, 0, {"cache": "unused"})
    data.setup("fit")
    return data


def test_preprocessing_of_a_paper_is_applied_to_all_images():
    plain = made("data.preprocess=none")
    own = made(f"data.preprocess={{_target_: {OWN}.Pooled,size: 2,mean: 0.4,std: 0.3}}")
    for name in ("train", "validation", "test"):
        before, after = getattr(plain, name)[0], getattr(own, name)[0]
        blocks = before.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
        torch.testing.assert_close(after, (blocks - 0.4) / 0.3)


def test_augmentation_of_a_paper_is_applied_to_training_batches_in_the_order_of_the_epoch():
    plain, own = made(), made(f"data.augment={{_target_: {OWN}.Noise,scale: 0.5}}")
    generator = torch.Generator().manual_seed(derive_seed(0, "augment", 0))
    for (x, y), (noisy, same) in zip(plain.train_dataloader(), own.train_dataloader(), strict=True):
        assert torch.equal(y, same)
        assert torch.equal(noisy, x + 0.5 * torch.randn(x.shape, generator=generator))
    assert torch.equal(own.validation[0], plain.validation[0])


def test_split_of_a_paper_sets_images_aside():
    own = made(f"data.split={{_target_: {OWN}.EveryOther}}", "data.with_ids=true")
    n = len(own.validation[0])
    assert own.validation[2].tolist() == list(range(0, 2 * n, 2))
    assert not set(own.train[2].tolist()) & set(own.validation[2].tolist())


def test_an_object_of_a_paper_is_part_of_what_the_run_executes():
    """In a file of its own: a run without it does not depend on it."""
    without = modules_of([f"{BASE}.GeneratedImages"])
    assert f"{OWN}" not in without
    assert OWN in modules_of([f"{BASE}.GeneratedImages", f"{OWN}.Noise"])
    assert "retable.data.image_sets" not in without  # a further set makes nothing stale
    assert "retable.data.image_cache" in without


def test_ids_say_which_image_it_is_whatever_the_order_and_the_split():
    arrays = made().arrays()
    for split in ("last", "seeded", "balanced"):
        own = made("data.with_ids=true", f"data.split={split}", "data.preprocess=none")
        seen = []
        for x, y, ids in own.train_dataloader():
            pixels = arrays["train/images"][ids].permute(0, 3, 1, 2).float() / 255
            assert torch.equal(x, pixels)
            assert torch.equal(y, arrays["train/labels"][ids])
            seen += ids.tolist()
        assert len(seen) == len(set(seen))
        tests = torch.cat([ids for _, _, ids in own.test_dataloader()])
        assert tests.tolist() == list(range(len(own.test[0])))
    assert len(next(iter(made().train_dataloader()))) == 2


def test_a_last_batch_that_is_not_full_may_be_kept():
    sizes = {}
    for drop in ("true", "false"):
        own = made("data.batch_size=64", "data.n_train=150", f"data.drop_last={drop}")
        sizes[drop] = [len(y) for _, y in own.train_dataloader()]
    assert sizes == {"true": [64, 64], "false": [64, 64, 22]}


def test_generated_images_take_the_options_of_real_ones():
    own = made("data.n_train=130", "data.eval_batch_size=70", "data.n_validation=90")
    assert len(own.train[0]) == 130
    assert [len(y) for _, y in own.val_dataloader()] == [70, 20]


def test_a_smoke_experiment_may_inherit_from_a_real_one():
    """All options of the real module but the set itself."""
    from retable.config.signatures import find, signature

    real, generated = (
        set(signature(find(BASE, name)).parameters) for name in ("ImageData", "GeneratedImages")
    )
    assert real - generated == {"dataset", "checksum"}


@pytest.mark.parametrize("name", [*SETS])
def test_any_known_set_may_be_named(name):
    assert config(f"data.dataset={name}", experiment="binary_connect/mnist").data["dataset"] == name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.dataset=cifar11", "data.dataset: 'cifar11' is not valid.*did you mean 'cifar10'"),
        ("data.dataset=3", "data.dataset: 3 is not valid"),
        ("data.augment=crop", "data.augment: 'crop' is not valid.*pad_crop_flip.*{_target_: ...}"),
        ("data.split=lest", "did you mean 'last'"),
        (f"data.augment={{_target_: {OWN}.Nois,scale: 1.0}}", "did you mean 'Noise'"),
        (f"data.augment={{_target_: {OWN}.Noise}}", "data.augment.scale: .* needs this argument"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(override, message):
    with pytest.raises(UserError, match=message):
        config(override, experiment="binary_connect/mnist")


@pytest.mark.parametrize("name", ["split", "preprocess", "augment"])
def test_an_object_that_cannot_be_called_is_refused(name):
    with pytest.raises(UserError, match=f"data.{name}: a dict cannot be called"):
        GeneratedImages(seed=0, paths=None, **{name: {}})


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        ("split", lambda labels, n, seed: labels, "has to return two tensors of indices"),
        (
            "split",
            lambda labels, n, seed: (torch.arange(9), torch.arange(8, 20)),
            "an index twice, or one of no image",
        ),
        (
            "split",
            lambda labels, n, seed: (torch.arange(9), torch.tensor([600])),
            "an index twice, or one of no image",
        ),
        ("preprocess", lambda pool, train, test: pool, "two tensors, .pool, test."),
        ("preprocess", lambda pool, train, test: (pool[train], test), "returns .* images for"),
        ("augment", lambda images, generator: images[:3], "returns 3 items for 50"),
    ],
)
def test_an_object_that_returns_something_else_is_named(option, given, message):
    own = GeneratedImages(seed=0, paths=None, **{option: given})

    def first_batch():
        own.setup("fit")
        return next(iter(own.train_dataloader()))

    with pytest.raises(UserError, match=rf"data\.{option}: .*{message}"):
        first_batch()


def test_more_training_images_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"data\.n_train: 601 of 500 images, .*n_validation=100"):
        GeneratedImages(seed=0, paths=None, n_train=601).setup("fit")
