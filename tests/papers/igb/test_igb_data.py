"""Regression tasks, two digits in a picture, and what all sets of tasks have in common."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.data import optdigits
from retable.data.base import DataPaths
from retable.papers.igb.data_adult import GeneratedTasks
from retable.papers.igb.data_digits import MNIST_SHA256, MultiDigits, MultiMnist, overlaid
from retable.papers.igb.data_regression import HeteroscaledRegression, problem
from retable.util import paths
from retable.util.errors import UserError

MIRROR = os.environ.get("RETABLE_MIRROR")
FEW = {"n_train": 40, "n_validation": 12, "n_test": 9, "batch_size": 16}


def made(kind, seed=0, **options):
    data = kind(seed=seed, paths=DataPaths(Path("unused")), **{**FEW, **options})
    data.prepare_data()
    data.setup("fit")
    return data


def whole(batches):
    """All items of a loader in its order."""
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), {t: torch.cat([y[t] for y in targets]) for t in targets[0]}


def same(one, other):
    return torch.equal(one[0], other[0]) and all(
        torch.equal(one[1][t], other[1][t]) for t in one[1]
    )


class TestEverySet:
    kinds = pytest.mark.parametrize("kind", [HeteroscaledRegression, MultiDigits, GeneratedTasks])

    @kinds
    def test_a_batch_has_inputs_and_a_target_of_each_task(self, kind):
        data = made(kind)
        sizes = [[len(x) for x, _ in loader] for loader in loaders(data)]
        assert sizes == [[16, 16, 8], [12], [9]]
        assert [len(loader) for loader in loaders(data)] == [3, 1, 1]
        for loader in loaders(data):
            for x, targets in loader:
                assert x.dtype == torch.float32
                assert list(targets) == list(data.tasks)
                for task, kind_of_task in data.tasks.items():
                    y = targets[task]
                    assert y.shape == (len(x),)
                    if kind_of_task == "regression":
                        assert y.dtype == torch.float32
                    else:
                        assert y.dtype == torch.int64
                        assert 0 <= y.min() <= y.max() < int(kind_of_task.partition(":")[2])

    @kinds
    def test_one_seed_gives_the_same_twice_and_orders_each_epoch_anew(self, kind, monkeypatch):
        one, again, other = made(kind), made(kind), made(kind, seed=1)
        for a, b in zip(loaders(one), loaders(again), strict=True):
            assert same(whole(a), whole(b))
        assert not same(whole(one.train_dataloader()), whole(other.train_dataloader()))
        first = whole(one.train_dataloader())
        monkeypatch.setattr(one, "_epoch", lambda: 1)
        second = whole(one.train_dataloader())
        assert not torch.equal(first[0], second[0])
        x, *targets = one.train
        stored = sorted(items(one.as_inputs(x), targets))
        assert sorted(items(first[0], first[1].values())) == stored
        assert sorted(items(second[0], second[1].values())) == stored

    @kinds
    def test_chosen_tasks_leave_inputs_and_their_targets_as_they_are(self, kind):
        every = made(kind)
        last, first = list(every.tasks)[-1], next(iter(every.tasks))
        some = made(kind, tasks=[last, first])
        assert list(some.tasks.items()) == [(t, every.tasks[t]) for t in (last, first)]
        assert some.scales == {t: every.scales[t] for t in (last, first)}
        for a, b in zip(loaders(every), loaders(some), strict=True):
            (x, y), (few_x, few_y) = whole(a), whole(b)
            assert torch.equal(x, few_x)
            assert list(few_y) == [last, first]
            assert all(torch.equal(few_y[t], y[t]) for t in few_y)

    @kinds
    def test_scales_are_deviations_of_training_targets_and_1_for_classes(self, kind):
        data = made(kind)
        for (task, scale), targets in zip(data.scales.items(), data.train[1:], strict=True):
            numbers = data.tasks[task] == "regression"
            wanted = float(targets.numpy().std()) if numbers else 1.0
            assert scale == pytest.approx(wanted, rel=1e-5)

    @kinds
    def test_a_task_that_is_not_there_is_refused(self, kind):
        with pytest.raises(UserError, match=r"data\.tasks: there is no task 'lefd'; "):
            made(kind, tasks=["lefd"])


def items(x, targets):
    """Items as lists of numbers, inputs first."""
    return torch.cat([x.flatten(1), *(y[:, None].float() for y in targets)], 1).tolist()


def loaders(data):
    return data.train_dataloader(), data.val_dataloader(), data.test_dataloader()


class TestRegression:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 5), st.floats(1, 1e4))
    def test_directions_have_length_one_and_scales_are_in_range(self, n, dim, seed, largest):
        directions, scales = problem(n, dim, largest, seed)
        assert torch.allclose(directions.norm(dim=1), torch.ones(n), atol=1e-6)
        assert ((scales > 1 - 1e-6) & (scales < largest * (1 + 1e-6))).all()
        again = problem(n, dim, 1.0, seed)
        assert torch.equal(again[0], directions)
        assert (again[1] == 1).all()

    def test_scales_are_log_uniform(self):
        scales = problem(20_000, 1, 100.0, 0)[1]
        share = torch.stack([(scales < 100**q).float().mean() for q in (0.25, 0.5, 0.75)])
        assert torch.allclose(share, torch.tensor([0.25, 0.5, 0.75]), atol=0.015)

    def test_tasks_are_as_alike_as_their_deviations_say(self):
        """The cosine of two is near 10² / (10² + 3.5²) = 0.891, in many dimensions."""
        directions = problem(8, 20_000, 1.0, 0)[0]
        cosines = (directions @ directions.T)[~torch.eye(8, dtype=torch.bool)]
        assert torch.allclose(cosines, torch.tensor(100 / 112.25), atol=0.01)

    def test_targets_are_scale_times_tanh_of_unit_deviation(self):
        data = made(HeteroscaledRegression, n_train=20_000, n_tasks=4, dim=40)
        x, *targets = data.train
        assert list(data.tasks) == ["t0", "t1", "t2", "t3"]
        for i, (y, scale) in enumerate(zip(targets, data.units.tolist(), strict=True)):
            before = torch.atanh((y / scale).double().clamp(-1 + 1e-7, 1 - 1e-7))
            assert before.std().item() == pytest.approx(1, abs=0.02)
            assert before.mean().item() == pytest.approx(0, abs=0.03)
            assert 0.95 < y.abs().max() / scale <= 1 + 1e-6
            wanted = scale * torch.tanh((x * data.directions[i]).sum(1))
            assert torch.allclose(y, wanted, rtol=1e-4, atol=1e-4)

    def test_the_problem_is_the_same_for_all_seeds_and_items_are_not(self):
        one, other = made(HeteroscaledRegression), made(HeteroscaledRegression, seed=7)
        assert torch.equal(one.directions, other.directions)
        assert torch.equal(one.units, other.units)
        for a, b in zip(loaders(one), loaders(other), strict=True):
            assert (whole(a)[0].sort(0).values != whole(b)[0].sort(0).values).float().mean() > 0.9
        hard = made(HeteroscaledRegression, problem_seed=1)
        assert torch.equal(hard.train[0], one.train[0])
        assert not torch.equal(hard.train[1], one.train[1])
        assert not torch.equal(hard.units, one.units)

    def test_noise_is_added_to_training_targets_alone_and_in_their_units(self):
        options = {"n_train": 20_000, "n_tasks": 3, "dim": 5}
        clean = made(HeteroscaledRegression, **options)
        noisy = made(HeteroscaledRegression, noise=0.3, **options)
        assert torch.equal(clean.train[0], noisy.train[0])
        noise = torch.stack(noisy.train[1:]) - torch.stack(clean.train[1:])
        assert torch.allclose(noise.std(1) / clean.units, torch.tensor(0.3), atol=0.01)
        assert torch.equal(clean.validation[1], noisy.validation[1])
        assert torch.equal(clean.test[1], noisy.test[1])

    def test_no_item_is_in_two_splits_and_more_of_one_change_no_other(self):
        one, more = made(HeteroscaledRegression), made(HeteroscaledRegression, n_train=50)
        rows = torch.cat([one.train[0], one.validation[0], one.test[0]])
        assert len(torch.unique(rows, dim=0)) == 40 + 12 + 9
        assert torch.equal(one.validation[0], more.validation[0])
        assert torch.equal(one.test[1], more.test[1])


class TestOverlaid:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 6), st.integers(0, 99))
    def test_pixel_by_pixel(self, height, width, shift, seed):
        generator = torch.Generator().manual_seed(seed)
        left, right = torch.randint(0, 256, (2, 3, height, width), generator=generator).byte()
        canvas = overlaid(left, right, shift)
        assert canvas.dtype == torch.uint8
        assert canvas.shape == (3, height + shift, width + shift)
        for n in range(3):
            for i in range(height + shift):
                for j in range(width + shift):
                    a = int(left[n, i, j]) if i < height and j < width else 0
                    inside = i >= shift and j >= shift
                    b = int(right[n, i - shift, j - shift]) if inside else 0
                    assert canvas[n, i, j] == max(a, b)

    def test_the_images_themselves_stay_as_they_are(self):
        left, right = torch.full((1, 2, 2), 3).byte(), torch.full((1, 2, 2), 9).byte()
        canvas = overlaid(left, right, 1)
        assert canvas.tolist() == [[[3, 3, 0], [3, 9, 9], [0, 9, 9]]]
        assert (left == 3).all()


class TestMultiDigits:
    def test_corners_show_the_digits_of_the_labels(self):
        """Two rows and columns of each digit are free of the other; they say which image it is."""
        data = made(MultiDigits, n_train=200)
        arrays = optdigits.arrays()
        images, labels = arrays["train/images"][..., 0], arrays["train/labels"]
        pairs = data.pairs(len(images))[0]
        x, left, right, total = data.train
        assert x.shape == (200, 1, 12, 12)
        for k, (a, b) in enumerate(pairs.tolist()):
            assert torch.equal(x[k, 0, :4, :8], images[a, :4])
            assert torch.equal(x[k, 0, 8:, 4:], images[b, 4:])
            assert not x[k, 0, :4, 8:].any()
            assert not x[k, 0, 8:, :4].any()
            assert (left[k], right[k]) == (labels[a], labels[b])
            assert total[k].item() == pytest.approx((labels[a] + labels[b]).item() / 18)
        assert torch.bincount(left).min() > 5
        assert torch.bincount(right).min() > 5

    def test_sums_alone_grow_with_the_largest(self):
        one, other = made(MultiDigits), made(MultiDigits, largest_sum=200)
        for before, after in zip((one.train, one.test), (other.train, other.test), strict=True):
            assert torch.equal(before[0], after[0])
            assert torch.equal(before[1], after[1])
            torch.testing.assert_close(200 * before[3], after[3])
            assert 100 < after[3].max() <= 200

    def test_inputs_are_bytes_over_255(self):
        data = made(MultiDigits)
        assert data.test[0].dtype == torch.uint8
        assert torch.equal(whole(data.test_dataloader())[0], data.test[0].float() / 255)
        assert whole(data.train_dataloader())[0].max() == 1

    @pytest.mark.parametrize("seed", [0, 1])
    def test_no_image_is_in_pairs_of_training_and_of_validation(self, seed):
        data = made(MultiDigits, seed, n_train=20_000, n_validation=5_000)
        train, validation = (set(pairs.flatten().tolist()) for pairs in data.pairs(1437))
        assert not train & validation
        assert train | validation == set(range(1437))
        assert len(validation) == 1437 // 5

    def test_test_pairs_are_of_test_images_and_the_same_for_every_seed(self):
        one, other = made(MultiDigits, n_test=300), made(MultiDigits, seed=1, n_test=300)
        assert all(torch.equal(a, b) for a, b in zip(one.test, other.test, strict=True))
        assert not torch.equal(one.validation[0], other.validation[0])
        top = {tuple(i.flatten().tolist()) for i in optdigits.arrays()["test/images"][:, :4]}
        assert all(tuple(i.flatten().tolist()) in top for i in one.test[0][:, 0, :4, :8])
        known = {tuple(i.flatten().tolist()) for i in optdigits.arrays()["train/images"][:, :4]}
        assert not all(tuple(i.flatten().tolist()) in known for i in one.test[0][:, 0, :4, :8])


@pytest.fixture
def mnist(cached_once, monkeypatch):
    """MNIST as every test that decodes it shares it."""
    if MIRROR is None or not (Path(MIRROR) / "ylecun/mnist").is_dir():
        pytest.skip("needs the real data: set RETABLE_MIRROR")
    return DataPaths(paths.cache_folder(), Path(MIRROR))


@pytest.mark.slow
def test_the_real_mnist_on_its_canvas(mnist):
    data = MultiMnist(seed=0, paths=mnist, n_train=60, n_validation=20, n_test=30)
    data.prepare_data()
    data.setup("fit")
    x, targets = whole(data.train_dataloader())
    assert x.shape == (60, 1, 36, 36)
    assert x.max() == 1
    assert not x[:, :, :8, 28:].any()
    assert not x[:, :, 28:, :8].any()
    assert torch.equal(targets["sum"], (targets["left"] + targets["right"]).float() / 18)
    images = data.arrays()["train/images"][..., 0]
    train, validation = data.pairs(len(images))
    assert not set(train.flatten().tolist()) & set(validation.flatten().tolist())
    assert torch.equal(data.train[0][:, 0, :8, :28], images[train[:, 0], :8])
    assert torch.equal(data.train[0][:, 0, 28:, 8:], images[train[:, 1], 20:])


def test_mnist_is_that_of_the_config():
    config = yaml.safe_load((paths.project_root() / "conf/data/mnist.yaml").read_text())
    assert config["checksum"] == MNIST_SHA256
