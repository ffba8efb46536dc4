"""Who may say how and where runs are launched: the command line and profiles, nobody else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.config.schema import ClusterConfig
from retable.launch.slurm.job_arrays import Needs
from retable.tables import grid, spec
from retable.util import paths
from retable.util.errors import UserError

ON = ("launcher=slurm", "cluster=dev")
EVIL = "setup: [touch /tmp/owned], name: evil"


@pytest.fixture
def extra(tmp_path, monkeypatch):
    folder = tmp_path / "extra"
    shutil.copytree(Path(__file__).parents[1] / "extra", folder)
    monkeypatch.setenv("RETABLE_EXTRA", str(folder))
    return folder


def composed(*overrides, experiment="digits/smoke"):
    with hydra_ready():
        return compose([f"experiment={experiment}", "seed=0", *overrides])


def write_experiment(extra, text, defaults=""):
    path = extra / "conf" / "experiment" / "digits" / "evil.yaml"
    path.write_text(
        f"# @package _global_\ndefaults:\n  - /experiment/digits/smoke\n{defaults}{text}\n"
    )


@pytest.mark.parametrize("name", paths.config_names("cluster"))
def test_every_shipped_profile_is_valid(name):
    config = composed("launcher=slurm", f"cluster={name}")
    assert isinstance(config.cluster, ClusterConfig)
    assert config.cluster.name == name
    assert config.cluster.signal_s < config.cluster.minutes * 60


def test_without_a_profile_the_message_names_them():
    with pytest.raises(UserError, match=r"launcher: slurm needs cluster=.*\(dev, example\)"):
        composed("launcher=slurm")
    with pytest.raises(UserError, match="no cluster 'deb'; did you mean 'dev'"):
        composed("launcher=slurm", "cluster=deb")


def test_a_profile_does_not_touch_the_identity():
    from retable.runs.identity import run_key

    assert run_key(composed(*ON, "resources.minutes=7")) == run_key(composed())


@pytest.mark.parametrize(
    ("text", "defaults", "section", "line"),
    [
        (f"cluster: {{{EVIL}}}", "", "cluster", 4),
        ("launcher: {name: slurm}", "", "launcher", 4),
        ("paper: digits", "  - override /cluster: example\n", "cluster", 4),
        ("paper: digits", "  - override /launcher: slurm\n", "launcher", 4),
        ("paper: digits", "  - /cluster@_global_: dev\n", "cluster", 4),
        ("paper: digits", "  - /data@cluster: mnist\n", "cluster", 4),
        ("paper: digits", "  - /data@_global_.cluster: mnist\n", "cluster", 4),
    ],
)
def test_an_experiment_that_says_how_to_launch_is_refused(extra, text, defaults, section, line):
    write_experiment(extra, text, defaults)
    with pytest.raises(UserError) as caught:
        composed(experiment="digits/evil")
    assert f"evil.yaml, line {line}: " in str(caught.value)
    assert f"{section}: belongs on the command line" in str(caught.value)


def test_what_no_line_of_an_experiment_shows_is_refused_on_a_cluster(extra):
    """Hydra lets any file of a group write anywhere, which no look at the experiment finds."""
    (extra / "conf" / "data").mkdir()
    (extra / "conf" / "data" / "trap.yaml").write_text(
        f"# @package _global_\ncluster: {{{EVIL}}}\n"
    )
    write_experiment(extra, "paper: digits", "  - /data: trap\n")
    with pytest.raises(UserError, match=r"cluster: belongs on the command line .*evil\.yaml"):
        composed(*ON, experiment="digits/evil")
    # The command line may say all of it.
    setup = "cluster.setup=[module load x]"
    assert composed(*ON, setup).cluster.setup == ["module load x"]


@pytest.mark.parametrize(
    "override",
    ["cluster=example", "cluster.setup=[x]", "++launcher.workers=3", "data@cluster=mnist",
     "~cluster", "launcher={name: slurm}"],
)  # fmt: skip
@pytest.mark.parametrize("part", ["row", "column"])
def test_a_table_that_says_how_to_launch_is_refused(extra, override, part):
    path = extra / "conf" / "table" / "digits" / "accuracy.yaml"
    text = path.read_text()
    if part == "row":
        text = text.replace("slow: [model", f'slow: ["{override}", model')
    else:
        text = text.replace("title: Loss,", f'title: Loss, overrides: ["{override}"],')
    path.write_text(text)
    with pytest.raises(UserError, match=r"accuracy\.yaml, line \d+: .*belongs on the command line"):
        spec.load("digits/accuracy")


def test_a_table_may_say_what_its_runs_need(extra):
    path = extra / "conf" / "table" / "digits" / "accuracy.yaml"
    path.write_text(path.read_text().replace("slow: [model", "slow: [resources.cpus=3, model"))
    planned = grid.plan("digits/accuracy", overrides=ON)
    cpus = {row: Needs.of(cell.setting).cpus for (row, _), cell in planned.cells.items()}
    assert cpus == {"slow": 3, "fast": 1}


def test_the_tables_cifar_and_svhn_cells_ask_for_a_gpu_and_the_others_do_not():
    planned = grid.plan("binary_connect/table2", overrides=ON)
    gpus = {column: set() for _, column in planned.cells}
    for (_, column), cell in planned.cells.items():
        gpus[column].add(Needs.of(cell.setting).gpus)
    assert gpus == {"mnist": {0}, "cifar10": {1}, "svhn": {1}}


@pytest.mark.parametrize(
    "name", [n for n in paths.config_names("experiment") if n.endswith(("_smoke", "_reduced"))]
)
def test_what_takes_seconds_or_minutes_needs_no_gpu(name):
    config = composed(experiment=name)
    assert (config.resources.gpus, config.device.accelerator) == (0, "cpu")
