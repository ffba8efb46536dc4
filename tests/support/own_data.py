"""Small data of the true structure for configs whose data only the user can have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hydra.utils import instantiate

from retable.data.arrays import checksum
from retable.data.fetch import sha256_of
from support.jpegs import folder, write_classes, write_imagenet_lt

LARGEST = 2
"""Images of every class that has them, for training; one for validation, one for the test."""

FEW_CLASSES = 10
"""Of ImageNet-LT, in place of a thousand."""


def write_table(file: Path, n_features: int = 27, n_classes: int = 100, each: int = 42) -> str:
    """A table in ARFF, as OpenML has Helena; returns its checksum."""
    rng = np.random.default_rng(0)
    names = [f"@ATTRIBUTE V{i + 1} REAL" for i in range(n_features)]
    classes = ",".join(map(str, range(n_classes)))
    lines = ["@RELATION helena", f"@ATTRIBUTE class {{{classes}}}", *names, "@DATA"]
    for label in rng.permutation(np.repeat(np.arange(n_classes), each)).tolist():
        lines.append(",".join([str(label), *(f"{v:.4g}" for v in rng.standard_normal(n_features))]))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sha256_of(file)


def write_cifar10c(root: Path, name: str, n: int = 60) -> str:
    """Files of CIFAR-10-C with ``n`` images in place of 10,000; the checksum of severity 5."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5 * n, 32, 32, 3), dtype=np.uint8)
    labels = np.tile(np.arange(n) % 10, 5)
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / f"{name}.npy", images)
    np.save(root / "labels.npy", labels.astype(np.uint8))
    return checksum({"images": images[-n:], "labels": labels[-n:]})


def own_data(config, mirror: Path) -> list[str]:
    """Write the data of a config below a mirror; the overrides that make a run read it."""
    if "corruption" in config.data:
        known = write_cifar10c(mirror / config.data["folder"], config.data["corruption"])
        few = [f"data.{part}=10" for part in ("n_train", "n_validation", "n_test")]
        return [f"data.checksum={known}", *few]
    if "folder" not in config.data:
        return [f"data.sha256={write_table(mirror / 'openml' / 'helena.arff')}"]
    named = {**config.data["selection"]}
    root, out = mirror / config.data["folder"], ["data.size=32", "data.num_workers=0"]
    if "classes" in named:
        write_classes(root, named["classes"], LARGEST + 2)
        few = {"largest": LARGEST, "imbalance": 0.5, "n_validation": 1, "n_test": 1}
        named |= few
        out += [f"+data.selection.{name}={value}" for name, value in few.items()]
    else:
        write_imagenet_lt(root, FEW_CLASSES)
        out.append(f"model.net.n_classes={FEW_CLASSES}")
    known = folder(mirror, instantiate(named), name=config.data["folder"]).identity()
    return [*out, "data.batch_size=8", f"data.checksum={known}"]
