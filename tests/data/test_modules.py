"""DataModules of image sets: what is trained on, how it is preprocessed, in which order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from retable.config.compose import compose, hydra_ready
from retable.data.arrays import checksum
from retable.data.base import DataPaths
from retable.data.hub import decode
from retable.data.modules import GeneratedImages, ImageData
from retable.data.tensor_loader import TensorLoader
from retable.data.transforms import Whitening, global_contrast_normalize, to_float
from retable.util.errors import UserError
from support.images import small

N_POOL, N_TEST = 40, 20


def arrays_of(seed: int = 0, extra: int = 0) -> dict[str, Tensor]:
    """Images of which every one says in its first pixel which it is; those of the test are odd."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, size, odd in (("test", N_TEST, 1), ("train", N_POOL, 0), ("extra", extra, 0)):
        if size:
            images = torch.randint(0, 256, (size, 4, 4, 3), generator=generator, dtype=torch.uint8)
            start = N_POOL if name == "extra" else 0
            images[:, 0, 0, 0] = 2 * (torch.arange(size) + start) + odd
            out[f"{name}/images"], out[f"{name}/labels"] = images, torch.arange(size) % 10
    return out


@pytest.fixture
def data(monkeypatch, tmp_path):
    """Makes a module of the arrays above, set up unless ``stage`` is None."""

    def make(*, stage: str | None = "fit", arrays=None, seed: int = 3, **kwargs) -> ImageData:
        kwargs = {"batch_size": 8, "n_validation": 10, "eval_batch_size": 6, **kwargs}
        module = ImageData(
            seed=seed, paths=DataPaths(tmp_path), dataset="cifar10", checksum=None, **kwargs
        )
        monkeypatch.setattr(module, "arrays", lambda: arrays or arrays_of())
        if stage is not None:
            module.setup(stage)
        return module

    return make


def numbers(images: Tensor) -> list[int]:
    """Which images these are, where they are not preprocessed."""
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


def seen(loader: TensorLoader) -> list[int]:
    return [number for inputs, _ in loader for number in numbers(inputs)]


def trainer_at(epoch: int) -> SimpleNamespace:
    progress = SimpleNamespace(current=SimpleNamespace(processed=epoch))
    return SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_progress=progress),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def test_the_last_images_are_set_aside_and_none_of_the_test_is_trained_on(data):
    module = data()
    even = [2 * i for i in range(N_POOL)]
    assert numbers(module.train[0]) == even[:30]
    assert numbers(module.validation[0]) == even[30:]
    assert numbers(module.test[0]) == [2 * i + 1 for i in range(N_TEST)]
    for images, labels in (module.train, module.validation, module.test):
        assert images.dtype == torch.float32
        assert images.shape == (len(labels), 3, 4, 4)
        assert labels.dtype == torch.int64
    assert module.train[1].tolist() == [i % 10 for i in range(30)]
    assert torch.equal(module.train[0], to_float(arrays_of()["train/images"])[:30])


@pytest.mark.parametrize("preprocess", ["none", "center_train", "center_each_set"])
def test_labels_stay_with_their_images(data, preprocess):
    arrays = arrays_of()
    for name in ("train", "test"):  # the second channel says the label
        arrays[f"{name}/images"][:, :, :, 1] = 25 * arrays[f"{name}/labels"].view(-1, 1, 1).byte()
    module = data(arrays=arrays, preprocess=preprocess, split="seeded")
    for images, labels in (module.train, module.validation, module.test):
        means = [images[labels == label, 1].mean() for label in range(10) if label in labels]
        assert means == sorted(means)


@pytest.mark.parametrize(("split", "depends"), [("last", False), ("seeded", True)])
def test_only_a_random_split_depends_on_the_seed(data, split, depends):
    sets = [set(numbers(data(split=split, seed=seed).validation[0])) for seed in (3, 3, 4)]
    assert sets[0] == sets[1]
    assert (sets[0] != sets[2]) == depends


def test_a_balanced_split_has_every_class(data):
    module = data(split="balanced", n_validation=20)
    assert module.validation[1].bincount().tolist() == [2] * 10
    assert module.train[1].bincount().tolist() == [2] * 10


def test_extra_images_are_trained_on_too(monkeypatch, data):
    module = data(arrays=arrays_of(extra=10), n_validation=5)
    even = [2 * i for i in range(N_POOL + 10)]
    assert numbers(module.train[0]) == even[:45]
    assert numbers(module.validation[0]) == even[45:]


def test_fewer_training_images_leave_the_validation_as_it_is(data):
    module = data(n_train=12)
    assert numbers(module.train[0]) == [2 * i for i in range(12)]
    assert numbers(module.validation[0]) == [2 * i for i in range(30, 40)]
    assert len(data(n_train=30).train[0]) == 30


def test_no_validation_images(data):
    module = data(n_validation=0)
    assert len(module.train[0]) == N_POOL
    assert len(module.val_dataloader()) == 0


def test_too_many_validation_images_are_refused(data):
    with pytest.raises(ValueError, match=r"data\.n_validation: 40 of 40 images"):
        data(n_validation=N_POOL)


@pytest.mark.parametrize("n_train", [None, 12])
def test_centring_by_the_mean_of_the_training_images(data, n_train):
    pool, test = (to_float(arrays_of()[f"{name}/images"]) for name in ("train", "test"))
    module = data(preprocess="center_train", n_train=n_train)
    mean = pool[: n_train or 30].mean(0)
    assert torch.allclose(module.train[0], pool[: n_train or 30] - mean, atol=1e-6)
    assert torch.allclose(module.train[0].mean(0), torch.zeros(3, 4, 4), atol=1e-6)
    assert torch.allclose(module.validation[0], pool[30:] - mean, atol=1e-6)
    assert torch.allclose(module.test[0], test - mean, atol=1e-6)


def test_centring_every_set_by_its_own_mean(data):
    pool, test = (to_float(arrays_of()[f"{name}/images"]) for name in ("train", "test"))
    module = data(preprocess="center_each_set", n_train=12)
    assert torch.allclose(module.train[0], pool[:12] - pool.mean(0), atol=1e-6)  # of all 40
    assert torch.allclose(module.validation[0], pool[30:] - pool.mean(0), atol=1e-6)
    assert torch.allclose(module.test[0], test - test.mean(0), atol=1e-6)


def test_whitening_is_fitted_on_the_training_images_alone(data):
    arrays = arrays_of()
    pool, test = (
        global_contrast_normalize(to_float(arrays[f"{name}/images"])) for name in ("train", "test")
    )
    module = data(preprocess="gcn_zca")
    whiten = Whitening.fit(pool[:30])
    assert torch.allclose(module.train[0], whiten(pool[:30]), atol=1e-4)
    assert torch.allclose(module.validation[0], whiten(pool[30:]), atol=1e-4)
    assert torch.allclose(module.test[0], whiten(test), atol=1e-4)
    arrays["train/images"][30:] = 255 - arrays["train/images"][30:]
    arrays["test/images"] = 255 - arrays["test/images"]
    assert torch.equal(data(preprocess="gcn_zca", arrays=arrays).train[0], module.train[0])


def test_whitening_is_fitted_once_for_the_same_images(monkeypatch, data, tmp_path):
    fit, fitted = Whitening.fit, []

    def counted(images):
        fitted.append(len(images))
        return fit(images)

    monkeypatch.setattr(Whitening, "fit", staticmethod(counted))
    first = data(preprocess="gcn_zca")
    for seed in (3, 4):
        again = data(preprocess="gcn_zca", seed=seed)
        assert torch.equal(again.train[0], first.train[0])
        assert torch.equal(again.test[0], first.test[0])
    assert fitted == [30]
    data(preprocess="gcn_zca", n_train=20)
    data(preprocess="gcn_zca", arrays=arrays_of(seed=1))
    assert fitted == [30, 20, 30]
    files = sorted(p.name for p in (tmp_path / "whitening").iterdir() if p.suffix != ".lock")
    assert len(files) == 3
    assert all(name.startswith("cifar10-") and name.endswith(".safetensors") for name in files)


def test_setup_is_done_once_whatever_the_stage(data):
    module = data()
    train = module.train
    module.arrays = lambda: pytest.fail("read again")
    module.setup("fit")
    module.setup("test")
    assert module.train is train


def test_training_batches_are_full_and_in_the_order_of_seed_and_epoch(data):
    module = data()
    loader = module.train_dataloader()
    assert len(loader) == 3  # 30 images, 8 a batch, the last 6 left out
    first = seen(loader)
    assert len(set(first)) == 24
    assert set(first) <= {2 * i for i in range(30)}
    assert seen(data().train_dataloader()) == first
    assert seen(data(seed=4).train_dataloader()) != first
    torch.manual_seed(99)
    assert seen(loader) == first


def test_the_epoch_is_the_trainers_when_an_iteration_starts(data):
    module = data(stage=None)
    module.trainer = trainer_at(0)
    module.setup("fit")
    loader = module.train_dataloader()
    epochs = []
    for epoch in (0, 1, 2):
        module.trainer.fit_loop.epoch_progress.current.processed = epoch
        epochs.append(seen(loader))
    assert len({tuple(order) for order in epochs}) == 3
    resumed = data()
    resumed.trainer = trainer_at(2)
    assert seen(resumed.train_dataloader()) == epochs[2]
    assert seen(data().train_dataloader()) == epochs[0]


def test_evaluation_is_of_all_images_in_fixed_order(data):
    module = data(augment="pad_crop_flip")
    module.trainer = trainer_at(3)
    assert seen(module.val_dataloader()) == [2 * i for i in range(30, 40)]
    assert seen(module.test_dataloader()) == [2 * i + 1 for i in range(N_TEST)]
    assert [len(inputs) for inputs, _ in module.test_dataloader()] == [6, 6, 6, 2]


def test_only_training_images_are_augmented(data):
    plain, augmented = data(), data(augment="pad_crop_flip")
    one = torch.cat([inputs for inputs, _ in augmented.train_dataloader()])
    other = torch.cat([inputs for inputs, _ in plain.train_dataloader()])
    assert one.shape == other.shape
    assert not torch.equal(one, other)
    assert torch.equal(augmented.test[0], plain.test[0])
    assert torch.equal(augmented.train[0], plain.train[0])


@pytest.mark.parametrize(
    ("limit", "sizes"), [(None, [8, 8, 8]), (17, [8, 8]), (7, []), (99, [8] * 3)]
)
def test_inputs_for_training_statistics_are_in_fixed_order_and_not_augmented(data, limit, sizes):
    module = data(augment="pad_crop_flip")
    batches = list(module.training_inputs(limit))
    assert [len(batch) for batch in batches] == sizes
    read = [number for batch in batches for number in numbers(batch)]
    assert read == [2 * i for i in range(sum(sizes))]


def test_a_real_set_is_prepared_and_read(monkeypatch, tmp_path):
    small(monkeypatch, tmp_path / "mirror", "cifar100", train=12, test=5)
    sha = checksum(decode("cifar100", mirror=tmp_path / "mirror"))
    paths = DataPaths(tmp_path / "cache", tmp_path / "mirror")
    module = ImageData(
        seed=0, paths=paths, dataset="cifar100", checksum=sha, batch_size=4, n_validation=3
    )
    module.prepare_data()
    assert module.train is None
    module.setup("fit")
    assert [len(part[1]) for part in (module.train, module.validation, module.test)] == [9, 3, 5]
    assert module.train[0].shape == (9, 3, 32, 32)


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 6, 3)])
def test_generated_images_are_the_same_for_every_seed_and_need_no_data(tmp_path, shape):
    def make(seed: int) -> GeneratedImages:
        return GeneratedImages(
            seed=seed, paths=DataPaths(tmp_path / "none"), shape=shape, n_pool=60, n_validation=20
        )

    torch.manual_seed(1)
    state = torch.get_rng_state()
    module, other = make(0), make(1)
    module.prepare_data()
    module.setup("fit")
    other.setup("fit")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(module.train[0], other.train[0])
    assert module.train[0].shape == (40, shape[2], *shape[:2])
    assert module.validation[1].bincount().tolist() == [2] * 10
    assert module.test[0].shape[0] == 200
    assert 0 <= float(module.test[0].min()) < float(module.test[0].max()) <= 1
    assert not torch.equal(module.train[0][:20], module.validation[0])
    assert not (tmp_path / "none").exists()


def test_generated_images_can_be_told_apart(tmp_path):
    module = GeneratedImages(seed=0, paths=DataPaths(tmp_path))
    module.setup("fit")
    images, labels = module.train
    pictures = torch.stack([images[labels == label].mean(0) for label in range(10)])
    found = torch.cdist(module.test[0].flatten(1), pictures.flatten(1)).argmin(1)
    assert float((found == module.test[1]).float().mean()) > 0.99


def test_a_checksum_that_is_none_is_refused_before_anything_runs():
    with hydra_ready(), pytest.raises(UserError, match=r"data\.checksum: 'abc' is not valid"):
        compose(["experiment=binary_connect/mnist_reduced", "seed=0", "data.checksum=abc"])
