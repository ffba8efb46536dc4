"""The launcher of the newest submission among some runs, so that they can be submitted again."""

from __future__ import annotations

from collections.abc import Iterable

from retable.monitor.run_states import Seen
from retable.runs import frozen
from retable.util.errors import UserError


def overrides_of(seen: Iterable[Seen]) -> tuple[list[str], str] | None:
    """Overrides that choose the launcher of the newest submission among some runs'.

    The cluster's profile is taken as it stands today, by its name. What was set of the launcher
    itself is read from the frozen config of one of its runs.

    Args:
        seen: runs as they were seen.

    Returns:
        The overrides, and the submission in words; None where no run was ever submitted.
    """
    newest = max(
        (one for one in seen if one.assigned),
        key=lambda one: one.assigned.submission.folder.name if one.assigned else "",
        default=None,
    )
    if newest is None or newest.assigned is None:
        return None
    header = newest.assigned.submission.header
    found = ["launcher=slurm", f"cluster={header.cluster}"]
    try:
        launcher = frozen.read(newest.folder).config.launcher
    except UserError:
        launcher = None
    if launcher is not None and launcher.name == "slurm":
        plain = type(launcher)(name="slurm")
        for name in type(launcher).model_fields:
            value = getattr(launcher, name)
            if value != getattr(plain, name):
                text = str(value).lower() if isinstance(value, bool) else str(value)
                found.append(f"launcher.{name}={text}")
    when = header.created[:16].replace("T", " ")
    return found, f"{header.label} of {when}"
