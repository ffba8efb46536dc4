"""What the options of this paper's models cannot mean together, beyond what their classes refuse.

Asked before anything is launched; nothing that computes imports it (docs/modules.md).
"""

from __future__ import annotations

from typing import Any

from retable.util.errors import UserError


def refuse(run: dict[str, Any]) -> None:
    """Refuse a run that would train something else than its options say.

    Raises:
        UserError: with the option, and what would do.
    """
    model, preprocess = run["model"], run["data"].get("preprocess", "none")
    attack = model.get("attack") or {}
    single = attack.get("kind", "single") == "single"  # others are refused beside replays
    if model["replays"] > 1 and single and attack.get("noise"):
        raise UserError(
            f"model.attack.noise: {attack['noise']:g}, but a perturbation that goes on from the"
            " last step's (model.replays above 1, Free-AT) begins at 0; set it to 0"
        )
    budget = model["budget"]
    if not 1 <= budget <= 255:
        meant = f" ({budget:g} of it is {255 * budget:g})" if budget < 1 else ""
        raise UserError(
            f"model.budget: {budget:g}; is in 255ths of the range of pixels, from 1 to 255{meant}"
        )
    if isinstance(preprocess, str) and preprocess != "none":
        raise UserError(
            f"data.preprocess: {preprocess} leaves [0, 1], to which attacks clip; set it to none"
        )
