"""Data that only the user can have is found below the mirror and nowhere else."""

from __future__ import annotations

import pytest

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.data.own_data import agree, in_mirror
from retable.util.errors import UserError


def test_it_is_found_below_the_mirror(tmp_path):
    mirror, paths = tmp_path / "mirror", DataPaths(tmp_path, tmp_path / "mirror")
    (mirror / "set").mkdir(parents=True)
    assert in_mirror("data.folder", "set", paths, "a set") == mirror / "set"
    for name in ("../mirror/set", str(mirror / "set")):
        with pytest.raises(UserError, match=r"data\.folder: .* has to lie below the mirror"):
            in_mirror("data.folder", name, paths, "a set")


def test_where_it_is_not_the_message_says_what_it_is(tmp_path):
    for paths in (DataPaths(tmp_path), DataPaths(tmp_path, tmp_path)):
        with pytest.raises(DataUnavailable, match=r"data\.file: other: .*It is a set; put it into"):
            in_mirror("data.file", "other", paths, "a set")


def test_a_checksum_that_is_not_known_is_told(tmp_path):
    agree("data.sha256", tmp_path, "ab" * 32, "ab" * 32)
    with pytest.raises(UserError, match=f"data.sha256: none is given; .* has {'ab' * 32}"):
        agree("data.sha256", tmp_path, "ab" * 32, None)
    with pytest.raises(UserError, match=r"sha256 abababababab, data\.sha256 has cdcdcdcdcdcd"):
        agree("data.sha256", tmp_path, "ab" * 32, "cd" * 32)
