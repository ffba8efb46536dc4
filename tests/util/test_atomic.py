"""A file is there whole or not at all, and nothing is left beside it."""

from __future__ import annotations

import pytest

from retable.util.atomic import beside, write_atomic


@pytest.mark.parametrize("content", ["tëxt\n", b"\x00\xff"])
def test_a_file_is_written_and_replaced(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_text("before")
    write_atomic(file, content)
    assert file.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("folder", [False, True])
def test_of_what_is_broken_off_nothing_is_left(tmp_path, folder):
    target = tmp_path / "target"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt), beside(target) as new:  # noqa: PT012
        if folder:
            (new / "inner").mkdir(parents=True)
        else:
            new.write_text("half")
        assert new.parent == tmp_path
        raise KeyboardInterrupt
    assert (target.read_text(), list(tmp_path.iterdir())) == ("before", [target])
