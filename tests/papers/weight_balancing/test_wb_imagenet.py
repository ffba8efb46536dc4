"""Which of ImageNet's files are in which split, and a step on such folders through the command."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.rehearsal.rehearse import Setting, rehearse
from retable.papers.weight_balancing.imagenet import ImageNetLT, MiniImageNetLT, listed
from retable.papers.weight_balancing.long_tail import counts, groups
from retable.tables import spec
from retable.tables.grid import plan
from retable.util.errors import UserError
from support.jpegs import folder, write_classes, write_imagenet_lt
from support.runs import freeze
from support.training import attempt, config, stopped, substance


def composed(name):
    with hydra_ready():
        return compose([f"experiment=weight_balancing/{name}", "seed=0"])


def test_mini_imagenet_lt_has_the_paper_s_counts():
    made = MiniImageNetLT([f"n{k:08d}" for k in range(100)])
    assert (made.largest, made.n_validation, made.n_test) == (500, 100, 100)
    n = made.in_training()
    assert (made.n_train, sum(n), n[0], n[99]) == (10_847, 10_847, 500, 5)
    assert [len(group) for group in groups(n)] == [35, 35, 30]


def test_no_image_is_in_two_splits(tmp_path):
    """On 100 folders of 20 + 2 + 2 images and one that is not used; nothing is decoded."""
    classes = composed("mini_imagenet_lt").data["selection"]["classes"]
    for name in classes:
        (tmp_path / name).mkdir()
        for i in range(25):
            (tmp_path / name / f"{name}_{i}.JPEG").touch()
    options = {"largest": 20, "n_validation": 2, "n_test": 2}
    made = MiniImageNetLT(classes, imbalance=0.1, **options)
    found = made(tmp_path)
    n = [Counter(label for _, label in found[split]) for split in ("train", "validation", "test")]
    assert [n[0][k] for k in range(100)] == counts(20, 100, 0.1, "down")
    assert [set(part.values()) for part in n[1:]] == [{2}, {2}]
    paths = [path for items in found.values() for path, _ in items]
    assert len(set(paths)) == len(paths)
    for items in found.values():
        assert all(path.startswith(f"{sorted(classes)[label]}/") for path, label in items)
    # The order of what is given changes nothing, and any tail is taken of the same images.
    assert MiniImageNetLT(classes[::-1], imbalance=0.1, **options)(tmp_path) == found
    balanced = MiniImageNetLT(classes, imbalance=1.0, **options)(tmp_path)
    assert len(balanced["train"]) == 2000
    assert set(found["train"]) < set(balanced["train"])
    assert [balanced[part] == found[part] for part in ("validation", "test")] == [True, True]


def test_a_class_with_too_few_images_is_named(tmp_path):
    write_classes(tmp_path, ["n01"], 3)
    with pytest.raises(UserError, match=r"n01: has 3 images, 4 are needed"):
        MiniImageNetLT(["n01", "n02"], largest=2, n_validation=1, n_test=1)(tmp_path)


def test_lists_of_imagenet_lt_are_read_as_they_are(tmp_path):
    write_imagenet_lt(tmp_path, 3, n=2)
    found = ImageNetLT()(tmp_path)
    assert found["train"][0] == ("train/n00000000/train_0.JPEG", 0)
    assert found["validation"][-1] == ("train/n00000002/val_1.JPEG", 2)
    assert found["test"][2] == ("val/n00000001/test_0.JPEG", 1)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [6, 6, 6]


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


def test_a_rehearsal_counts_the_step_without_the_images(tmp_path):
    small = ["data.size=32", "data.batch_size=2", "model.net.name=resnet18"]
    run = freeze(*small, f"paths.mirror={tmp_path}", experiment="weight_balancing/imagenet_lt")
    setting = Setting(run.key, run.label, run.config.model_dump(mode="json"))
    [(_, found)] = rehearse([setting])
    assert found.status == "done", found.reason
    assert found.parameters == 11_689_512  # of ResNet-18 with a thousand classes, as torchvision
    assert found.steps == 320 * 57_923
    assert found.flops > 0
    assert found.reason == "its data is not here, for a small step and a test"


@pytest.mark.slow
def test_stopped_and_decoded_by_workers_it_is_the_same_run(tmp_path):
    """A run in one piece without workers, and one of an epoch at a time with two of them."""
    write_imagenet_lt(tmp_path / "imagenet", 5, n=4)
    known = folder(tmp_path, ImageNetLT(), name="imagenet").identity()
    small = [f"paths.mirror={tmp_path}", f"data.checksum={known}", "data.size=32"]
    net = ["model.net.name=resnet18", "model.net.n_classes=5", "data.batch_size=10"]
    run = [*small, *net, "trainer.max_epochs=2", "device.accelerator=cpu"]
    whole, many = (
        config(*run, f"data.num_workers={n}", experiment="weight_balancing/imagenet_lt")
        for n in (0, 2)
    )
    once, _, _ = attempt(whole, tmp_path / "once")
    folders = stopped(many, tmp_path / "parts", [1])
    resumed, _, _ = attempt(many, tmp_path / "parts" / "last", previous=folders)
    assert substance(resumed) == substance(once)


@pytest.mark.slow
def test_a_run_on_folders_through_the_command(retable, tmp_path, monkeypatch):
    """Of a hundred classes, which are more than a record has room for."""
    mirror = tmp_path / "mirror"
    write_imagenet_lt(mirror / "imagenet", 100)
    monkeypatch.setenv("RETABLE_MIRROR", str(mirror))
    known = folder(mirror, ImageNetLT(), name="imagenet").identity()
    small = ["data.size=32", "data.batch_size=50", "data.num_workers=0"]
    net = ["model.net.name=resnet18", "model.net.n_classes=100"]
    run = ["experiment=weight_balancing/imagenet_lt", "seed=0", "trainer.max_epochs=1"]
    done = retable("train", *run, *small, *net, f"data.checksum={known}")
    assert "test/accuracy" in done.stdout
    record = json.loads(next((tmp_path / "runs").rglob("record.json")).read_text())
    metrics = {result["metric"] for result in record["results"]}
    assert {"test/accuracy", "test/few", "weights/few"} <= metrics
    assert not {"weights/norm", "test/of_class"} & metrics
