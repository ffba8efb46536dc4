"""Where configs are found: in the project, or in a folder outside of it."""

from __future__ import annotations

import pytest

from retable.util import paths
from retable.util.errors import UserError


def test_a_file_outside_that_has_the_name_of_the_projects_own_is_refused(tmp_path, monkeypatch):
    name = "converge_smooth/digits"
    own = paths.config_file("table", name)
    assert own is not None
    monkeypatch.setenv("RETABLE_EXTRA", str(tmp_path))
    folder = tmp_path / "conf" / "table" / "converge_smooth"
    folder.mkdir(parents=True)
    assert paths.config_file("table", name) == own
    (folder / "mine.yaml").touch()
    assert paths.config_file("table", "converge_smooth/mine") == folder / "mine.yaml"
    (folder / "digits.yaml").touch()
    with pytest.raises(
        UserError, match=r"digits\.yaml: the table .* is one of retable.s own.* another name"
    ):
        paths.config_file("table", name)
    assert paths.config_file("experiment", name) is not None


@pytest.mark.parametrize("name", ["../table/x", "a/../../b", ".hidden", "", "a//b"])
def test_no_name_leads_out_of_the_folder(name):
    assert paths.config_file("table", name) is None
