"""Data of the tasks that need files which only the user can have, by their checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pytorch_lightning import LightningModule

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable, sha256_of
from retable.papers.subtb.updates import Updates
from retable.util.errors import UserError

UserFile = Literal["amp", "gfp", "fragments", "seh_proxy"]
NAMES: dict[UserFile, str] = {
    "amp": "subtb/amp.csv",
    "gfp": "subtb/gfp.csv",
    "fragments": "subtb/blocks_PDB_105.json",
    "seh_proxy": "subtb/seh_proxy.pt2",
}
_CSV = "; write it as CSV with the columns sequence, target"
ORIGINS: dict[UserFile, str] = {
    "amp": "antimicrobial and other peptides of DBAASP, target 1 and 0, as split in"
    f" github.com/MJ10/BioSeq-GFN-AL{_CSV}",
    "gfp": "proteins of design-bench's GFP task with normalised fluorescence as target" + _CSV,
    "fragments": "mols/data/blocks_PDB_105.json of github.com/GFNOrg/gflownet",
    "seh_proxy": "the sEH proxy of github.com/GFNOrg/gflownet (mols/data/pretrained_proxy) as a"
    " program of torch.export that maps states (B, blocks, 4) to (B,)",
}
_NONE = "data.files=[] data.checksums=[]"
INSTEAD: dict[UserFile, str] = {
    "amp": f"model.reward=motifs {_NONE}",
    "gfp": f"model.reward=motifs {_NONE}",
    "fragments": f"model.reward=toy {_NONE}",
    "seh_proxy": f"model.reward=toy {_NONE}",
}


class UpdatesOnFiles(Updates):
    """Updates of a module whose reward is in the user's files.

    A file's checksum is part of the setting, so that runs on different files have different keys.

    Args:
        seed: the run's seed.
        paths: where the files are looked for: mirror, then cache.
        updates: per epoch.
        files: those that are needed.
        checksums: SHA-256 of each; null where it is not known yet: then preparing says what it is.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        updates: Annotated[int, Field(ge=1)] = 500,
        files: list[Literal["amp", "gfp", "fragments", "seh_proxy"]],
        checksums: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None],
    ) -> None:
        if len(files) != len(checksums):
            raise UserError(
                f"data.checksums: {len(checksums)} for {len(files)} files; give one each, or null"
            )
        super().__init__(seed=seed, paths=paths, updates=updates)
        self.checksums: dict[UserFile, str | None] = dict(zip(files, checksums, strict=True))

    def prepare_data(self) -> None:
        """Look whether the files are there and are those of the checksums."""
        for file in self.checksums:
            self.path(file)

    def path(self, file: UserFile) -> Path:
        """Where a file is, checked.

        Raises:
            DataUnavailable: where it is nowhere; the message says what it is.
            UserError: where its checksum is another, or none is given.
        """
        if file not in self.checksums:
            raise UserError(f"data.files: has to name {file}, or take {INSTEAD[file]}")
        name, expected = NAMES[file], self.checksums[file]
        places = [p / name for p in (self.paths.mirror, self.paths.cache) if p is not None]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataUnavailable(
                f"{name}: is neither in the mirror nor in the cache, and cannot be fetched. It is"
                f" {ORIGINS[file]}; put it into the folder of RETABLE_MIRROR, or take"
                f" {INSTEAD[file]}, which needs no data"
            )
        sha256 = sha256_of(found)
        if expected is None:
            raise UserError(
                f"data.checksums: none is given for {file}; {found} has {sha256}: if it is the"
                " file you mean, write that into the experiment"
            )
        if sha256 != expected:
            raise UserError(
                f"{found}: is not the file of the experiment (sha256 {sha256[:12]},"
                f" data.checksums has {expected[:12]})"
            )
        return found


def user_files(module: LightningModule) -> UpdatesOnFiles:
    """The data module of a module's trainer, which has to know the files.

    Raises:
        UserError: where it is another one.
    """
    data: object = getattr(module.trainer, "datamodule", None)
    if not isinstance(data, UpdatesOnFiles):
        raise UserError(f"data._target_: has to be {__name__}.{UpdatesOnFiles.__name__}")
    return data
