"""What one launch cannot do is refused before any of its runs begins."""

from __future__ import annotations

import pytest

from retable.launch.checks import check_together
from retable.runs import provenance
from retable.util.errors import UserError
from support.runs import freeze

ON = ("launcher=slurm", "cluster=dev")
HALF = "trainer.precision=16-mixed"


@pytest.mark.parametrize(
    "options",
    [
        ("device.accelerator=cpu",),
        ("device.accelerator=auto",),
        (*ON, "device.accelerator=cpu"),
        (*ON, "device.accelerator=auto"),
    ],
)
def test_half_precision_is_not_computed_as_another_one(options, monkeypatch):
    """On a processor Lightning takes bfloat16 for 16-mixed; the record would say 16-mixed."""
    monkeypatch.setattr(provenance, "gpu", lambda: (None, None))
    with pytest.raises(UserError, match="16-mixed needs a GPU"):
        check_together([freeze(*options), freeze(HALF, *options, seed=1)])
    check_together([freeze("trainer.precision=bf16-mixed", *options)])


def test_half_precision_is_for_gpus(monkeypatch):
    monkeypatch.setattr(provenance, "gpu", lambda: ("a GPU", "1.0"))
    check_together([freeze(HALF, "device.accelerator=auto")])
    check_together([freeze(HALF, *ON, "device.accelerator=auto", "resources.gpus=1")])
    with pytest.raises(UserError, match="16-mixed needs a GPU"):  # it is there and not asked for
        check_together([freeze(HALF, "device.accelerator=cpu")])
