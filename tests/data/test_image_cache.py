"""The cache of decoded sets: filled once, checked always, and the real sets of the mirror."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from retable.data import image_cache
from retable.data.arrays import checksum
from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.data.hub import decode
from retable.data.image_cache import cache_file, load
from retable.util.errors import UserError
from support.images import columns, pictures, shard, small, write

REAL = os.environ.get("RETABLE_MIRROR")
BOTH = {"train": 12, "test": 5}


@pytest.fixture
def paths(tmp_path) -> DataPaths:
    return DataPaths(cache=tmp_path / "cache", mirror=tmp_path / "mirror")


@pytest.fixture
def sha(monkeypatch, paths) -> str:
    """Checksum of a small CIFAR-10 that is in the mirror."""
    small(monkeypatch, paths.mirror, "cifar10", **BOTH)
    return checksum(decode("cifar10", mirror=paths.mirror))


def left(folder: Path) -> list[str]:
    """Names of the files below a folder, without the locks that stay."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def refused(sha256: str | None, paths: DataPaths, name: str = "cifar10") -> str:
    with pytest.raises(UserError) as caught:
        load(name, sha256, paths)
    assert not isinstance(caught.value, DataUnavailable)
    return str(caught.value)


def test_the_second_time_no_source_is_read(sha, paths):
    first = load("cifar10", sha, paths)
    shutil.rmtree(paths.mirror)
    second = load("cifar10", sha, DataPaths(paths.cache, mirror=None))
    assert sorted(first) == ["test/images", "test/labels", "train/images", "train/labels"]
    assert first["train/images"].shape == (12, 32, 32, 3)
    assert first["train/images"].dtype == torch.uint8
    assert first["test/labels"].dtype == torch.int64
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key])
    assert checksum({key: tensor.numpy() for key, tensor in second.items()}) == sha
    assert left(paths.cache) == [f"cifar10-{sha[:16]}.safetensors"]
    assert cache_file("cifar10", sha, paths.cache).is_file()


def test_what_is_given_can_be_changed_without_harm(sha, paths):
    load("cifar10", sha, paths)["train/images"].zero_()
    assert load("cifar10", sha, paths)["train/images"].any()


def test_an_unknown_set_is_refused_before_anything_is_made(paths):
    assert "did you mean 'cifar10'?" in refused(None, paths, "cifar1")
    assert not paths.cache.exists()


def test_neither_mirror_nor_network_leaves_nothing(monkeypatch, paths):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataUnavailable, match=r"set RETABLE_MIRROR .* where there is a network"):
        load("cifar10", "0" * 64, paths)
    assert left(paths.cache) == []


def test_without_a_checksum_it_is_said_and_nothing_is_kept(sha, paths):
    said = refused(None, paths)
    assert said.startswith("data.checksum: none is given for data set cifar10")
    assert sha in said  # whole, for the config
    assert left(paths.cache) == []


def test_other_pixels_in_the_mirror_are_refused(sha, paths):
    file = shard(paths.mirror / "uoft-cs" / "cifar10", "cifar10")
    before = file.read_bytes()
    write(file, columns("cifar10", pictures(5, seed=9), range(5)))
    assert file.read_bytes() != before
    said = refused(sha, paths)
    assert said.startswith("data set cifar10: was decoded to other arrays")
    assert f"expected {sha[:12]}" in said
    assert "mend the mirror" in said
    assert left(paths.cache) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "pixel", "head", "text"])
def test_a_damaged_cache_file_is_refused_and_made_again_once_deleted(sha, paths, damage):
    load("cifar10", sha, paths)
    file = cache_file("cifar10", sha, paths.cache)
    content = bytearray(file.read_bytes())
    match damage:
        case "cut":
            content = content[:-1]
        case "empty":
            content.clear()
        case "pixel":
            content[-5000] ^= 1
        case "head":
            content[20] ^= 1
        case "text":
            content[:] = b"<html>404</html>" * 10
    file.write_bytes(content)
    said = refused(sha, paths)
    assert said.startswith(f"{file}: is truncated or altered")
    assert sha[:12] in said
    assert "delete it, it is made again" in said
    file.unlink()
    assert len(load("cifar10", sha, paths)) == 4


def test_the_file_of_another_set_is_refused(monkeypatch, sha, paths):
    load("cifar10", sha, paths)
    other = sha[:16] + 48 * "0"  # the same name, another set
    assert "is truncated or altered" in refused(other, paths)


@pytest.mark.parametrize("at", ["", "images"])
def test_a_cache_that_cannot_be_made_is_refused_before_anything_is_decoded(
    monkeypatch, tmp_path, sha, paths, at
):
    monkeypatch.setattr(image_cache, "decode", lambda *a, **k: pytest.fail("decoded in vain"))
    blocked = paths.cache / at
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file in the folder's place")
    said = refused(sha, paths)
    assert str(blocked) in said
    assert said.endswith("set RETABLE_CACHE")


class Killed(BaseException):
    """Stands for a signal."""


@pytest.mark.parametrize("moment", ["replace", "write_bytes"])
def test_an_interrupted_write_leaves_nothing_and_the_next_works(monkeypatch, sha, paths, moment):
    def killed(self, *args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, moment, killed)
        with pytest.raises(Killed):
            load("cifar10", sha, paths)
    assert left(paths.cache) == []
    assert len(load("cifar10", sha, paths)) == 4


HERE = Path(__file__).parents[1]
ROOT = HERE.parent
PROCESS = """
import os, sys
from pathlib import Path
import pytest
sys.path.insert(0, {tests!r})
from support.images import shrink
from retable.data import image_cache
from retable.data.base import DataPaths
shrink(pytest.MonkeyPatch(), "cifar10", {sizes!r})
decode = image_cache.decode
def counted(*args, **kwargs):
    with open({count!r}, "a") as file:
        print(os.getpid(), file=file)
    return decode(*args, **kwargs)
image_cache.decode = counted
{more}
paths = DataPaths(Path({cache!r}), Path({mirror!r}))
arrays = image_cache.load("cifar10", {sha!r}, paths)
print(image_cache.checksum({{k: v.numpy() for k, v in arrays.items()}}))
"""


def process(tmp_path: Path, sha: str, more: str = "") -> subprocess.Popen[str]:
    """A process that loads the small set and counts its decoding."""
    code = PROCESS.format(
        tests=str(HERE),
        sizes=BOTH,
        count=str(tmp_path / "count"),
        more=more,
        cache=str(tmp_path / "cache"),
        mirror=str(tmp_path / "mirror"),
        sha=sha,
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_of_two_processes_one_decodes_and_both_have_the_set(tmp_path, sha, paths):
    processes = [process(tmp_path, sha) for _ in range(2)]
    outputs = [p.communicate(timeout=120)[0].strip() for p in processes]
    assert outputs == [sha, sha]
    assert (tmp_path / "count").read_text().count("\n") == 1
    assert left(paths.cache) == [f"cifar10-{sha[:16]}.safetensors"]


@pytest.mark.slow
def test_a_killed_process_leaves_no_file_of_that_name_and_no_lock(tmp_path, sha, paths):
    kill = "Path.replace = lambda *_: os.kill(os.getpid(), 9)"
    first = process(tmp_path, sha, kill)
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    assert not cache_file("cifar10", sha, paths.cache).exists()
    assert len(load("cifar10", sha, paths)) == 4


@pytest.mark.slow
def test_a_set_of_the_size_of_mnist_comes_from_the_cache_without_the_decoders(tmp_path):
    arrays = {
        "train/images": np.zeros((60_000, 28, 28, 1), np.uint8),
        "train/labels": np.arange(60_000) % 10,
        "test/images": np.zeros((10_000, 28, 28, 1), np.uint8),
        "test/labels": np.arange(10_000) % 10,
    }
    sha = checksum(arrays)
    file = cache_file("mnist", sha, tmp_path)
    file.parent.mkdir()
    image_cache.write_tensors(file, arrays)
    code = (
        "import sys\nfrom pathlib import Path\nfrom retable.data.base import DataPaths\n"
        "from retable.data.image_cache import load\n"
        "before = {m.partition('.')[0] for m in sys.modules}\n"  # Lightning imports PIL itself
        f"arrays = load('mnist', {sha!r}, DataPaths(Path({str(tmp_path)!r})))\n"
        "assert len(arrays['train/labels']) == 60000\n"
        "more = {m.partition('.')[0] for m in sys.modules} - before\n"
        "print('datasets' in sys.modules, 'pyarrow' in sys.modules, more & {'PIL', 'pandas'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "False False set()\n"


def test_what_takes_long_is_told_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(image_cache.time, "monotonic", lambda: now[0])
    say = image_cache.every(2.0)
    for now[0] in (0.5, 1.9, 2.0, 3.0, 4.5):
        say(f"at {now[0]}")
    assert capsys.readouterr().err == "at 0.5\nat 3.0\n"


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="RETABLE_MIRROR is not set")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_the_checksums_of_the_shipped_configs_are_those_of_the_mirror(name, cached_once):
    config = yaml.safe_load((ROOT / "conf" / "data" / f"{name}.yaml").read_text())
    cache = Path(os.environ["RETABLE_CACHE"])
    arrays = load(name, config["checksum"], DataPaths(cache=cache, mirror=Path(str(REAL))))
    assert checksum({key: array.numpy() for key, array in arrays.items()}) == config["checksum"]
    train, test = arrays["train/labels"].numpy(), arrays["test/labels"].numpy()
    if name == "mnist":  # the original order: as the first page of every tutorial shows it
        assert train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        counts = [991, 1064, 990, 1030, 983, 915, 967, 1090, 1009, 961]
        assert np.bincount(train[-10_000:]).tolist() == counts  # of the usual validation images
    else:
        assert set(np.bincount(train)) == {len(train) // 10}
        assert set(np.bincount(test)) == {1000}
