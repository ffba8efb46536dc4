"""Image sets read from files in the layout of the hub: decoded, put in order and checked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.data import image_sets
from retable.data.arrays import checksum
from retable.data.fetch import DataUnavailable
from retable.data.hub import _decoded, canonical_order, decode
from retable.util.errors import UserError
from support.images import columns, features, mirror, pictures, png, shard, shrink, small, write

BOTH = {"train": 12, "test": 5}
SINGLE = ["mnist", "fashion_mnist", "cifar10", "cifar100"]


def refused(name: str, root: Path | None) -> str:
    """What is said about a set that is there but is not the set."""
    with pytest.raises(UserError) as caught:
        decode(name, mirror=root)
    assert not isinstance(caught.value, DataUnavailable)
    return str(caught.value)


@pytest.fixture
def cifar(monkeypatch, tmp_path) -> Path:
    """Folder of a small CIFAR-10 in the mirror ``tmp_path``."""
    small(monkeypatch, tmp_path, "cifar10", **BOTH)
    return tmp_path / "uoft-cs" / "cifar10"


@pytest.mark.parametrize("name", SINGLE)
def test_a_set_of_the_hub_is_decoded_as_it_was_written(monkeypatch, tmp_path, name):
    content = small(monkeypatch, tmp_path, name, **BOTH)
    arrays = decode(name, mirror=tmp_path)
    assert sorted(arrays) == ["test/images", "test/labels", "train/images", "train/labels"]
    for split, (images, labels) in content.items():
        order = canonical_order(images, labels) if name != "mnist" else np.arange(len(labels))
        assert arrays[f"{split}/images"].dtype == np.uint8
        assert arrays[f"{split}/labels"].dtype == np.int64
        assert np.array_equal(arrays[f"{split}/images"], images[order])
        assert np.array_equal(arrays[f"{split}/labels"], labels[order])


@pytest.mark.parametrize("folder", ["", "data/"])
def test_files_without_a_card_are_found_by_their_names(monkeypatch, tmp_path, folder):
    shrink(monkeypatch, "mnist", BOTH)
    for split, size in BOTH.items():
        table = columns("mnist", pictures(size, (28, 28, 1)), [i % 10 for i in range(size)])
        write(tmp_path / "ylecun" / "mnist" / f"{folder}{split}.parquet", table)
    assert decode("mnist", mirror=tmp_path)["train/labels"].tolist() == [*range(10), 0, 1]


def test_shards_follow_one_another(monkeypatch, tmp_path):
    shrink(monkeypatch, "mnist", BOTH)
    tables = {
        split: columns("mnist", pictures(size, (28, 28, 1)), [i % 10 for i in range(size)])
        for split, size in BOTH.items()
    }
    mirror(tmp_path / "one", "mnist", tables)
    mirror(tmp_path / "more", "mnist", tables, shards=3)
    one, more = (decode("mnist", mirror=tmp_path / place) for place in ("one", "more"))
    assert checksum(one) == checksum(more)


def test_more_images_than_a_batch_holds(monkeypatch, tmp_path):
    monkeypatch.setattr("retable.data.hub._BATCH", 5)
    said: list[str] = []
    content = small(monkeypatch, tmp_path, "mnist", train=12, test=5)
    arrays = decode("mnist", mirror=tmp_path, say=said.append)
    assert np.array_equal(arrays["train/images"], content["train"][0])
    assert said[0] == f"data set mnist: decoding from {tmp_path / 'ylecun/mnist'}"
    assert [text.rpartition(": ")[2] for text in said[1:]] == [
        "5 of 12 images decoded",
        "10 of 12 images decoded",
        "12 of 12 images decoded",
        "5 of 5 images decoded",
    ]


@settings(deadline=None)
@given(order=st.permutations(range(8)))
def test_the_canonical_order_does_not_depend_on_the_order_of_the_source(order):
    images = pictures(8, (2, 2, 1))
    images[1] = images[0]  # an image twice with one label, twice with two
    images[3] = images[2]
    labels = np.array([4, 4, 1, 2, 0, 1, 2, 3])
    first = canonical_order(images, labels)
    moved_images, moved_labels = images[order], labels[order]
    second = canonical_order(moved_images, moved_labels)
    assert sorted(second.tolist()) == list(range(8))
    assert np.array_equal(images[first], moved_images[second])
    assert np.array_equal(labels[first], moved_labels[second])


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_of_two_sources_in_another_order_only_mnist_is_another_set(monkeypatch, tmp_path, name):
    shrink(monkeypatch, name, {"train": 6, "test": 3})
    images, labels = pictures(6, image_sets.SETS[name].shape), [3, 1, 4, 1, 5, 9]
    test = columns(name, images[:3], labels[:3])
    order = [5, 0, 3, 1, 4, 2]
    moved = columns(name, images[order], [labels[i] for i in order])
    mirror(tmp_path / "a", name, {"train": columns(name, images, labels), "test": test})
    mirror(tmp_path / "b", name, {"train": moved, "test": test})
    a, b = (decode(name, mirror=tmp_path / place) for place in "ab")
    assert (checksum(a) == checksum(b)) == (name == "cifar10")
    if name == "mnist":
        assert a["train/labels"].tolist() == labels
        assert np.array_equal(b["train/images"], images[order])


def test_a_checksum_is_of_names_types_shapes_pixels_and_labels():
    arrays = {"train/images": pictures(4, (2, 2, 1)), "train/labels": np.arange(4)}
    images, labels = arrays["train/images"], arrays["train/labels"]
    reference = checksum(arrays)
    assert len(reference) == 64
    assert checksum(dict(reversed(arrays.items()))) == reference
    assert checksum({**arrays, "train/images": np.asfortranarray(images)}) == reference
    pixel, label = images.copy(), labels.copy()
    pixel[3, 1, 1, 0] ^= 1
    label[0] = 3
    others = [
        {**arrays, "train/images": pixel},
        {**arrays, "train/labels": label},
        {**arrays, "train/labels": labels.astype(np.int32)},
        {**arrays, "train/labels": labels.view(np.uint64)},
        {**arrays, "train/images": images.reshape(4, 1, 4, 1)},
        {"test/images": images, "train/labels": labels},
        {**arrays, "test/labels": labels},
        {"train/images": images},
    ]
    assert len({reference, *map(checksum, others)}) == 1 + len(others)


@pytest.mark.parametrize("error", [ConnectionError("no route"), TimeoutError("timed out")])
def test_neither_network_nor_mirror_says_both_remedies(monkeypatch, tmp_path, error):
    import datasets

    asked = []

    def unreachable(source, *args, **kwargs):
        asked.append(source)
        raise error

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    for root in (None, tmp_path):  # without a mirror, and with one that lacks the set
        with pytest.raises(DataUnavailable) as caught:
            decode("cifar100", mirror=root)
        said = str(caught.value)
        place = f"not in {root}, which has no uoft-cs/cifar100," if root else "neither in a mirror"
        assert said.startswith(f"data set cifar100: {place} nor to be had from the hub")
        assert str(error) in said
        assert "set RETABLE_MIRROR to a folder that holds uoft-cs/cifar100" in said
        assert "run where there is a network" in said
    assert asked == ["uoft-cs/cifar100"] * 2


@pytest.mark.slow
def test_no_network_in_earnest(tmp_path):
    code = (
        "from retable.data.hub import decode\nfrom retable.data.fetch import DataUnavailable\n"
        "try:\n    decode('svhn', mirror=None)\n"
        "except DataUnavailable as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.count("\n") == 1, done.stderr
    assert "set RETABLE_MIRROR to a folder that holds ufldl-stanford/svhn" in done.stdout
    assert "run where there is a network" in done.stdout
    assert done.stderr == ""


def test_what_is_in_the_mirror_is_not_asked_from_the_hub(monkeypatch, cifar):
    shard(cifar, "cifar10").unlink()  # not whole, yet no reason to take another source
    said = refused("cifar10", cifar.parent.parent)
    assert said.startswith(f"{cifar}")


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_a_truncated_file_is_refused(cifar, tmp_path, keep):
    file = shard(cifar, "cifar10")
    content = file.read_bytes()
    file.write_bytes(content[: keep if keep > 1 else int(keep * len(content))])
    said = refused("cifar10", tmp_path)
    assert said.startswith(f"{cifar}: cannot be read as data set cifar10")
    assert said.endswith("is it truncated or another set?")


def test_a_file_of_something_else_is_refused(cifar, tmp_path):
    shard(cifar, "cifar10").write_bytes(b"<html>404</html>" * 100)
    assert f"{cifar}: cannot be read as data set cifar10" in refused("cifar10", tmp_path)


def table_of(change: str):
    """A test table of 5 images with something wrong, and its schema."""
    import datasets

    table = columns("cifar10", pictures(5), range(5))
    schema = features(table)
    match change:
        case "image column":
            table["image"], schema["image"] = table.pop("img"), schema.pop("img")
        case "label column":
            table["labels"], schema["labels"] = table.pop("label"), schema.pop("label")
        case "label type":
            schema["label"] = datasets.Value("int64")
        case "image type":
            table["img"], schema["img"] = ["x"] * 5, datasets.Value("string")
        case "classes":
            schema["label"] = datasets.ClassLabel(num_classes=100)
    return table, schema


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("image column", "has no column 'img'; did you mean 'image'?"),
        ("label column", "has no column 'label'; did you mean 'labels'?"),
        ("label type", "column 'label' is Value('int64'), expected ClassLabel"),
        ("image type", "column 'img' is Value('string'), expected Image"),
        ("classes", "has 100 labels, expected 10"),
    ],
)
def test_another_schema_is_refused(cifar, tmp_path, change, message):
    for split in BOTH:
        write(shard(cifar, "cifar10", split), *table_of(change))
    assert refused("cifar10", tmp_path) == f"{cifar}, split train: {message}"


@pytest.mark.parametrize(("size", "says"), [(4, "has 4 images, expected 5"), (6, "more than 5")])
def test_another_number_of_images_is_refused(cifar, tmp_path, size, says):
    write(shard(cifar, "cifar10"), columns("cifar10", pictures(size), range(size)))
    said = refused("cifar10", tmp_path)
    assert said.startswith(f"{cifar}, split test: ")
    assert says in said


def hollow_png() -> bytes:
    """A PNG whose head is right and whose pixels are cut off."""
    return png(pictures(1)[0])[:200]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (pictures(1, (28, 32, 3))[0], "image 3 is (28, 32, 3), expected (32, 32, 3)"),
        (pictures(1, (32, 32, 1))[0], "image 3 is (32, 32, 1), expected (32, 32, 3)"),
        (pictures(1, (32, 32, 4))[0], "image 3 is (32, 32, 4), expected (32, 32, 3)"),
        (b"no image", "image 3 is no image, expected (32, 32, 3)"),
        (b"", "image 3 is no image, expected (32, 32, 3)"),
        (None, "image 3 is no image, expected (32, 32, 3)"),
        (hollow_png(), "image 3 is no image, expected (32, 32, 3)"),
    ],
    ids=["small", "grey", "alpha", "text", "empty", "null", "cut"],
)
def test_an_image_that_is_none_of_the_set_is_refused(cifar, tmp_path, image, says):
    images = [*pictures(5)]
    images[3] = image
    write(shard(cifar, "cifar10"), columns("cifar10", images, range(5)))
    assert refused("cifar10", tmp_path) == f"{cifar}, split test: {says}"


@settings(max_examples=60, deadline=None)
@given(
    at=st.integers(12, 400),  # behind the length of the head
    value=st.integers(0, 255),
    cut=st.integers(0, 400),
)
def test_no_damage_to_an_image_is_more_than_no_image(at, value, cut):
    content = bytearray(png(pictures(1, (8, 8, 3))[0]))
    content[at % len(content)] = value
    found = _decoded(bytes(content[:cut]))
    assert found is None or found.ndim == 3


@pytest.mark.parametrize(("label", "shown"), [(10, "10"), (-1, "-1"), (None, "-")])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_a_label_that_there_is_not_is_refused(cifar, tmp_path, label, shown):
    write(shard(cifar, "cifar10"), columns("cifar10", pictures(5), [0, 1, label, 3, 4]))
    said = refused("cifar10", tmp_path)
    assert said.startswith(f"{cifar}, split test: image 2 has label {shown}")


def test_fine_labels_are_read_not_coarse_ones(monkeypatch, tmp_path):
    shrink(monkeypatch, "cifar100", {"train": 3, "test": 3})
    table = columns("cifar100", pictures(3), [97, 20, 41])
    assert table["coarse_label"] == [17, 0, 1]
    mirror(tmp_path, "cifar100", {"train": table, "test": table})
    assert sorted(decode("cifar100", mirror=tmp_path)["train/labels"].tolist()) == [20, 41, 97]


def test_svhn_of_one_folder_has_three_splits(monkeypatch, tmp_path):
    content = small(monkeypatch, tmp_path, "svhn", train=4, extra=6, test=3)
    # A card with one configuration: that of the hub has a second, of whole house numbers.
    arrays = decode("svhn", mirror=tmp_path)
    for split, (images, labels) in content.items():
        order = canonical_order(images, labels)
        assert np.array_equal(arrays[f"{split}/images"], images[order])
        assert np.array_equal(arrays[f"{split}/labels"], labels[order])


def test_a_set_of_other_classes_is_told_by_its_schema(monkeypatch, cifar, tmp_path):
    monkeypatch.setitem(image_sets.SETS, "cifar10", replace(image_sets.SETS["cifar10"], classes=7))
    assert refused("cifar10", tmp_path).endswith("split train: has 10 labels, expected 7")
