"""A config printed before anything is launched."""

from __future__ import annotations

import pytest
import yaml

from retable.launch.dispatch import launch
from retable.report.composed import composed_text
from retable.util.errors import UserError
from support.runs import freeze

SMOKE = ["experiment=digits/smoke", "seed=0"]


def test_a_job_is_printed_with_its_key_and_what_there_is_of_it(fake):
    run = freeze()
    text = composed_text(SMOKE)
    assert text.splitlines()[:3] == [
        f"# key: {run.key}",
        f"# folder: {run.folder}",
        "# state: not run",
    ]
    assert yaml.safe_load(text) == run.config.model_dump(mode="json")
    launch([run])
    assert "# state: done\n" in composed_text(SMOKE)
    other = composed_text([*SMOKE, "model.hidden=8"])
    assert yaml.safe_load(other)["model"]["hidden"] == 8
    assert "# state: not run" in other


def test_of_a_sweep_the_first_job_is_printed():
    text = composed_text([*SMOKE[:1], "seed=3,4", "model.hidden=8,16"], multirun=True)
    assert text.startswith("# the first of 4 jobs\n# key: ")
    config = yaml.safe_load(text)
    assert (config["seed"], config["model"]["hidden"]) == (3, 8)
    sweep = [*SMOKE[:1], "seed=3,4"]
    config = yaml.safe_load(composed_text(sweep, part="hydra", multirun=True))
    assert "++seed=3" in config["overrides"]["task"]


def test_hydra_s_own_settings():
    config = yaml.safe_load(composed_text(SMOKE, part="hydra"))
    assert config["launcher"]["_target_"] == "hydra_plugins.retable_launcher.RetableLauncher"
    assert config["runtime"]["choices"]["experiment"] == "digits/smoke"


@pytest.mark.parametrize(
    ("overrides", "part", "message"),
    [
        (SMOKE, "all", "--cfg: no 'all'; valid: job, hydra"),
        (SMOKE[:1], "job", "seed: is missing"),
        ([*SMOKE, "model.hiden=8"], "hydra", "did you mean 'hidden'"),
        ([*SMOKE, "model.hidden=8,16"], "job", "multirun|-m"),
    ],
)
def test_what_composes_no_run_is_refused(overrides, part, message):
    with pytest.raises(UserError, match=message):
        composed_text(overrides, part=part)
