"""Deliberate faults in what computes a run: name, file, edits, the test that catches it."""

from __future__ import annotations

Entry = tuple[str, str, tuple[tuple[str, str], ...], str]

_OPTIMISATION = "tests/training/test_optimisation.py::"
_TESTED = "tests/training/test_tested.py::"
_TRAINING = "src/retable/training/"

ENTRIES: list[Entry] = [
    (
        "every evaluation of a loss metered",
        "src/retable/papers/base.py",
        (("if meter.evaluated == evaluated:", "if meter.evaluated == ():"),),
        f"{_OPTIMISATION}test_a_loss_that_is_evaluated_several_times_is_metered_once[sam]",
    ),
    (
        "schedule not stepped in manual optimisation",
        f"{_TRAINING}schedules.py",
        (('        self.schedule.step("epoch")\n', "        return\n"),),
        f"{_OPTIMISATION}test_manual_optimisation_with_a_schedule_is_the_automatic_one",
    ),
    (
        "state of an inner optimiser lost at a stop",
        f"{_TRAINING}checkpointing.py",
        (("self._nested.load_state_dict(self._resumed_nested)", "pass"),),
        f"{_OPTIMISATION}test_the_state_of_an_optimiser_inside_of_another_survives_a_stop",
    ),
    (
        "weights of the row before tested again",
        f"{_TRAINING}execute.py",
        (("if len(tested) > 1:", "if len(tested) > 9:"),),
        f"{_TESTED}test_each_row_is_the_run_that_tests_those_weights_only",
    ),
    (
        "id of an image counted after the split",
        "src/retable/data/modules.py",
        (
            (
                "items(pool[train], labels[train], train)",
                "items(pool[train], labels[train], torch.arange(len(train)))",
            ),
        ),
        "tests/data/test_image_options.py::"
        "test_ids_say_which_image_it_is_whatever_the_order_and_the_split",
    ),
    (
        "artefacts left out of what two records have to share",
        "src/retable/runs/records.py",
        (('            **({"artifacts": self.artifacts} if self.artifacts else {}),\n', ""),),
        "tests/runs/test_artifacts.py::test_records_with_other_artefacts_are_not_equal",
    ),
]
