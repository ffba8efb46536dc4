"""Parts of a record: a result, where it comes from, why it stands for newer code."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # what a published table can hold


class ResultRow(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """One number in long form."""

    result_row: str = ""
    metric: str
    step: Count | None = None
    value: float


class CodeRoot(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """Code beside the project's that runs execute, and the state that it was in.

    Attributes:
        name: of the folder of papers (``RETABLE_EXTRA``), or of the package; never a path.
        commit: None outside of a repository.
        dirty: hash of the stored diff, None if its files were as committed.
        version: of the editable installation that it is of, where it is in no repository.
    """

    name: str
    commit: str | None = None
    dirty: str | None = None
    version: str | None = None

    @property
    def is_committed(self) -> bool:
        """Whether its name and state say which code it was."""
        return self.dirty is None and (self.commit or self.version) is not None

    @property
    def shown(self) -> str:
        """The root and its state, for people."""
        if self.commit is None:
            return f"{self.name} {self.version or 'without a commit'}"
        changed = " with local changes" if self.dirty else ""
        return f"{self.name} {self.commit[:12]}{changed}"


class Provenance(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """Where a record comes from; long texts are stored once, by hash.

    Attributes:
        commit: None outside of a repository.
        dirty: hash of the stored diff, None if the tree was clean.
        packages: hash of the stored package list.
        roots: of the code beside the project's that the runs of the launch execute.
        kernels: environment variables that are set by which libraries compute otherwise; older
            records do not say.
    """

    commit: str | None
    dirty: str | None
    packages: str
    python: str
    torch: str
    cpu: str
    cpu_id: str | None = None
    cores: int
    accelerator: str | None = None
    driver: str | None = None
    roots: list[CodeRoot] = []
    kernels: dict[str, str] | None = None

    @property
    def kernels_shown(self) -> str:
        """What chooses the kernels of libraries, for people."""
        if self.kernels is None:
            return "not recorded"
        return " ".join(f"{k}={v}" for k, v in self.kernels.items()) or "chosen by the processor"


class Stretch(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """What some epochs of a run were computed by and on, where it went on under something else.

    Attributes:
        provenance: of that launch.
        threads: of the run.
        workers: runs that the launcher kept going at once.
        alone: nothing else ran there.
    """

    provenance: Provenance
    threads: int
    workers: int
    alone: bool = False


class StartedFrom(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """What a run began with: as the record of the run it started from said, or read from a file.

    Attributes:
        key: of that run; None for a file.
        file: as the config names it; None for a run.
        weights_sha256: of the weights by name; None for a method without any.
        artifacts: arrays that the run had left: name, SHA-256.
    """

    key: str | None = None
    file: str | None = None
    weights_sha256: str | None = None
    artifacts: dict[str, str] = {}

    @property
    def shown(self) -> str:
        """The run or the file, for people."""
        return self.file or (self.key or "")[:12]


class Blessing(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """Why a record stands for newer code: one seed of its setting was run again, bitwise equal.

    Equal to what the record's own commit computes on the same machine, or where that could not be
    asked (``against`` is None) to the record itself. Times that were measured are left out.

    Attributes:
        was: fingerprint of the code that computed the record, or before.
        seed: that was run again.
        commit: of the code that ran it again.
        now: fingerprint of the code that ran it again.
        against: the record's commit, which ran beside.
        cpu: processor of both.
        old_sha256: result of the commit, or the record's.
        new_sha256: result of the code that ran it again.
        also: what that code records besides, which this record has not.
    """

    was: str
    seed: int
    commit: str | None
    dirty: str | None = None
    at: str
    now: str | None = None
    against: str | None = None
    cpu: str | None = None
    accelerator: str | None = None
    old_sha256: str | None = None
    new_sha256: str | None = None
    also: list[str] = []
