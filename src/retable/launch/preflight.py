"""Build what runs will build before any of them starts, to hear what its classes refuse.

The schema and the signatures have been checked by then; what is left are relations between options,
which a class states itself, and options that ``torch.optim`` refuses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from retable.papers.base import PaperModule
from retable.training.execute import build
from retable.util.errors import UserError, brief

BUDGET_S = 10.0
"""Settings that are not built by then are left to their runs."""

_KEYS = ("model.", "data.")
_OPTIMIZERS = str(Path(torch.optim.__file__).parent)


def first_refusal(configs: Sequence[dict[str, Any]]) -> tuple[int, str] | None:
    """Which of some validated configs is refused, and why; the first one that is.

    A refusal is a :class:`~retable.util.errors.UserError`, a :class:`ValueError` whose text begins
    with the key that is wrong (``model.k: ...``), or whatever an optimiser or scheduler of torch
    says of its options. Any other error is the run's, which leaves a traceback.
    """
    begin = time.monotonic()
    for index, config in enumerate(configs):
        if time.monotonic() - begin > BUDGET_S:
            break
        try:
            _, module = build(config)
            # One of its own may need the trainer.
            own = type(module).configure_optimizers is not PaperModule.configure_optimizers
            if "fit" in config["stages"] and not own:
                module.configure_optimizers()
        except Exception as error:
            if said := _refused(error):
                return index, brief(said, 600)
    return None


def _refused(error: Exception) -> str | None:
    # Hydra wraps what a constructor raises.
    if type(error).__name__ == "InstantiationException" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error)
    if isinstance(error, UserError) or (isinstance(error, ValueError) and text.startswith(_KEYS)):
        return text
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if isinstance(error, ValueError) and trace is not None:
        raised_in = trace.tb_frame.f_code
        if raised_in.co_filename.startswith(_OPTIMIZERS):
            which = "scheduler" if "lr_scheduler" in raised_in.co_filename else "optimizer"
            return f"model.{which}: {text}"
    return None
