"""Which of ImageNet's files are in which split, and a step on such folders through the command."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from retable.config.compose import compose, hydra_ready
from retable.papers.weight_balancing.imagenet import ImageNetLT, MiniImageNetLT, listed
from retable.papers.weight_balancing.long_tail import groups
from retable.tables import spec
from retable.tables.grid import plan
from retable.util.errors import UserError
from support.jpegs import folder, write_classes, write_imagenet_lt


def composed(name):
    with hydra_ready():
        return compose([f"experiment=weight_balancing/{name}", "seed=0"])


@pytest.fixture
def nowhere_decoded(tmp_path):
    """Folders of the true number of files, all of them empty."""
    classes = composed("mini_imagenet_lt").data["selection"]["classes"]
    for name in classes:
        (tmp_path / name).mkdir()
        for i in range(701):
            (tmp_path / name / f"{name}_{i}.JPEG").touch()
    return tmp_path, classes


def test_mini_imagenet_lt_has_the_paper_s_counts_and_no_image_twice(nowhere_decoded):
    root, classes = nowhere_decoded
    found = MiniImageNetLT(classes)(root)
    n = [Counter(label for _, label in found[split]) for split in ("train", "validation", "test")]
    train = [n[0][k] for k in range(100)]
    assert (sum(train), train[0], train[99]) == (10_847, 500, 5)
    assert [len(group) for group in groups(train)] == [35, 35, 30]
    assert [set(part.values()) for part in n[1:]] == [{100}, {100}]
    paths = [path for items in found.values() for path, _ in items]
    assert len(set(paths)) == len(paths) == 10_847 + 20_000
    for items in found.values():
        assert all(path.startswith(f"{sorted(classes)[label]}/") for path, label in items)
    # The order of what is given changes nothing, and the tail is taken of the same 500.
    assert MiniImageNetLT(classes[::-1])(root) == found
    balanced = MiniImageNetLT(classes, imbalance=1.0)(root)
    assert Counter(label for _, label in balanced["train"]) == dict.fromkeys(range(100), 500)
    assert set(found["train"]) < set(balanced["train"])
    assert balanced["test"] == found["test"]


def test_a_class_with_too_few_images_is_named(tmp_path):
    write_classes(tmp_path, ["n01"], 3)
    with pytest.raises(UserError, match=r"n01: has 3 images, 4 are needed"):
        MiniImageNetLT(["n01", "n02"], largest=2, n_validation=1, n_test=1)(tmp_path)


def test_lists_of_imagenet_lt_are_read_as_they_are(tmp_path):
    write_imagenet_lt(tmp_path, 1000, n=2)
    found = ImageNetLT()(tmp_path)
    assert found["train"][0] == ("train/n00000000/train_0.JPEG", 0)
    assert found["validation"][-1] == ("train/n00000999/val_1.JPEG", 999)
    assert found["test"][2] == ("val/n00000500/test_0.JPEG", 500)
    assert {split: len(items) for split, items in found.items()} == {
        "train": 6,
        "validation": 6,
        "test": 6,
    }


@pytest.mark.parametrize("line", ["train/a.JPEG", "train/a.JPEG x", "../a.JPEG 1", "/a.JPEG 1"])
def test_a_line_that_is_none_is_named(tmp_path, line):
    file = tmp_path / "ImageNet_LT_train.txt"
    file.write_text(f"train/b.JPEG 0\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"ImageNet_LT_train\.txt, line 2: has to be a path below"):
        listed(file)
    with pytest.raises(UserError, match=r"other\.txt: is not there"):
        listed(tmp_path / "other.txt")


def test_the_experiments_are_the_dossier_s():
    full, mini = composed("imagenet_lt"), composed("mini_imagenet_lt")
    nets = [config.model["net"] for config in (full, mini)]
    assert [net["name"] for net in nets] == ["resnext50_32x4d", "resnet34"]
    assert [net["n_classes"] for net in nets] == [1000, 100]
    assert [config.data["jitter"] for config in (full, mini)] == [0.4, 0.0]
    assert {len(config.model["limits"]) for config in (full, mini)} == {2}
    assert len(set(mini.data["selection"]["classes"])) == 100


def test_the_table_says_the_one_claim():
    table, grid = spec.load("weight_balancing/imagenet"), plan("weight_balancing/imagenet", "paper")
    assert [(c.id, c.grade) for c in table.claims] == [("C8", "secondhand")]
    models = {row: grid.cells[row, "all"].setting.config.model for row in ("wd_etf", "wd_fr_etf")}
    assert {row: m["feature_decay"] for row, m in models.items()} == {
        "wd_etf": 0.0,
        "wd_fr_etf": 0.01,
    }
    assert {m["classifier"] for m in models.values()} == {"etf"}


def test_a_run_on_folders_through_the_command(retable, tmp_path, monkeypatch):
    """More classes than a record has room for: their numbers are in the artefacts."""
    mirror = tmp_path / "mirror"
    write_imagenet_lt(mirror / "imagenet", 1000, n=2)
    monkeypatch.setenv("RETABLE_MIRROR", str(mirror))
    run = ["train", "experiment=weight_balancing/imagenet_lt", "seed=0", "trainer.max_epochs=1"]
    small = ["data.size=16", "data.batch_size=4", "data.num_workers=0", "model.net.name=resnet18"]
    told = retable(*run, *small, check=False)
    assert told.returncode != 0
    known = folder(mirror, ImageNetLT(), name="imagenet").identity()
    assert f"has {known}" in told.stdout + told.stderr
    done = retable(*run, *small, f"data.checksum={known}")
    assert "test/accuracy" in done.stdout
    record = json.loads(next((tmp_path / "runs").rglob("record.json")).read_text())
    assert not {"weights/norm", "test/of_class"} & {r["metric"] for r in record["results"]}
