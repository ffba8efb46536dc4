"""Tags: what W&B takes, and the files that they are kept in."""

from __future__ import annotations

from retable.tracking import tags


def test_a_tag_is_at_most_as_long_as_it_may_be_and_stays_distinct():
    short = "digits/accuracy: slow, loss"
    assert tags.shortened(short) == short
    long = ["x" * 70 + end for end in ("a", "b")]
    found = [tags.shortened(text) for text in long]
    assert all(len(tag) == tags.MAX_CHARACTERS for tag in found)
    assert found[0] != found[1]
    assert tags.shortened("y" * tags.MAX_CHARACTERS) == "y" * tags.MAX_CHARACTERS


def test_of_very_many_cells_a_run_is_tagged_with_the_first():
    cells = [(f"r{i}", "c") for i in range(tags.MAX_CELLS + 5)]
    found = tags.of_table("p/t", {"k": cells})["k"]
    assert found[:2] == ["p/t", "p/t: r0, c"]
    assert len(found) == 1 + tags.MAX_CELLS


def test_tables_and_parts_of_a_table_add_to_what_a_run_has(runs):
    tags.write(runs, "p/one", "paper", {"k": ["p/one", "p/one: a, b"], "l": ["p/one"]})
    tags.write(runs, "p/one", "paper", {"k": ["p/one", "p/one: a, b"], "m": ["p/one"]})
    tags.write(runs, "p/two", "smoke", {"k": ["p/two"]})
    assert tags.read(runs, "p", "k") == ["p/one", "p/one: a, b", "p/two"]
    assert tags.read(runs, "p", "l") == ["p/one"]
    assert tags.read(runs, "p", "nobody") == []
    assert tags.read(runs, "other", "k") == []


def test_the_same_again_is_not_written_again(runs):
    tags.write(runs, "p/one", "paper", {"k": ["p/one"]})
    (file,) = (runs / "_wandb" / "tags" / "p").iterdir()
    file.chmod(0o400)
    before = file.stat().st_ino
    tags.write(runs, "p/one", "paper", {"k": ["p/one"]})
    assert file.stat().st_ino == before


def test_a_broken_file_loses_its_tags_and_nothing_else(runs):
    tags.write(runs, "p/one", "paper", {"k": ["p/one"]})
    folder = runs / "_wandb" / "tags" / "p"
    for number, text in enumerate(("{", "[1]", '{"k": 3}', '{"k": null}')):
        (folder / f"b{number}.json").write_text(text)
    assert tags.read(runs, "p", "k") == ["p/one"]
