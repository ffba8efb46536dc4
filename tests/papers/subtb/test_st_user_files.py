"""Files that only the user has: found, checked, and part of the setting."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable, sha256_of
from retable.papers.subtb.updates import Updates
from retable.papers.subtb.user_files import NAMES, UpdatesOnFiles, user_files
from retable.util.errors import UserError


def data_of(tmp_path, files, checksums):
    paths = DataPaths(tmp_path / "cache", tmp_path / "mirror")
    return UpdatesOnFiles(seed=0, paths=paths, files=files, checksums=checksums)


def put(folder, file, text="sequence,target\n"):
    path = folder / NAMES[file]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("amp", r"subtb/amp.csv: .*DBAASP.*RETABLE_MIRROR.*reward=motifs"),
        ("gfp", r"subtb/gfp.csv: .*design-bench.*reward=motifs"),
        ("fragments", r"subtb/blocks_PDB_105.json: .*GFNOrg/gflownet.*reward=toy"),
        ("seh_proxy", r"subtb/seh_proxy.pt2: .*torch.export.*reward=toy"),
    ],
)
def test_a_missing_file_is_named_with_where_it_comes_from(tmp_path, file, words):
    with pytest.raises(DataUnavailable, match=words):
        data_of(tmp_path, [file], [None]).prepare_data()


def test_the_mirror_comes_before_the_cache(tmp_path):
    kept = put(tmp_path / "cache", "amp")
    data = data_of(tmp_path, ["amp"], [sha256_of(kept)])
    assert data.path("amp") == kept
    assert data.path("amp") != (there := put(tmp_path / "mirror", "amp"))
    assert data.path("amp") == there


def test_without_a_checksum_it_is_said_what_it_is(tmp_path):
    path = put(tmp_path / "mirror", "amp")
    with pytest.raises(UserError, match=f"data.checksums: .* amp; .*{sha256_of(path)}"):
        data_of(tmp_path, ["amp"], [None]).prepare_data()


def test_another_file_of_that_name_is_refused(tmp_path):
    path = put(tmp_path / "mirror", "gfp")
    data = data_of(tmp_path, ["gfp"], [sha256_of(path)])
    data.prepare_data()
    path.write_text("sequence,target\nA,1\n")
    with pytest.raises(UserError, match=r"gfp.csv: is not the file of the experiment"):
        data.path("gfp")


def test_a_file_that_is_not_listed_and_lists_of_two_lengths_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"data.files: has to name amp, or take model.reward=motifs"
    ):
        data_of(tmp_path, [], []).path("amp")
    with pytest.raises(UserError, match=r"data.checksums: 0 for 1 files"):
        data_of(tmp_path, ["amp"], [])


def test_a_data_module_without_files_is_refused(tmp_path):
    paths = DataPaths(tmp_path, None)
    module = SimpleNamespace(trainer=SimpleNamespace(datamodule=Updates(seed=0, paths=paths)))
    with pytest.raises(UserError, match=r"data._target_: has to be .*UpdatesOnFiles"):
        user_files(module)
