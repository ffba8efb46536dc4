"""Files of weights that runs start from: named, found or fetched, checked, read as data."""

from __future__ import annotations

import http.server
import os
import pickle
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from retable.config.schema import PathsConfig, StartConfig
from retable.data.fetch import DataUnavailable, sha256_of
from retable.runs.weight_files import have, located, read
from retable.util.errors import UserError
from support.runs import freeze

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5])}


@pytest.fixture
def places(tmp_path):
    """Mirror, cache, and the paths of a run that has both."""
    for name in ("mirror", "cache"):
        (tmp_path / name).mkdir()
    given = {name: str(tmp_path / name) for name in ("runs", "cache", "mirror")}
    return tmp_path / "mirror", tmp_path / "cache", PathsConfig(**given)


def saved(file: Path) -> str:
    """Checksum of the state, which is written there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(STATE, file)
    return sha256_of(file)


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        freeze(*overrides)
    return str(caught.value)


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_names_lead_to_a_place_below_the_mirror_and_to_where_the_file_comes_from():
    assert located("weights/a.pt") == ("weights/a.pt", None)
    name, url = located("hub:timm/vit_base.augreg/model.safetensors@0a1b")
    assert name == "timm/vit_base.augreg/model.safetensors"
    assert url is not None
    assert url.endswith("/timm/vit_base.augreg/resolve/0a1b/model.safetensors")
    assert "/resolve/main/sub/a.bin" in str(located("hub:o/r/sub/a.bin")[1])
    name, url = located("torchvision:ResNet50_Weights.IMAGENET1K_V2")
    assert name == "torchvision/resnet50-11ad3fa6.pth"
    assert url == "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"


@pytest.mark.parametrize(
    "name", ["ResNet50_Weights.IMAGENET1K_V22", "Resnet50_Weights.IMAGENET1K_V2"]
)
def test_torchvision_s_names_are_known(name):
    with pytest.raises(UserError, match=r"did you mean 'ResNet50_Weights\.IMAGENET1K_V2'"):
        located(f"torchvision:{name}")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("{file: a/b.pt}", "start: needs the file's sha256 (sha256sum prints it)"),
        ("{sha256: %s}" % ("0" * 64), "start: is either {run: ...} or {file: ..., sha256: ...}"),
        ("{}", "start: is either {run: ...} or {file: ..., sha256: ...}"),
        ("{fil: a/b.pt}", "start.fil: unknown key; did you mean 'file'?"),
        ("{file: a/b.pt, sha256: abc}", "start.sha256: 'abc' must be a SHA-256: 64 of 0-9 and a-f"),
        ("{file: /a/b.pt, sha256: abc}", "start.file: '/a/b.pt' must be a path below the mirror"),
        ("{file: a/../../b.pt, sha256: abc}", "must be a path below the mirror, without .."),
        ("{file: 'hub:a/b.pt', sha256: abc}", "must be hub:OWNER/REPOSITORY/FILE, and @REVISION"),
        ("{file: 'huby:a/b/c.pt', sha256: a}", "is from 'huby:'; did you mean 'hub'?"),
        ("{file: 'torchvision:resnet50', sha256: a}", "must be torchvision:NAME_Weights.VERSION"),
        (
            "{run: {experiment: digits/smoke}, file: a/b.pt, sha256: %s}" % ("0" * 64),
            "start.file: names a file beside start.run; a run starts from one of both"
            " (start.run=null takes the other away)",
        ),
    ],
)  # fmt: skip
def test_what_a_start_may_not_be_is_refused_by_its_key(start, said):
    assert said in refusal(f"start={start}")


def test_the_mirror_s_file_is_taken_and_checked(places):
    mirror, cache, paths = places
    start = StartConfig(
        file="weights/a.safetensors", sha256=saved(mirror / "weights/a.safetensors")
    )
    assert have(start, paths) == mirror / "weights/a.safetensors"
    (mirror / "weights").rename(cache / "weights")
    assert have(start, paths) == cache / "weights/a.safetensors"
    with (cache / "weights/a.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(
        UserError, match=r"is truncated or altered \(sha256 \w{12}, expected \w{12}"
    ):
        have(start, paths)


def test_without_the_file_the_message_says_where_it_was_looked_for(places):
    mirror, cache, paths = places
    start = StartConfig(file="weights/a.pt", sha256="0" * 64)
    with pytest.raises(DataUnavailable) as caught:
        have(start, paths)
    assert str(caught.value) == (
        f"start.file: weights/a.pt is neither in {mirror} nor in {cache}; set RETABLE_MIRROR to a"
        " folder that holds weights/a.pt"
    )


def test_a_file_of_the_hub_is_fetched_once_and_checked(places, monkeypatch, tmp_path):
    """A server in the hub's place: its addresses, its bytes."""
    _, cache, paths = places
    sha256 = saved(tmp_path / "hub/o/r/resolve/main/model.safetensors")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "hub")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        pattern = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(pattern, here + "/{repo_id}/resolve/{revision}/{filename}")
        start = StartConfig(file="hub:o/r/model.safetensors", sha256=sha256)
        said: list[str] = []
        same(read(have(start, paths, said.append)), STATE)
        other = StartConfig(file="hub:o/r/model.safetensors", sha256="0" * 64)
        with pytest.raises(UserError, match="truncated or altered"):
            have(other, paths)
        server.shutdown()
    assert said == [f"fetching {here}/o/r/resolve/main/model.safetensors"]
    assert have(start, paths, said.append) == cache / "o/r/model.safetensors"
    assert len(said) == 1


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (STATE, ["a.weight", "a.bias"]),
        ({"epoch": 3, "state_dict": STATE}, ["state_dict.a.weight", "state_dict.a.bias"]),
        ({"net": {0: STATE}, "best": 0.5}, ["net.0.a.weight", "net.0.a.bias"]),
    ],
)
def test_tensors_are_read_by_name_and_nested_names_are_joined(tmp_path, content, names):
    torch.save(content, tmp_path / "a.pth")
    same(read(tmp_path / "a.pth"), dict(zip(names, STATE.values(), strict=True)))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("write", ["torch", "pickle", "text", "cut", "none", "list"])
def test_a_file_that_holds_something_else_is_refused_and_runs_nothing(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("a.safetensors" if write == "cut" else "a.pt")
    match write:
        case "torch":
            torch.save({"a": STATE["a.bias"], "b": Evil()}, file)
        case "pickle":
            file.write_bytes(pickle.dumps(Evil()))
        case "text":
            file.write_text("weights")
        case "cut":
            saved(file)
            file.write_bytes(file.read_bytes()[:-3])
        case "none":
            torch.save({"epoch": 3}, file)
        case "list":
            torch.save([STATE["a.bias"]], file)
    with pytest.raises(UserError, match=r"a\.\w+: (does not hold|holds no|cannot be read)"):
        read(file)
    assert not (tmp_path / "ran").exists()
