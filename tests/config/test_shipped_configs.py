"""Every shipped experiment is run for a step of every stage, on generated data.

Those of protocol smoke are run whole, and more than once: tests/papers/test_contract.py.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from PIL import Image

from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.data.arrays import checksum
from retable.data.base import DataPaths
from retable.data.image_cache import cache_file, write_tensors
from retable.data.image_sets import SETS
from retable.launch.dispatch import launch
from retable.runs import records
from retable.runs.frozen import freeze
from retable.util import paths
from support import bias_texts
from support.equilibrium import write_imagenet32
from support.in_turn import PAPERS
from support.own_data import own_data
from support.texts import text_data

ROOT = Path(__file__).parents[2]
OWN = sorted(
    p.relative_to(ROOT / "conf" / "experiment").with_suffix("").as_posix()
    for p in (ROOT / "conf" / "experiment").rglob("*.yaml")
)
TABLES = sorted(
    p.relative_to(ROOT / "conf" / "table").with_suffix("").as_posix()
    for p in (ROOT / "conf" / "table").rglob("*.yaml")
)
ONE_STEP = ["trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.max_epochs=1"]


def write_prices(folder: Path, n_assets: int = 10, days: int = 60) -> str:
    """Index levels in the layout of the real file; returns the checksum."""
    rng = np.random.default_rng(0)
    levels = np.exp(np.cumsum(0.01 * rng.standard_normal((days, n_assets)), axis=0))
    lines = [";" + ";".join(f"ASSET {i}" for i in range(n_assets))]
    lines += [
        f"{1 + day % 28:02d}/01/2000;" + ";".join(f"{x:.9g}" for x in row)
        for day, row in enumerate(levels)
    ]
    file = folder / "pyrb" / "data.csv"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_images(cache: Path, name: str) -> str:
    """A cached image set with few images, two of every class at least; returns its checksum."""
    rng = np.random.default_rng(0)
    wanted, arrays = SETS[name], {}
    n = max(60, 10 * wanted.classes)  # VTAB takes a thousand of CIFAR-100
    for split in wanted.sizes:
        arrays[f"{split}/images"] = rng.integers(256, size=(n, *wanted.shape), dtype=np.uint8)
        arrays[f"{split}/labels"] = np.arange(n) % wanted.classes
    file = cache_file(name, checksum(arrays), cache)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, arrays)
    return checksum(arrays)


def write_tiny_imagenet(root: Path) -> None:
    """The folder with a few images of one class."""
    for split, n in (("train/n01", 60), ("val", 20)):
        images = root / split / "images"
        images.mkdir(parents=True)
        for k in range(n):
            Image.new("RGB", (64, 64), (k, 2 * k, 4 * k)).save(images / f"{split[:3]}_{k}.JPEG")
    (root / "val" / "val_annotations.txt").write_text(
        "".join(f"val_{k}.JPEG\tn01\n" for k in range(20))
    )


SPLIT_QM9 = {"n_molecules": 60, "n_train": 20, "n_validation": 20, "n_test": 20}


def narrow(config) -> list[str]:
    """Of networks for images few channels, as many layers: sorting and steps go by weights."""
    net = config.model.get("net", {})
    found = ["model.net.width=8"] if "n_convolutions" in net else []
    if net.get("_target_", "").endswith(".EluResNet"):
        found.append("model.net.width=4")
    if config.paper == "weight_decay" and "depth" in net:
        found.append("++model.net.width=8")
    if "attack" in config.model:  # a test is a hundred passes
        found += ["+model.net.width=8", "data.eval_batch_size=20"]
    for name, n in {"channels": 8, "widths": 16}.items():
        if config.model.get("network") == "cnn" and name in config.model:
            found.append(f"model.{name}=[{','.join([str(n)] * len(config.model[name]))}]")
    return found


def few_steps(config) -> list[str]:
    """Of what goes to a fixed point, and few channels where it goes by convolutions."""
    few = {"free_steps": 3, "nudged_steps": 8}
    found = [f"model.{name}={n}" for name, n in few.items() if name in config.model]
    if found and "rate_factors" in config.model.get("net", {}):
        few_images = ["data.eval_batch_size=20", "model.n_cosines=8", "model.draws=1"]
        found += ["+model.net.channels=[4,4,4,4]", *few_images]
    return found


def whole_shares(config) -> list[str]:
    """Snapshots of a single epoch, which has no drop, in single precision, and little else."""
    if config.paper != "weight_decay":
        return []
    few = ["model.probes=1"] if "probes" in config.model else []
    few += ["model.hessian_images=2"] if config.model.get("hessian_images") else []
    child = ["model.snapshot=1.0"] if config.model.get("snapshot") else []
    half = str(config.trainer.precision).startswith("16")
    single = ["trainer.precision=32-true"] if half else []
    level = ["model.scheduler=null"] if config.model.get("scheduler") else []
    return ["++model.snapshots=[100]", *single, *few, *child, *level]


def stood_in(config) -> list[str]:
    """Generated sets for those of multi-task learning that cannot be here, and small networks."""
    small = {
        "data_qm9.Qm9": (
            ["data._target_=retable.papers.igb.data_qm9.GeneratedMolecules"]
            + [f"++data.{name}={n}" for name, n in SPLIT_QM9.items()]
            + ["++model.network.width=4", "++model.network.edge_width=4"]
        ),
        "data_nyuv2.Nyuv2": [
            "data._target_=retable.papers.igb.data_nyuv2.GeneratedScenes",
            "data.num_workers=0",
            "++model.network.filters=[4,8]",
        ],
        "data_adult.AdultTasks": ["data._target_=retable.papers.igb.data_adult.GeneratedTasks"],
        "data_digits.MultiMnist": [
            "data._target_=retable.papers.igb.data_digits.MultiDigits",
            "model.network.size=12",
            "model.network.kernel=3",
            "model.network.padding=1",
        ],
    }
    if config.model["_target_"].endswith(".StepTimes"):
        return ["++model.rounds=1", "++model.block=1"]
    return small.get(config.data["_target_"].removeprefix("retable.papers.igb."), [])


def tuned(config) -> list[str]:
    """A small network, and every set of its blocks in no time."""
    few = {"epochs": 1, "folds": 2, "budgets": "[10,5,5]", "n_pool": 20, "steps": 2, "target": 64}
    few |= {"rounds": 1, "warm_up": 1}
    few |= {"n_pool": 80} if config.data["_target_"].endswith("ImageData") else {}
    few |= {"network": "vit_tiny" if "vit" in config.model["network"] else "resnet8"}
    found = [f"model.{k}={v}" for k, v in few.items() if k in config.model]
    vtab = config.data["_target_"].endswith("Vtab") and "vit" not in config.model["network"]
    size = 16 if vtab else 32
    if config.model.get("size"):
        found.append(f"model.size={size}")
    if "size" in str(config.data.get("augment")):
        found.append(f"data.augment.size={size}")
    if config.model.get("blocks") == [7]:
        found.append("model.blocks=[2]")
    if config.data["_target_"].endswith("ImageData"):  # a search's batches are those of its data
        found.append(f"data.batch_size={config.data['batch_size']}")
    if "sets" in config.model:
        found += ["trainer.max_epochs=8", "trainer.limit_train_batches=1"]
    if "budgets" in config.model:
        found.append("trainer.max_epochs=3")
    if "16" in str(config.trainer.precision):
        found.append("trainer.precision=32-true")
    return found


def whitened_or_centred(config) -> list[str]:
    """Whitening takes a while; tests/data/test_modules.py does it."""
    whitened = "zca" in str(config.data.get("preprocess"))
    return ["data.preprocess=center_train"] if whitened else []


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """A mirror and a cache of generated data; gives the overrides that make a config read it."""
    mirror, cache = tmp_path / "mirror", tmp_path / "cache"
    sha256 = write_prices(mirror)
    images = {name: write_images(cache, name) for name in SETS}
    monkeypatch.setenv("RETABLE_MIRROR", str(mirror))
    monkeypatch.setenv("RETABLE_CACHE", str(cache))

    def overrides(config) -> list[str]:
        if "vocabulary_file" in config.data:
            if not (mirror / "google-bert").is_dir():
                bias_texts.write_all(mirror, monkeypatch)
            return bias_texts.reading(config, mirror)
        match config.data["_target_"].rpartition(".")[2]:
            case "Prices":
                return [f"data.sha256={sha256}"]
            case "Simulated":
                # One step is a whole run there: few units and a small learner.
                learner = config.model["learner"]
                small = {"n_candidates": 2, "trees": "[1,3]", "max_epochs": 2, "steps": 2}
                small |= {"n_folds": 2, "burn_in": 2}
                fewer = [f"model.learner.{k}={v}" for k, v in small.items() if k in learner]
                return ["data.n=60", "data.n_test=50", "model.folds=2", *fewer]
            case "Adult" | "Compas":
                return [
                    "data._target_=retable.papers.superhuman_fairness.data.Generated",
                    "+data.n=1500",
                    "model.in_features=8",
                    "model.n_references=4",
                ]
            case "UpdatesOnFiles" if config.model["reward"] in {"proxy", "seh"}:
                made_up = {"proxy": "motifs", "seh": "toy"}[config.model["reward"]]
                other = "best=8" if made_up == "motifs" else "test_molecules=20"
                few = ["model.test_samples=16", f"model.{other}", "model.width=16"]
                return [f"model.reward={made_up}", "data.files=[]", "data.checksums=[]", *few]
            case "UpdatesOnFiles":
                return ["model.test_samples=16", "model.test_molecules=20", "model.width=16"]
            case "Updates" if "modes" in config.model:
                # What is short has its whole distribution computed, of 2^n strings.
                short = ["model.n=8"] if config.model["n"] <= 16 else []
                return ["model.test_samples=16", "model.modes=4", *short]
            case "ImageFolder" | "Helena" | "BenchmarkImages":
                return own_data(config, mirror)
            case "OpenWebText" | "CharacterText":
                return text_data(config, mirror, cache)
            case "ImageData":
                return [
                    f"data.checksum={images[config.data['dataset']]}",
                    *whitened_or_centred(config),
                    *narrow(config),
                    "data.n_validation=20",
                    "data.split=last",
                    "data.batch_size=20",
                    *(["data.n_train=20"] if "n_train" in config.data else []),
                ]
            case "ImageNet32":
                if not (mirror / "imagenet32").is_dir():
                    write_imagenet32(mirror / "imagenet32")
                part = instantiate(config.data | {"checksum": None, "_partial_": True})
                known = part(seed=0, paths=DataPaths(cache, mirror)).identity()
                return [f"data.checksum={known}", "data.batch_size=8"]
            case "TinyImageNet":
                write_tiny_imagenet(mirror / "tiny-imagenet-200")
                part = instantiate(config.data | {"checksum": None, "_partial_": True})
                known = part(seed=0, paths=DataPaths(cache, mirror)).files.identity()
                few = [f"data.{k}=20" for k in ("n_validation", "batch_size", "eval_batch_size")]
                # 8 channels of 64 x 64, channels last as augmented ones are: torch 2.15 faults.
                return [f"data.checksum={known}", *few, "+model.net.width=16"]
            case "CorruptedImages" | "CoarseImages" as kind:
                name, n = ("cifar10", 10) if kind == "CorruptedImages" else ("cifar100", 20)
                few = [f"data.{part}={n}" for part in ("n_train", "n_validation")]
                return [f"data.checksum={images[name]}", "++data.n_test=20", *few]
            case "Vtab":
                size = 32 if "vit" in config.model["network"] else 16
                return [f"data.checksum={images['cifar100']}", f"data.size={size}"]
            case "LongTailed":
                n_classes = SETS[config.data["dataset"]].classes
                validation = n_classes if config.data["n_validation"] else 0
                return [
                    f"data.checksum={images[config.data['dataset']]}",
                    f"data.n_validation={validation}",
                    "data.split.largest=1",
                    "data.split.imbalance=1",
                    "data.n_test=1",
                    "model.limits=[1,1]",
                    *(["model.net.width=8"] if "depth" in config.model["net"] else []),
                ]
        return []

    return overrides


def begun(config, steps, parents) -> list[str]:
    """The same overrides with those of what a run starts from; of no file of weights.

    Args:
        config: of the run.
        steps: its overrides.
        parents: gives those of a parent whose data is not the child's.
    """
    if config.start is None:
        return steps
    parent = config.start.run
    if parent is None or parent.experiment == "subtuning/pretrain":
        return [*steps, "start=null"]
    if config.paper == "peft_debias":
        steps = [*steps, "start.run.differs=[data]"]
        before = ["start=null", *ONE_STEP, *parents(parent)]
    elif config.paper == "subtuning":
        small = [o for o in tuned(parent) if not o.startswith("data.")]
        before = ["start=null", *ONE_STEP, *small]
    else:
        # Data are the child's own, and what its network is has to be said of both.
        own = ("model.snapshot=", "model.probes=")
        if not config.data["_target_"].endswith("Text"):
            own = ("data.", *own)
        before = [o for o in steps if not o.startswith(own)]
        before += [o for o in whole_shares(parent) if o == "model.scheduler=null"]
        if "fit" not in config.stages:  # a parent that is trained, and has one itself
            before = ["start=null", "model.snapshot=null", *ONE_STEP, *before]
    quoted = ",".join(f"'{o}'" for o in before)
    return [*steps, f"start.run.overrides=[{quoted}]"]


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_every_experiment_runs_a_step_of_every_stage(generated, runs, paper):
    frozen = []
    own = [name for name in OWN if name.startswith(f"{paper}/")]
    with planning():
        for name in own:
            config = compose([f"experiment={name}", "seed=0"])
            if config.protocol == "smoke":
                continue
            extra = [*generated(config), *few_steps(config), *whole_shares(config)]
            extra += stood_in(config)
            if config.paper == "subtuning":
                extra += tuned(config)
            steps = ONE_STEP if "fit" in config.stages else []
            steps = [*steps, "trainer.limit_test_batches=1", *extra]
            steps = begun(config, steps, generated)
            frozen.append(freeze(compose([f"experiment={name}", "seed=0", *steps])))
    assert len(frozen) >= len(own) / 2
    summary = launch(frozen)
    assert summary.ok, summary.failed
    for run in frozen:
        path = runs / run.config.paper / run.key / records.RUN_RECORD
        record = records.parse(path.read_bytes(), str(path))
        # The key that was composed is the key of what ran.
        assert record.key == run.key == path.parent.name
        assert record.config["stages"] == list(run.config.stages)
        assert record.results


def test_every_table_file_is_found_by_name():
    assert set(TABLES) <= set(paths.config_names("table"))


def test_quick_tables_say_so(retable):
    listed = json.loads(retable("list", "--json").stdout)["tables"]
    assert any(entry["quick"] for entry in listed)
