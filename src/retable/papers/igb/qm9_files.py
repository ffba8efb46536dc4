"""QM9 as arrays: two files that have it, its units, and how a molecule lies in memory.

Ramakrishnan, Dral, Rupp, von Lilienfeld: Quantum chemistry structures and properties of 134 kilo
molecules (Scientific Data 2014), without the 3,054 molecules that failed its consistency check.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retable.data.arrays import Arrays
from retable.util.errors import UserError

TARGETS = (
    *("mu", "alpha", "eps_HOMO", "eps_LUMO", "R2", "ZPVE"),
    *("U0", "U", "H", "G", "cv"),
)
"""Debye, cubic bohr, eV, eV, square bohr, eV; eV below the free atoms; cal/(mol K)."""

ENERGIES = ("eps_HOMO", "eps_LUMO", "ZPVE", "U0", "U", "H", "G")
"""Targets in eV."""

ATOMS = 29
"""Of the largest molecule."""

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
HARTREE = 27.211386246
"""In eV, as torch_geometric has it."""

KCAL_PER_MOL = 0.04336414
"""In eV, likewise."""

FREE_ATOMS = {
    1: (-0.500273, -0.498857, -0.497912, -0.510927),
    6: (-37.846772, -37.845355, -37.844411, -37.861317),
    7: (-54.583861, -54.582445, -54.581501, -54.598897),
    8: (-75.064579, -75.063163, -75.062219, -75.079532),
    9: (-99.718730, -99.717314, -99.716370, -99.733544),
}
"""U0, U, H, G of an atom by its number, hartree: the data set's ``atomref.txt``."""

OTHER_ORDER = {
    "23": (2, 1, 0, 3),
    "24": (2, 0, 1, 3),
    "486": (4, 2, 1, 0, 3, 5),
    "52466": (8, 7, 6, 5, 4, 3, 2, 1, 0),
    "59818": (2, 1, 3, 0, 4, 5, 6, 7, 8),
    "133487": (8, 7, 0, 1, 2, 3, 4, 5, 6),
}
"""The molecules of qm9pack whose atoms are not in the order of their SMILES, by ``Index``: which
of the geometry's atoms, hydrogen left out, is that of the SMILES. Found by distances and valences,
and unique up to a molecule's symmetry."""

KINDS = {"=": 2, "#": 3}
_SMILES = re.compile(r"\[[^]]*\]|[A-Z]|[=#()]|\d")

Bonds = list[tuple[int, int, int]]
"""Two atoms and the bond's kind: 1 single, 2 double, 3 triple, 4 aromatic."""


class Molecule(NamedTuple):
    """Atomic numbers, positions ``(n, 3)`` in angstrom, bonds, targets in the units above."""

    numbers: Sequence[int]
    positions: NDArray[np.floating[Any]]
    bonds: Bonds
    targets: Sequence[float]


def arrays(molecules: Iterable[Molecule]) -> Arrays:
    """Molecules in memory, 1.2 kB each.

    Returns:
        ``atoms`` ``(N, 29, 42)`` uint8, zeros where there is no atom: the bytes of its position,
        three float32, its number, the kinds of its bonds with all 29, 0 where there is none; and
        ``targets`` ``(N, 11)`` float32.
    """
    atoms, targets = list[NDArray[np.uint8]](), list[Sequence[float]]()
    for molecule in molecules:
        n = len(molecule.numbers)
        one = np.zeros((ATOMS, 13 + ATOMS), np.uint8)
        one[:n, :12] = np.ascontiguousarray(molecule.positions, "<f4").view(np.uint8)
        one[:n, 12] = molecule.numbers
        for i, j, kind in molecule.bonds:
            one[i, 13 + j] = one[j, 13 + i] = kind
        atoms.append(one)
        targets.append(molecule.targets)
    return {"atoms": np.stack(atoms), "targets": np.array(targets, np.float32)}


def atomization(numbers: Sequence[int], energies: Sequence[float]) -> list[float]:
    """U0, U, H, G of a molecule, hartree, less those of its free atoms: negative, in eV."""
    return [
        (energy - sum(FREE_ATOMS[number][i] for number in numbers)) * HARTREE
        for i, energy in enumerate(energies)
    ]


def smiles_bonds(smiles: str) -> tuple[list[str], Bonds]:
    """Elements and bonds of a SMILES string that has no aromatic atoms; hydrogen is left out."""
    elements, bonds = list[str](), Bonds()
    branches, rings = list[int](), dict[str, tuple[int, int]]()
    last, kind = -1, 1
    for part in _SMILES.findall(smiles):
        if part in KINDS:
            kind = KINDS[part]
        elif part == "(":
            branches.append(last)
        elif part == ")":
            last = branches.pop()
        elif part.isdecimal() and part not in rings:
            rings[part], kind = (last, kind), 1
        elif part.isdecimal():
            start, opened = rings.pop(part)
            bonds.append((start, last, max(kind, opened)))
            kind = 1
        else:
            elements.append(part.strip("[")[0])
            if last >= 0:
                bonds.append((last, len(elements) - 1, kind))
            last, kind = len(elements) - 1, 1
    return elements, bonds


def from_qm9pack(folder: Path) -> Iterator[Molecule]:
    """Molecules of the package qm9pack: its three tables of geometries, SMILES and properties.

    Atoms that are not hydrogen come in the order of the SMILES, which says their bonds, of rings
    too alternately single and double; a hydrogen is bonded to the nearest of them.

    Raises:
        UserError: where a SMILES has other atoms than the geometry.
    """
    energies = (
        *("InternalEnergy_0K_au", "InternalEnergy_298K_au"),
        *("Enthalphy_298K_au", "GibbsFreeEnergy_298K_au"),
    )
    for part in (1, 2, 3):
        with (folder / f"qm9_part{part}.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                symbols = re.findall("[A-Z]", row["Elements"])
                numbers = [ELEMENTS[symbol] for symbol in symbols]
                places = np.array(re.findall(r"[^][, ]+", row["XYZ_Ang"]), float).reshape(-1, 3)
                yield Molecule(
                    numbers,
                    places,
                    _bonds(row["SMILES"], symbols, places, OTHER_ORDER.get(row["Index"])),
                    [
                        float(row["Dipole_debye"]),
                        float(row["Polarizability_bohr3"]),
                        float(row["HOMO_au"]) * HARTREE,
                        float(row["LUMO_au"]) * HARTREE,
                        float(row["R2_bohr2"]),
                        float(row["ZPVE_au"]) * HARTREE,
                        *atomization(numbers, [float(row[name]) for name in energies]),
                        float(row["Heatcapacity_Cv_cal_mol_K"]),
                    ],
                )


def _bonds(
    smiles: str, symbols: list[str], places: NDArray[np.float64], order: Sequence[int] | None
) -> Bonds:
    elements, bonds = smiles_bonds(smiles)
    heavy = [i for i, symbol in enumerate(symbols) if symbol != "H"]
    if order is not None:
        heavy = [heavy[i] for i in order]
    if elements != [symbols[i] for i in heavy]:
        raise UserError(f"qm9pack: {smiles} has other atoms than {''.join(symbols)}")
    hydrogens = [i for i, symbol in enumerate(symbols) if symbol == "H"]
    apart = np.square(places[hydrogens][:, None] - places[heavy]).sum(-1)
    return [
        *((heavy[i], heavy[j], kind) for i, j, kind in bonds),
        *((i, heavy[j], 1) for i, j in zip(hydrogens, apart.argmin(1).tolist(), strict=True)),
    ]


def from_gdb9(folder: Path) -> Iterator[Molecule]:
    """Molecules of MoleculeNet's raw files, which torch_geometric reads, with the bonds of the SDF.

    Its tables have the energies of atomisation themselves, in kcal/mol.
    """
    lines = (folder / "uncharacterized.txt").read_text("utf-8").split("\n")
    left_out = {int(line.split()[0]) - 1 for line in lines[9:-2]}
    with (
        (folder / "gdb9.sdf").open(encoding="utf-8") as structures,
        (folder / "gdb9.sdf.csv").open(newline="", encoding="utf-8") as table,
    ):
        for i, (row, block) in enumerate(
            zip(csv.DictReader(table), _blocks(structures), strict=True)
        ):
            if i in left_out:
                continue
            n, n_bonds = int(block[3][:3]), int(block[3][3:6])
            atoms, bonds = block[4 : 4 + n], block[4 + n : 4 + n + n_bonds]
            hartree = [float(row[name]) * HARTREE for name in ("homo", "lumo", "zpve")]
            kcal = ("u0_atom", "u298_atom", "h298_atom", "g298_atom")
            yield Molecule(
                [ELEMENTS[line[31:34].strip()] for line in atoms],
                np.array([line[:30].split() for line in atoms], float),
                [(int(b[:3]) - 1, int(b[3:6]) - 1, int(b[6:9])) for b in bonds],
                [
                    *(float(row["mu"]), float(row["alpha"]), *hartree[:2]),
                    *(float(row["r2"]), hartree[2]),
                    *(float(row[name]) * KCAL_PER_MOL for name in kcal),
                    float(row["cv"]),
                ],
            )


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block = list[str]()
    for line in lines:
        if line.startswith("$$$$"):
            yield block
            block = []
        else:
            block.append(line)
