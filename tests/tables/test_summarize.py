"""Settings of an experiment summarized: the numbers, the grouping, and what is said beside them."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from retable.config.schema import RunConfig
from retable.report.sweep_summary import as_json, as_text, short_names, statistic_text
from retable.runs.config_keys import flatten
from retable.runs.records import Status
from retable.tables.summarize import Address, Statistic, code_of, summarize
from retable.util.errors import UserError
from support.records import PROVENANCE, config_of, leave, record_of

LOSS = Address("test/loss")


def no_warning(text):
    raise AssertionError(text)


def summary_of(runs, *by, **more):
    return summarize("digits/base", runs, no_warning, by=by, **more)


def grid(runs, **changes):
    """Three seeds of lr 0.1, 0.5 and 10; the loss is 100 lr + seed."""
    for lr, seed in itertools.product((10, 0.5, 0.1), range(3)):
        config = config_of(seed, model__optimizer__lr=lr, **changes)
        leave(runs, record_of(config, {"test/loss": 100 * lr + seed}))


def test_mean_std_and_n_by_key_in_order_of_the_numbers(runs):
    grid(runs)
    found = summary_of(runs, "model.optimizer.lr")
    assert [g.setting for g in found.groups] == [
        {"model.optimizer.lr": lr} for lr in (0.1, 0.5, 10)
    ]
    assert [g.statistics[LOSS] for g in found.groups] == [
        Statistic(11, 1, 3),
        Statistic(51, 1, 3),
        Statistic(1001, 1, 3),
    ]
    assert all((g.n, g.settings, g.differs, g.seeds) == (3, 1, [], [0, 1, 2]) for g in found.groups)


def test_without_keys_everything_that_varies_besides_the_seed_is_taken(runs):
    grid(runs)
    leave(runs, record_of(config_of(0, model__optimizer__lr=0.1, trainer__max_epochs=8)))
    found = summary_of(runs)
    assert found.by == ["model.optimizer.lr", "trainer.max_epochs"]
    assert "all that varies" in found.notes[0]
    assert len(found.groups) == 4
    assert all(g.settings == 1 for g in found.groups)


def test_one_setting_is_one_group(runs):
    for seed in range(3):
        leave(runs, record_of(config_of(seed), {"test/loss": seed}))
    found = summary_of(runs)
    assert (found.by, len(found.groups), found.groups[0].n) == ([], 1, 3)
    assert "differ in the seed at most" in as_text(found)


def test_a_group_that_mixes_settings_says_how_many_and_in_which_keys(runs):
    grid(runs)
    grid(runs, trainer__max_epochs=8)
    found = summary_of(runs, "model.optimizer.lr")
    first = found.groups[0]
    assert (first.n, first.settings, first.differs) == (6, 2, ["trainer.max_epochs"])
    # Two runs of the same seed count by themselves.
    assert first.seeds == [0, 0, 1, 1, 2, 2]
    assert len(set(first.keys)) == 6
    assert first.statistics[LOSS].n == 6
    text = as_text(found)
    assert "3 of 3 groups mix runs that also differ in trainer.max_epochs" in text
    assert ["lr", "n", "settings", "test/loss"] in [line.split() for line in text.splitlines()]


def test_runs_that_did_not_end_well_are_counted_beside_and_never_in_the_mean(runs):
    grid(runs)
    for seed, status in enumerate(
        (Status.DIVERGED, Status.FAILED, Status.INTERRUPTED, Status.FAILED), start=10
    ):
        config = config_of(seed, model__optimizer__lr=0.1)
        leave(runs, record_of(config, {"test/loss": 1e9}, status=status))
    group = summary_of(runs, "model.optimizer.lr").groups[0]
    assert group.statistics[LOSS] == Statistic(11, 1, 3)
    assert group.marks() == ["diverged 1", "failed 2", "interrupted 1", "stale"]


def test_a_group_in_which_no_run_is_done_has_no_numbers(runs):
    grid(runs)
    leave(runs, record_of(config_of(0, model__optimizer__lr=99), status=Status.DIVERGED))
    found = summary_of(runs, "model.optimizer.lr")
    last = found.groups[-1]
    assert (last.n, last.settings, last.statistics[LOSS]) == (0, 0, Statistic(None, None, 0))
    (line,) = [x for x in as_text(found).splitlines() if "diverged 1" in x and "99" in x]
    assert line.split() == ["99", "0", "–", "diverged", "1"]


def test_a_number_that_some_runs_lack_shows_as_n_of_all(runs):
    for seed, value in enumerate((1.0, 2.0, None, None)):
        numbers = {"test/loss": 0.0} | ({} if value is None else {"test/extra": value})
        leave(runs, record_of(config_of(seed), numbers))
    found = summary_of(runs)
    assert found.groups[0].statistics[Address("test/extra")] == Statistic(1.5, math.sqrt(0.5), 2)
    assert "1.50 ± 0.71 (2/4)" in as_text(found)


def test_rows_and_steps_are_addresses_of_their_own(runs):
    numbers = {("test/n", "improved", None): 1, ("test/n", "improved", 3): 2, ("test/n", "", 0): 3}
    leave(runs, record_of(config_of(0), numbers))
    found = summary_of(runs)
    assert [a.label for a in found.addresses] == [
        "test/n [0]", "improved test/n", "improved test/n [3]",
    ]  # fmt: skip
    one = summary_of(runs, metrics=["improved test/n [3]"])
    assert [a.label for a in one.addresses] == ["improved test/n [3]"]
    assert as_json(found)["groups"][0]["metrics"][2] == {
        "metric": "test/n", "result_row": "improved", "step": 3, "mean": 2.0, "std": None, "n": 1,
    }  # fmt: skip


def test_validated_numbers_are_there_too(runs):
    leave(runs, record_of(config_of(0), {"test/loss": 1}, validation={"val/loss": 2.0}))
    assert [a.label for a in summary_of(runs).addresses] == ["test/loss", "val/loss"]


def test_stale_records_and_mixed_devices_and_times_are_marked(runs):
    present = code_of(record_of(config_of(0)))
    timed = {"timing_metrics": ["test/ms"], "fingerprint": present}
    for seed, device in enumerate(("cpu", "cpu", "cuda")):
        leave(runs, record_of(config_of(seed), {"test/ms": 1}, device=device, **timed))
    group = summary_of(runs).groups[0]
    assert group.marks() == ["2 cpu + 1 cuda", "mixed times"]
    leave(runs, record_of(config_of(9), {"test/ms": 1}))
    assert summary_of(runs).groups[0].marks()[0] == "stale 1"
    assert "stale: computed by other code than the present" in summary_of(runs).notes


def test_times_of_one_machine_are_not_marked_and_other_numbers_never(runs):
    other = structs.replace(PROVENANCE, cpu="another")
    for seed, provenance in enumerate((PROVENANCE, other)):
        numbers = {"test/ms": 1, "test/loss": 1}
        more = {"timing_metrics": ["test/ms"], "provenance": provenance}
        leave(runs, record_of(config_of(seed), numbers, **more))
    assert "mixed times" in summary_of(runs).groups[0].marks()
    assert "mixed times" not in summary_of(runs, metrics=["test/loss"]).groups[0].marks()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": ["model.optimiser.lr"]}, "did you mean 'model.optimizer.lr'"),
        ({"by": ["lr"]}, "did you mean 'model.optimizer.lr'"),
        ({"by": ["trainer.checkpoint_every_n_epochs"]}, "no run of digits/base has this key"),
        ({"metrics": ["test/los"]}, "did you mean 'test/loss'"),
    ],
)
def test_an_unknown_key_or_metric_is_refused_with_the_nearest(runs, options, message):
    grid(runs)
    with pytest.raises(UserError, match=message):
        summarize("digits/base", runs, no_warning, **options)


def test_no_experiment_no_runs_and_runs_without_a_record(runs):
    with pytest.raises(UserError, match="did you mean 'digits/base'"):
        summarize("digits/bas", runs, no_warning)
    with pytest.raises(UserError, match="retable train -m experiment=digits/base"):
        summary_of(runs)
    grid(runs)
    with pytest.raises(UserError, match=r"no runs in .*; start some"):
        summarize("digits/smoke", runs, no_warning)
    # A run that goes on is no record yet, and belongs to what it was frozen for.
    for key, name in (("a" * 64, "digits/base"), ("b" * 64, "digits/base_of_another")):
        folder = runs / "digits" / key
        folder.mkdir()
        (folder / "config.yaml").write_text(f"config:\n  experiment: {name}\n")
    found = summary_of(runs)
    assert found.waiting == 1
    assert "1 run has no record yet" in found.notes[-1]


def test_a_broken_record_is_named_and_its_attempt_speaks(runs):
    folder = leave(runs, record_of(config_of(0), {"test/loss": 1}))
    (folder / "record.json").unlink()
    (folder / "record.json").write_text("{broken")
    said = []
    assert summarize("digits/base", runs, said.append).groups[0].n == 1
    assert len(said) == 1
    assert str(folder / "record.json") in said[0]


def test_a_field_that_came_later_is_at_its_default(runs):
    old, new = config_of(0), config_of(1, trainer__precision="32-true")
    new["trainer"].pop("checkpoint_every_n_epochs")
    leave(runs, record_of(old))
    leave(runs, record_of(new))
    assert summary_of(runs).by == []
    leave(runs, record_of(config_of(2, trainer__precision="64-true")))
    found = summary_of(runs)
    assert found.by == ["trainer.precision"]
    assert [(g.setting["trainer.precision"], g.n) for g in found.groups] == [
        ("32-true", 2), ("64-true", 1),
    ]  # fmt: skip


def test_everything_that_the_schema_records_is_known_by_its_key():
    from retable.config.compose import compose, hydra_ready
    from retable.runs.frozen import recorded

    with hydra_ready():
        config = recorded(compose(["experiment=digits/smoke", "seed=0"]))
    flat = flatten(config)
    assert flat["trainer.max_epochs"] == 1
    assert flat["model.optimizer.lr"] == 0.1
    assert "trainer.checkpoint_every_n_epochs" not in flat
    assert {key.partition(".")[0] for key in flat} == {
        name for name in config if name in RunConfig.model_fields
    }


def test_values_that_python_takes_for_equal_are_different_settings(runs):
    for index, value in enumerate((0, 1, True, False, "1", None, [1], [2], "net9", "net10")):
        config = config_of(index, model__width=value)
        leave(runs, record_of(config, {"test/loss": 1}))
    leave(runs, record_of(config_of(99), {"test/loss": 1}))
    found = summary_of(runs, "model.width")
    values = [g.setting.get("model.width", "absent") for g in found.groups]
    assert [repr(v) for v in values] == [
        "'absent'", "None", "False", "True", "0", "1", "'1'", "[1]", "[2]", "'net9'", "'net10'",
    ]  # fmt: skip


def test_a_mapping_that_is_empty_elsewhere_is_shown_by_what_is_in_it(runs):
    stop = {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "patience": 3}
    leave(runs, record_of(config_of(0)))
    leave(runs, record_of(config_of(0, callbacks__stop=stop)))
    found = summary_of(runs)
    assert found.by == ["callbacks.stop._target_", "callbacks.stop.patience"]
    assert found.groups[0].setting == {}


def test_a_wide_table_goes_on_below_with_the_same_settings(runs):
    for lr in (0.1, 0.2):
        numbers = {f"test/quite_a_long_name_{i}": lr + i for i in range(9)}
        leave(runs, record_of(config_of(0, model__optimizer__lr=lr), numbers))
    text = as_text(summary_of(runs))
    heads = [line for line in text.splitlines() if line.lstrip().startswith("lr ")]
    assert len(heads) == 3
    assert all(len(line) <= 100 for line in text.splitlines()[1:])  # above: the folder
    assert sum(line.count("test/quite_a_long_name_") for line in heads) == 9


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (0.91234, 0.0123, "0.912 ± 0.012"),
        (17.5234, 9.03, "17.5 ± 9.0"),
        (1234.5, 25.4, "1234 ± 25"),
        (2.0, 0.0, "2 ± 0"),
        (0.123456789, None, "0.123457"),
        (3.1e-12, 2e-13, "3.100e-12 ± 2.0e-13"),
        (0.5, 1e-9, "5.000e-01 ± 1.0e-09"),
        (-4e7, 1e6, "-4.000e+07 ± 1.0e+06"),
        (0.0, 0.5, "0.00 ± 0.50"),
    ],
)
def test_numbers_are_shown_to_two_digits_of_their_spread(mean, std, text):
    assert statistic_text(Statistic(mean, std, 3), 3) == text


def test_headings_are_the_shortest_endings_that_tell_keys_apart():
    assert short_names(["model.lr", "data.lr", "data.n", "trainer.max_epochs", "seed"]) == {
        "model.lr": "model.lr",
        "data.lr": "data.lr",
        "data.n": "data.n",  # `n` is the number of runs
        "trainer.max_epochs": "max_epochs",
        "seed": "seed",
    }


RUN = st.tuples(
    st.integers(0, 3), st.sampled_from([None, 8, 16]), st.sampled_from([0.1, 0.5]),
    st.floats(-1e6, 1e6), st.sampled_from([Status.DONE, Status.DONE, Status.DIVERGED]),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(RUN, min_size=1, max_size=12, unique_by=lambda r: r[:3]), st.booleans())
def test_it_agrees_with_counting_by_hand(made, by_both):
    keys = ["data.noise", "model.hidden"] if by_both else ["data.noise"]
    groups: dict[tuple, list] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, hidden, noise, value, status in made:
            config = config_of(seed, data__noise=noise)
            config["model"].pop("hidden")
            if hidden is not None:
                config["model"]["hidden"] = hidden
            leave(Path(folder), record_of(config, {"test/loss": value}, status=status))
            place = (noise, hidden) if by_both else (noise,)
            groups.setdefault(place, []).append((hidden, value, status))
        if by_both and all(hidden is None for _, hidden, *_ in made):
            keys = ["data.noise"]
        found = summarize("digits/base", Path(folder), no_warning, by=keys)
    expected = sorted(groups.items(), key=lambda item: [v or 0 for v in item[0]])
    assert len(found.groups) == len(expected)
    for group, (place, members) in zip(found.groups, expected, strict=True):
        assert [group.setting.get(key) for key in keys] == list(place[: len(keys)])
        done = [(hidden, value) for hidden, value, status in members if status is Status.DONE]
        values = [value for _, value in done]
        assert group.n == len(values)
        assert group.statuses[Status.DIVERGED] == len(members) - len(values)
        assert group.settings == len({hidden for hidden, _ in done})
        number = group.statistics.get(LOSS)
        if not values:
            assert number.mean is None
            continue
        assert number.mean == pytest.approx(statistics.fmean(values), rel=1e-12, abs=1e-9)
        if len(values) > 1:
            assert number.std == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)
        else:
            assert number.std is None
    json.dumps(as_json(found))
    assert as_text(found)


def test_curves_are_shown_when_asked_for():
    from retable.tables.summarize import Address, _chosen

    known = [Address("test/loss"), *(Address("curve", step=i) for i in range(13))]
    assert _chosen(known, []) == [Address("test/loss")]
    assert len(_chosen(known, ["curve"])) == 13
    assert len(_chosen(known[1:], [])) == 13
