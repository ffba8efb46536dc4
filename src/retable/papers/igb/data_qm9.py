"""Eleven properties of molecules as tasks: QM9, and generated molecules of the same structure."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from retable.data.arrays import Arrays, checksum
from retable.data.fetch import DataUnavailable, locked
from retable.data.image_cache import read_tensors, writable, write_tensors
from retable.data.own_data import agree, in_mirror
from retable.papers.igb.data import REGRESSION, Items, TaskData
from retable.papers.igb.qm9_files import (
    ELEMENTS,
    ENERGIES,
    TARGETS,
    Molecule,
    arrays,
    from_gdb9,
    from_qm9pack,
)
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

QM9PACK_SHA256 = "1f5206f94917b60fda99a595227f5cde4093a37d56da39e5dadf68188a0a5aa3"
"""Of the arrays that version 1.0.3 gives, :func:`retable.data.arrays.checksum`."""


class MoleculeTasks(TaskData):
    """Base: eleven tasks on molecules, all regression, with standardised targets.

    A batch is ``(B, n, 11 + 5 n)`` for a largest molecule of ``n`` atoms. An atom's row has its
    features, element one-hot (H, C, N, O, F), atomic number, aromatic, sp, sp2, sp3, number of
    bonded hydrogens; then for each atom the bond with it one-hot (single, double, triple,
    aromatic) and the distance in angstrom. Aromatic and the three of hybridisation are 0, and no
    bond is aromatic: so it is with torch_geometric's QM9, which leaves molecules unsanitised.

    Args:
        n_train: training molecules; all that are left where it is not given.
        n_validation: molecules of validation; the split is drawn by the run's seed.
        n_test: of the test.
        standardise: with mean and deviation of ``all`` molecules, as the authors' code does, or of
            those of ``train`` only.
        **options: of :class:`~retable.papers.igb.data.TaskData`.

    Attributes:
        units: by task, what one deviation is in the unit that is reported: debye, cubic bohr, meV
            for seven energies, square bohr, cal/(mol K). After ``setup``.
    """

    def __init__(
        self,
        *,
        n_train: Annotated[int, Field(ge=2)] | None = None,
        n_validation: Annotated[int, Field(ge=1)] = 10_000,
        n_test: Annotated[int, Field(ge=1)] = 10_000,
        standardise: Literal["all", "train"] = "all",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.n_train, self.n_validation, self.n_test = n_train, n_validation, n_test
        self.standardise = standardise
        self.units: dict[str, float] = {}

    def kinds(self) -> dict[str, str]:
        """Eleven properties."""
        return dict.fromkeys(TARGETS, REGRESSION)

    def arrays(self) -> Arrays:
        """Molecules, as :func:`retable.papers.igb.qm9_files.arrays` gives them."""
        raise NotImplementedError

    def items(self) -> tuple[Items, Items, Items]:
        """Test, validation, training, in this order of the shuffled molecules.

        Raises:
            UserError: where too few are left for training.
        """
        data = self.arrays()
        targets, n = data["targets"].astype(np.float64), len(data["targets"])
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "split"))
        order = torch.randperm(n, generator=generator)
        held_out = self.n_test + self.n_validation
        stop = held_out + (self.n_train or max(2, n - held_out))
        if stop > n:
            raise UserError(f"data.n_train: of {n} molecules {n - held_out} are left for training")
        known = targets[order[held_out:stop]] if self.standardise == "train" else targets
        mean, deviation = known.mean(0), known.std(0, ddof=1)
        self.units = {
            task: float(one) * (1000 if task in ENERGIES else 1)
            for task, one in zip(TARGETS, deviation, strict=True)
        }
        atoms = torch.from_numpy(data["atoms"])
        scaled = torch.from_numpy((targets - mean) / deviation).float()

        def split(chosen: Tensor) -> Items:
            return atoms[chosen], dict(zip(TARGETS, scaled[chosen].T.contiguous(), strict=True))

        return (
            split(order[held_out:stop]),
            split(order[self.n_test : held_out]),
            split(order[: self.n_test]),
        )

    def as_inputs(self, x: Tensor) -> Tensor:
        """Features from ``(B, 29, 42)`` bytes."""
        n = int((x[..., 12] > 0).sum(1).max())
        x = x[:, :n, : 13 + n]
        places = x[..., :12].contiguous().view(torch.float32)
        numbers, bonds = x[..., 12], x[..., 13:]
        elements = torch.tensor(list(ELEMENTS.values()), device=x.device)
        hydrogens = ((bonds > 0) & (numbers == 1)[:, None]).sum(2)
        nodes = places.new_zeros(len(x), n, 11)
        nodes[..., :5] = (numbers[..., None] == elements).float()
        nodes[..., 5], nodes[..., 10] = numbers, hydrogens
        real = numbers > 0
        apart = (places[:, :, None] - places[:, None]).norm(dim=-1) * (
            real[:, :, None] & real[:, None]
        )
        kinds = bonds[..., None] == torch.arange(1, 5, device=x.device)
        edges = torch.cat([kinds.float(), apart[..., None]], -1)
        return torch.cat([nodes, edges.flatten(2)], 2)


class Qm9(MoleculeTasks):
    """QM9, kept in the cache once it was read, under the checksum of its arrays.

    Args:
        source: ``qm9pack``, tables of the Python package of that name, of which nothing is
            imported; or ``gdb9``, the files that torch_geometric reads, gdb9.sdf, gdb9.sdf.csv and
            uncharacterized.txt in the folder qm9 of the mirror. They have the same molecules and
            targets; some bonds differ, and positions are rounded in the latter.
        checksum: of the arrays (:func:`retable.data.arrays.checksum`); null where it is not known
            yet: then preparing says what it is.
        **options: of :class:`MoleculeTasks`.
    """

    def __init__(
        self,
        *,
        source: Literal["qm9pack", "gdb9"] = "qm9pack",
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = QM9PACK_SHA256,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.source, self.checksum = source, checksum

    def prepare_data(self) -> None:
        """Read the files into the cache; what is there already is left alone."""
        self.arrays()

    def arrays(self) -> Arrays:
        """From the cache, which is filled first where needed.

        Raises:
            DataUnavailable: where the files are not there.
            UserError: where they are not those of the checksum, or none is given.
        """
        file = self.paths.cache / "qm9" / f"{(self.checksum or 'unknown')[:16]}.safetensors"
        data = self._kept(file)
        if data is None:
            with writable(file), locked(file):
                data = self._kept(file)  # another process was faster
                if data is None:
                    folder, read = self._files()
                    data = arrays(read(folder))
                    agree("data.checksum", folder, checksum(data), self.checksum)
                    write_tensors(file, data)
        return data

    def _kept(self, file: Path) -> Arrays | None:
        data = read_tensors(file) if file.is_file() else None
        return None if data is None or checksum(data) != self.checksum else data

    def _files(self) -> tuple[Path, Callable[[Path], Iterator[Molecule]]]:
        if self.source == "gdb9":
            what = "gdb9.sdf, gdb9.sdf.csv of MoleculeNet and uncharacterized.txt of QM9"
            for name in ("gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"):
                in_mirror("data.source", f"qm9/{name}", self.paths, f"one of {what}")
            return in_mirror("data.source", "qm9", self.paths, what), from_gdb9
        spec = importlib.util.find_spec("qm9pack")
        if spec is None or not spec.submodule_search_locations:
            raise DataUnavailable(
                "data.source: the package qm9pack is not installed; uv sync --all-extras --group"
                " qm9, or take data.source=gdb9 with files of your own"
            )
        return Path(spec.submodule_search_locations[0]) / "data", from_qm9pack


class GeneratedMolecules(MoleculeTasks):
    """Chains of random atoms, the same for every seed of a run, for tests and rehearsals.

    Targets are sums over atoms and bonds with random weights. Options are those of
    :class:`MoleculeTasks`.

    Args:
        n_molecules: in all.
        n_validation: of these.
        n_test: of these.
        **options: of :class:`MoleculeTasks`.
    """

    def __init__(
        self,
        *,
        n_molecules: Annotated[int, Field(ge=4)] = 96,
        n_validation: Annotated[int, Field(ge=1)] = 24,
        n_test: Annotated[int, Field(ge=1)] = 24,
        **options: Any,
    ) -> None:
        super().__init__(n_validation=n_validation, n_test=n_test, **options)
        self.n_molecules = n_molecules

    def arrays(self) -> Arrays:
        """Draw them."""
        rng = np.random.default_rng(derive_seed(0, "molecules"))
        weights = rng.normal(size=(2, len(TARGETS)))

        def molecules() -> Iterator[Molecule]:
            for _ in range(self.n_molecules):
                numbers = rng.choice(list(ELEMENTS.values()), rng.integers(3, 9)).tolist()
                kinds = rng.integers(1, 4, len(numbers) - 1).tolist()
                places = np.cumsum(rng.normal(size=(len(numbers), 3)), 0)
                targets = np.array([sum(numbers), sum(kinds)]) @ weights
                bonds = [(i, i + 1, kind) for i, kind in enumerate(kinds)]
                yield Molecule(numbers, places, bonds, targets.tolist())

        return arrays(molecules())
