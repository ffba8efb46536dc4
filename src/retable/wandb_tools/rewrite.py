"""Write one run of W&B from the complete history and record that lie here.

``python -m retable.wandb_tools.rewrite ORDER`` reads a file with what is to be written, and prints
the ``.wandb`` file that the library made of it. It is a process of its own, since the library is
made for one run in a process, and threads share its settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retable.runs import records
from retable.tracking import naming, run_payload, wandb_run
from retable.tracking.wandb_run import Opening
from retable.wandb_tools import segments
from retable.wandb_tools.local_runs import Local
from retable.wandb_tools.segments import Segment


def opening_of(local: Local) -> Opening:
    """Parameters with which a run that has ended is opened in W&B."""
    config = local.run.config
    return Opening(
        id=local.id,
        name=naming.display_name(config, local.run.key),
        group=naming.group(config),
        project=config.logger.project,
        entity=config.logger.entity,
        tags=local.tags,
        config=run_payload.config_of(local.run, local.record.provenance),
    )


def order(local: Local, folder: Path, after: int = -1) -> str:
    """Text of the file that the process is given.

    Args:
        local: what there is of the run.
        folder: where the library makes its files.
        after: last step that W&B has; only later ones are written.
    """
    rows = [row for row in local.rows() if row["epoch"] > after]
    return json.dumps(
        {
            "opening": opening_of(local).as_dict(),
            "rows": rows,
            "record": records.dump(local.record),
            "folder": str(folder),
        }
    )


def is_whole(segment: Segment, local: Local) -> bool:
    """Whether a segment says all that there is to say, so that it can be uploaded as it is."""
    status = local.record.status
    tags = [*local.tags, *([status.value] if status in wandb_run.TAGGED else [])]
    told = None
    if status not in wandb_run.PREEMPTED:
        told = run_payload.summary_of(local.record)[run_payload.RECORD]
    return (
        segment.id == local.id
        and segment.exit_code is not None
        and segment.steps == local.epochs
        and segment.rows == local.rows()
        and segment.summary.get("status") == status.value
        and segment.summary.get(run_payload.RECORD) == told
        and sorted(segment.tags) == sorted(tags)
    )


def write(given: dict[str, Any]) -> Path:
    """Write the run with the library; returns its ``.wandb`` file."""
    folder = Path(given["folder"])
    rows: Sequence[dict[str, float]] = given["rows"]
    run = wandb_run.start(Opening(**given["opening"]), folder, "offline")
    for row in rows:
        wandb_run.log(run, row)
    wandb_run.end(run, records.parse(given["record"], "record"))
    file = segments.file_of(next((folder / "wandb").glob("offline-run-*")))
    assert file is not None
    return file


def main() -> None:
    """Write the run that the file named on the command line describes."""
    print(write(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
