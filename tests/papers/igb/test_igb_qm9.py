"""Molecules as tasks: files and units, splits and batches, the network by hand, a run."""

from __future__ import annotations

import csv
import importlib.util
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.config.compose import compose, hydra_ready
from retable.data.arrays import checksum
from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.papers.igb.data_qm9 import GeneratedMolecules, Qm9
from retable.papers.igb.module_qm9 import Molecules
from retable.papers.igb.network_qm9 import EdgeConv, MessagePassing, Set2Set
from retable.papers.igb.qm9_files import (
    ENERGIES,
    FREE_ATOMS,
    HARTREE,
    TARGETS,
    arrays,
    from_gdb9,
    from_qm9pack,
    smiles_bonds,
)
from retable.training.checkpointing import find_resume
from retable.training.execute import Context, execute
from retable.util.errors import UserError

CH4 = [(0.0, 0.0, 0.0), (0.63, 0.63, 0.63), (-0.63, -0.63, 0.63), (-0.63, 0.63, -0.63)]
HCCCN = [(0.0151, 0, 1), (1.3823, 0, 1), (-1.1886, 0, 1), (-2.2518, 0, 1), (2.543, 0, 1)]
FIELDS = (
    *("Index", "SMILES", "Elements", "XYZ_Ang", "Dipole_debye", "Polarizability_bohr3", "HOMO_au"),
    *("LUMO_au", "R2_bohr2", "ZPVE_au", "InternalEnergy_0K_au", "InternalEnergy_298K_au"),
    *("Enthalphy_298K_au", "GibbsFreeEnergy_298K_au", "Heatcapacity_Cv_cal_mol_K"),
)
# What the data set has of methane, water and cyanoacetylene, in the units of the files.
MOLECULES = [
    (
        *("1", "C", "CHHHH", [*CH4, (0.63, -0.63, -0.63)], 0.0, 13.21, -0.3877, 0.1171),
        *(35.3641, 0.044749, -40.47893, -40.476062, -40.475117, -40.498597, 6.469),
    ),
    (
        *("3", "O", "OHH", [(0, 0, 0), (0.96, 0, 0), (-0.24, 0.93, 0)], 1.8511, 6.31, -0.2928),
        *(0.0687, 19.0002, 0.021375, -76.404702, -76.401867, -76.400922, -76.422349, 6.002),
    ),
    (
        *("24", "C#CC#N", "CCCHN", HCCCN, 3.792, 32.66, -0.3102, -0.0543, 260.1896, 0.027259),
        *(-169.557758, -169.553764, -169.55282, -169.581024, 12.93),
    ),
]
# Energies of atomisation in kcal/mol, as MoleculeNet's table has them.
KCAL = {
    "1": (-395.999594594, -398.643290011, -401.014646522, -372.471772148),
    "3": (-213.087624405, -213.974294369, -215.159657706, -201.407171167),
}


def paths(tmp_path, mirror=None):
    return DataPaths(tmp_path / "cache", mirror)


def write_qm9pack(folder):
    for part in (1, 2, 3):
        with (folder / f"qm9_part{part}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(FIELDS)
            index, smiles, elements, places, *numbers = MOLECULES[part - 1]
            table.writerow(
                [index, smiles, str(list(elements)), str([list(p) for p in places]), *numbers]
            )


def write_gdb9(folder):
    """Methane, a molecule that is left out, and water."""
    folder.mkdir()
    lines = [*["-"] * 9, "     2  CO", "----", ""]
    (folder / "uncharacterized.txt").write_text("\n".join(lines))
    names = "mu alpha homo lumo r2 zpve u0_atom u298_atom h298_atom g298_atom cv"
    rows, blocks = [names.replace(" ", ",")], []
    for k in (0, 1, 1):
        index, _, elements, places, *numbers = MOLECULES[k]
        values = [*numbers[:6], *KCAL[index], numbers[-1]]
        rows.append(",".join(map(str, values)))
        atoms = [
            "".join(f"{c:10.4f}" for c in place) + f" {element}   0  0"
            for element, place in zip(elements, places, strict=True)
        ]
        bonds = [f"  1{i:3d}  1  0" for i in range(2, len(elements) + 1)]
        counts = f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000"
        blocks += ["gdb", " maker", "", counts, *atoms, *bonds, "M  END", "$$$$"]
    (folder / "gdb9.sdf.csv").write_text("\n".join(rows) + "\n")
    (folder / "gdb9.sdf").write_text("\n".join(blocks) + "\n")


def test_both_files_give_the_same_targets_in_the_units_of_the_paper(tmp_path):
    write_qm9pack(tmp_path)
    write_gdb9(tmp_path / "gdb9")
    methane, water, _ = packed = list(from_qm9pack(tmp_path))
    raw = list(from_gdb9(tmp_path / "gdb9"))
    assert [molecule.numbers for molecule in raw] == [[6, 1, 1, 1, 1], [8, 1, 1]]
    for one, other in zip((methane, water), raw, strict=True):
        assert one.targets == pytest.approx(other.targets, rel=1e-5)
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-4)
        assert {(*sorted(b[:2]), b[2]) for b in one.bonds} == set(other.bonds)
    found = dict(zip(TARGETS, packed[0].targets, strict=True))
    assert found["U0"] == pytest.approx(-17.1722, abs=1e-4)
    assert found["eps_HOMO"] == pytest.approx(-0.3877 * 27.211386246)
    assert (found["alpha"], found["R2"], found["cv"]) == (13.21, 35.3641, 6.469)
    assert found["U0"] > found["U"] > found["H"]
    assert found["G"] > found["U0"]


def test_free_atoms_are_those_of_torch_geometric():
    """Its ``QM9.atomref``, eV, of H, C, N, O and F: U0, U, H and G."""
    wanted = (
        (-13.61312172, -1029.86312267, -1485.30251237, -2042.61123593, -2713.48485589),
        (-13.5745904, -1029.82456413, -1485.26398105, -2042.5727046, -2713.44632457),
        (-13.54887564, -1029.79887659, -1485.2382935, -2042.54701705, -2713.42063702),
        (-13.90303183, -1030.25891228, -1485.71166277, -2043.01812778, -2713.88796536),
    )
    found = zip(*(FREE_ATOMS[number] for number in (1, 6, 7, 8, 9)), strict=True)
    for ours, theirs in zip(found, wanted, strict=True):
        assert [HARTREE * value for value in ours] == pytest.approx(theirs, abs=1e-3)


def test_bonds_are_short_where_atoms_are_not_in_the_order_of_the_smiles(tmp_path):
    write_qm9pack(tmp_path)
    *_, molecule = from_qm9pack(tmp_path)
    lengths = {
        kind: np.linalg.norm(molecule.positions[i] - molecule.positions[j])
        for i, j, kind in molecule.bonds
    }
    assert len(molecule.bonds) == 4
    assert max(lengths.values()) < 1.4
    assert lengths[3] == pytest.approx(1.16, abs=0.01)  # carbon and nitrogen


@pytest.mark.parametrize(
    ("smiles", "elements", "bonds"),
    [
        ("C", "C", set()),
        ("C#CC(=O)N", "CCCON", {(0, 1, 3), (1, 2, 1), (2, 3, 2), (2, 4, 1)}),
        ("C1CC=1", "CCC", {(0, 1, 1), (1, 2, 1), (0, 2, 2)}),
        ("C=1CC1", "CCC", {(0, 1, 1), (1, 2, 1), (0, 2, 2)}),
        ("[NH3+]C([O-])=O", "NCOO", {(0, 1, 1), (1, 2, 1), (1, 3, 2)}),
        ("C1C2C1O2", "CCCO", {(0, 1, 1), (1, 2, 1), (0, 2, 1), (2, 3, 1), (1, 3, 1)}),
        ("C1CC1C1CO1", "CCCCCO", {*((0, 1, 1), (1, 2, 1), (0, 2, 1), (2, 3, 1)),
                                  *((3, 4, 1), (4, 5, 1), (3, 5, 1))}),
    ],
)  # fmt: skip
def test_a_smiles_string_is_read(smiles, elements, bonds):
    found, pairs = smiles_bonds(smiles)
    assert "".join(found) == elements
    assert {(*sorted(pair[:2]), pair[2]) for pair in pairs} == bonds
    assert len(pairs) == len(bonds)


@pytest.mark.nightly  # its group of packages is no part of what CI installs
@pytest.mark.skipif(importlib.util.find_spec("qm9pack") is None, reason="needs qm9pack")
def test_every_atom_of_the_package_s_first_molecules_has_its_valence():
    spec = importlib.util.find_spec("qm9pack")
    valence = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1}
    for molecule in islice(from_qm9pack(Path(spec.submodule_search_locations[0]) / "data"), 200):
        bonded = np.zeros(len(molecule.numbers), int)
        for i, j, kind in molecule.bonds:
            bonded[[i, j]] += kind
        assert bonded.tolist() == [valence[number] for number in molecule.numbers]


def test_a_batch_has_the_features_atom_by_atom_and_zeros_for_padding(tmp_path):
    write_qm9pack(tmp_path)
    molecules = list(from_qm9pack(tmp_path))
    data = GeneratedMolecules(seed=0, paths=paths(tmp_path))
    x = data.as_inputs(torch.from_numpy(arrays(molecules)["atoms"]))
    assert x.shape == (3, 5, 11 + 5 * 5)
    expected = np.zeros(x.shape, np.float32)
    for b, molecule in enumerate(molecules):
        n = len(molecule.numbers)
        for i, number in enumerate(molecule.numbers):
            expected[b, i, [1, 6, 7, 8, 9].index(number)] = 1
            expected[b, i, 5] = number
            for j in range(n):
                apart = molecule.positions[i] - molecule.positions[j]
                expected[b, i, 11 + 5 * j + 4] = np.sqrt((apart**2).sum())
        for pair in molecule.bonds:
            for i, j in (pair[:2], pair[1::-1]):
                expected[b, i, 11 + 5 * j + pair[2] - 1] = 1
                expected[b, i, 10] += molecule.numbers[j] == 1
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)
    assert x[0, 0, 10] == 4  # hydrogens of methane's carbon


def generated(tmp_path, **options):
    data = GeneratedMolecules(seed=0, paths=paths(tmp_path), **options)
    data.setup("fit")
    return data


def test_the_split_is_disjoint_whole_and_of_the_seed(tmp_path):
    data = generated(tmp_path)
    parts = [data.train, data.validation, data.test]
    assert [len(part[0]) for part in parts] == [48, 24, 24]
    whole = {one.numpy().tobytes() for part in parts for one in part[0]}
    assert whole == {one.tobytes() for one in data.arrays()["atoms"]}
    fewer = generated(tmp_path, n_train=10)
    assert torch.equal(fewer.train[0], data.train[0][:10])
    assert torch.equal(fewer.test[0], data.test[0])
    other = GeneratedMolecules(seed=1, paths=paths(tmp_path))
    other.setup("fit")
    assert not torch.equal(other.test[0], data.test[0])
    with pytest.raises(UserError, match=r"data\.n_train: of 96 molecules 48 are left"):
        generated(tmp_path, n_train=49)


@pytest.mark.parametrize("standardise", ["all", "train"])
def test_targets_have_mean_0_and_deviation_1_over_what_was_asked(standardise, tmp_path):
    data = generated(tmp_path, standardise=standardise)
    raw = data.arrays()["targets"]
    for k, task in enumerate(TARGETS):
        parts = [data.train[1 + k], data.validation[1 + k], data.test[1 + k]]
        known = torch.cat(parts if standardise == "all" else parts[:1])
        assert float(known.mean()) == pytest.approx(0, abs=1e-5)
        assert float(known.std()) == pytest.approx(1, abs=1e-5)
        # A difference of two molecules comes back in the unit that is reported.
        order = np.sort(torch.cat(parts).numpy())
        span = (raw[:, k].max() - raw[:, k].min()) * (1000 if task in ENERGIES else 1)
        assert (order[-1] - order[0]) * data.units[task] == pytest.approx(span, rel=1e-4)


def test_files_of_the_mirror_are_read_once_and_by_their_checksum(tmp_path):
    with pytest.raises(DataUnavailable, match=r"data\.source: qm9/gdb9\.sdf: there is no mirror"):
        Qm9(seed=0, paths=paths(tmp_path), source="gdb9", checksum=None).prepare_data()
    write_gdb9(tmp_path / "qm9")
    expected = arrays(from_gdb9(tmp_path / "qm9"))
    with pytest.raises(UserError, match=checksum(expected)):
        Qm9(seed=0, paths=paths(tmp_path, tmp_path), source="gdb9", checksum=None).prepare_data()
    known = {"source": "gdb9", "checksum": checksum(expected)}
    Qm9(seed=0, paths=paths(tmp_path, tmp_path), **known).prepare_data()
    found = Qm9(seed=0, paths=paths(tmp_path), **known).arrays()  # without the mirror
    assert checksum(found) == checksum(expected)
    [file] = (tmp_path / "cache" / "qm9").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(DataUnavailable):
        Qm9(seed=0, paths=paths(tmp_path), **known).arrays()


def batch(seed, *sizes):
    """Random molecules, padded to the largest."""
    rng, n = torch.Generator().manual_seed(seed), max(sizes)
    x = torch.zeros(len(sizes), n, 11 + 5 * n)
    for b, size in enumerate(sizes):
        x[b, torch.arange(size), torch.randint(5, (size,), generator=rng)] = 1
        x[b, :size, 5:11] = torch.rand(size, 6, generator=rng)
        x[b, :size, 11 : 11 + 5 * size] = torch.rand(size, 5 * size, generator=rng)
    return x


def test_messages_are_means_of_each_pair_s_matrix_times_the_neighbour_s_state():
    torch.manual_seed(0)
    conv = EdgeConv(4, 6).double()
    torch.nn.init.normal_(conv.bias)
    edges, h = torch.rand(1, 3, 3, 5).double(), torch.rand(1, 3, 4).double()
    expected = torch.zeros(3, 4).double()
    for i in range(3):
        for j in {0, 1, 2} - {i}:
            matrix = conv.matrix(torch.relu(conv.hidden(edges[0, i, j]))).view(4, 4)
            expected[i] += h[0, j] @ matrix / 2
        expected[i] += conv.root.weight @ h[0, i] + conv.bias
    found = conv(h, conv.pairs(edges, torch.ones(1, 3, dtype=torch.bool)))
    torch.testing.assert_close(found[0], expected)


def test_set2set_reads_what_its_lstm_asks_for():
    torch.manual_seed(0)
    pool = Set2Set(4, 3)
    x = torch.rand(3, 4)
    state, star = (torch.zeros(1, 4), torch.zeros(1, 4)), torch.zeros(1, 8)
    for _ in range(3):
        state = pool.lstm(star, state)
        scores = [float(torch.exp(x[i] @ state[0][0].detach())) for i in range(3)]
        read = sum(score / sum(scores) * x[i] for i, score in enumerate(scores))
        star = torch.cat([state[0], read[None]], 1)
    padded = torch.cat([x, 9 * torch.ones(2, 4)])[None]
    torch.testing.assert_close(pool(padded, torch.tensor([[1, 1, 1, 0, 0]]).bool()), star)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.integers(2, 6), st.integers(0, 3))
def test_neither_padding_nor_the_order_of_atoms_matters(seed, size, more):
    torch.manual_seed(seed)
    net = MessagePassing(tasks={"a": 1, "b": 1}, width=8, edge_width=6)
    both = batch(seed, size, size + more)
    alone = both[:1, :size, : 11 + 5 * size]
    order = torch.randperm(size)
    edges = alone[..., 11:].view(1, size, size, 5)[:, order][:, :, order]
    permuted = torch.cat([alone[:, order, :11], edges.flatten(2)], 2)
    expected = net(alone)
    for task in ("a", "b"):
        torch.testing.assert_close(net(both)[task][:1], expected[task])
        torch.testing.assert_close(net(permuted)[task], expected[task])
    own = sum(len(p) for p in net.task_parameters().values())
    assert len(net.shared_parameters()) + own == len(list(net.parameters()))


def test_a_base_is_needed_for_every_task():
    with pytest.raises(ValueError, match=r"model\.base: has no 'b'"):
        Molecules(seed=0, tasks={"a": 1, "b": 1}, base={"a": 1.0}, network=MessagePassing)


@pytest.mark.slow
@pytest.mark.parametrize("losses", ["igbv1", "ls"])
def test_a_run_reports_errors_in_units_and_their_change_against_the_base(losses, tmp_path):
    with hydra_ready():
        made = compose(["experiment=igb/smoke_qm9", "seed=0", f"model.losses={losses}"])
    config = made.model_dump(mode="json")
    identity = {"key": "k", "fingerprint": "f", "device": "cpu"}
    tmp_path.mkdir(exist_ok=True)
    outcome = execute(config, Context(tmp_path, identity, find_resume((), identity, pytest.fail)))
    found = {r.metric: r.value for r in outcome.results}
    base = config["model"]["base"]
    assert list(base) == list(TARGETS)
    for stage, values in [("test", found), *(("val", row) for row in outcome.history)]:
        changes = [(values[f"{stage}/{task}/mae"] - base[task]) / base[task] for task in TARGETS]
        assert values[f"{stage}/delta_m"] == pytest.approx(100 * np.mean(changes), rel=1e-5)
        # An energy's error in meV is about a deviation of the targets, of which loss is in units.
        ratio = values[f"{stage}/U0/mae"] / generated(tmp_path).units["U0"]
        assert 0 < ratio < 1.01 * values[f"{stage}/loss_U0"] ** 0.5
    first, *_, last = (row["val/delta_m"] for row in outcome.history)
    assert last < first
