"""Files of a split that only the user can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retable.data.base import DataPaths
from retable.data.fetch import sha256_of
from retable.data.own_data import agree, in_mirror
from retable.papers.peft_debias.data import Split


class OwnFiles:
    """A file for each split in a folder below the mirror.

    Args:
        names: of the files.
        folder: below the mirror.
        checksums: SHA-256 of the files, in the order of their names.
        what: they are, in words, for messages.
        paths: of the run.
    """

    def __init__(
        self,
        names: Mapping[Split, str],
        folder: str,
        checksums: Sequence[str | None],
        what: str,
        paths: DataPaths,
    ) -> None:
        self.names, self.folder, self.what, self.paths = names, folder, what, paths
        self.checksums = dict(zip(names, checksums, strict=True))

    def __getitem__(self, split: Split) -> Path:
        """Where the file of a split is.

        Raises:
            DataUnavailable: where it is not there.
        """
        name = f"{self.folder}/{self.names[split]}"
        return in_mirror("data.folder", name, self.paths, self.what)

    def check(self) -> None:
        """Look whether the files are there and are those of the checksums.

        Raises:
            UserError: where they are not.
        """
        for split in self.names:
            path = self[split]
            agree("data.checksums", path, sha256_of(path), self.checksums[split])
