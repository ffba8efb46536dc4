"""What a run's earlier epochs were computed under is told beside what its last ones were."""

from __future__ import annotations

import pytest
from msgspec import structs

from retable.runs import stretches
from retable.runs.record_parts import Stretch
from support.records import PROVENANCE, config_of, plain_record, record_of

NOW = Stretch(provenance=PROVENANCE, threads=1, workers=1)


def stretch(**changes) -> Stretch:
    """As now but for some facts, those of its provenance among them."""
    own = {name: changes.pop(name) for name in ("threads", "workers", "alone") if name in changes}
    return structs.replace(NOW, provenance=structs.replace(PROVENANCE, **changes), **own)


def chain(tmp_path, *made_under: Stretch) -> list[Stretch]:
    """What the last of some attempts is told, each of which goes on from the one before."""
    before, told = None, []
    for number, now in enumerate(made_under):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = stretches.begin(folder, now, before)
        before = folder
    return told


OTHER = stretch(cpu="another", threads=2)


def test_what_is_the_same_throughout_is_not_told_and_what_differs_once(tmp_path):
    (tmp_path / "a").mkdir()
    assert chain(tmp_path / "a", NOW, NOW, NOW) == []
    (tmp_path / "b").mkdir()
    assert chain(tmp_path / "b", NOW, OTHER) == [NOW]
    (tmp_path / "c").mkdir()
    assert chain(tmp_path / "c", OTHER, NOW, OTHER, OTHER, NOW) == [OTHER]
    (tmp_path / "d").mkdir()
    third = stretch(torch="3")
    assert chain(tmp_path / "d", OTHER, third, NOW) == [OTHER, third]


@pytest.mark.parametrize("same", [{"commit": "d"}, {"dirty": "e" * 64}])
def test_equal_code_of_another_commit_is_the_same(tmp_path, same):
    assert chain(tmp_path, stretch(**same), NOW) == []


@pytest.mark.parametrize("broken", [None, b"", b"[{}]", b"\xff"])
def test_what_cannot_be_read_of_an_attempt_is_not_known(tmp_path, broken):
    old, new = tmp_path / "1", tmp_path / "2"
    new.mkdir()
    if broken is not None:
        old.mkdir()
        (old / stretches.FILE).write_bytes(broken)
    assert stretches.begin(new, NOW, old) == []
    (tmp_path / "3").mkdir()
    assert stretches.begin(tmp_path / "3", OTHER, new) == [NOW]


@pytest.mark.parametrize(
    ("one", "bits", "times"),
    [
        (stretch(cpu="X", torch="2.11", threads=2), "torch 2.11, cpu X, 2 threads", ""),
        (stretch(accelerator="A100", driver="5"), "accelerator A100, driver 5", ""),
        (stretch(cpu_id="y"), "another processor of that name", ""),
        (stretch(packages="q"), "other packages", ""),
        (stretch(torch="3", packages="q"), "torch 3", ""),  # which are other packages
        (stretch(cores=8), "cores 8", ""),
        (stretch(kernels={"MKL_CBWR": "AVX2"}), "kernels MKL_CBWR=AVX2", ""),
        (stretch(workers=3, alone=True), "", "3 at once, alone"),
        (stretch(python="3.12", workers=2), "python 3.12", ", 2 at once"),
    ],
)
def test_in_words(one, bits, times):
    record = record_of(config_of(), earlier=[one])
    assert stretches.told(record) == [bits + times]
    assert stretches.told(record, times=False) == ([bits] if bits else [])


def test_every_difference_that_is_kept_is_told_in_words(tmp_path):
    names = ["torch", "python", "cpu", "accelerator", "driver", "packages", "cpu_id", "cores"]
    others = [stretch(**{name: 9 if name == "cores" else "other"}) for name in names]
    others += [
        stretch(kernels={"a": "b"}),
        stretch(threads=9),
        stretch(workers=9),
        stretch(alone=True),
    ]
    earlier = chain(tmp_path, *others, NOW)
    assert earlier == others
    assert all(stretches.told(plain_record(key="k", earlier=earlier)))
