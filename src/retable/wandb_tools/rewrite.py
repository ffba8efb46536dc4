"""Write one run of W&B from the complete history and record that lie here.

``python -m retable.wandb_tools.rewrite ORDER`` reads a file with what is to be written, and prints
the ``.wandb`` file that the library made of it. It is a process of its own, since the library is
made for one run in a process, and threads share its settings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from retable.runs import records
from retable.tracking import run_payload, wandb_run
from retable.tracking.wandb_run import Opening
from retable.wandb_tools.local_runs import Local


def order(local: Local, folder: Path, after: int = -1) -> str:
    """Text of the file that the process is given.

    Args:
        local: what there is of the run.
        folder: where the library makes its files.
        after: last step that W&B has; only later ones are written.
    """
    opening = run_payload.opening_of(local.run, local.record.provenance)
    return json.dumps(
        {
            "opening": {"id": local.id, "tags": local.tags, **opening},
            "rows": [row for row in local.rows() if row["epoch"] > after],
            "record": records.dump(local.record),
            "folder": str(folder),
        }
    )


def write(given: dict[str, Any]) -> Path:
    """Write the run with the library; returns its ``.wandb`` file."""
    folder = Path(given["folder"])
    run = wandb_run.start(Opening(**given["opening"]), folder, "offline")
    for row in given["rows"]:
        wandb_run.log(run, row)
    wandb_run.end(run, records.parse(given["record"], "record"))
    return next((folder / "wandb").glob("offline-run-*/*.wandb"))


def main() -> None:
    """Write the run that the file named on the command line describes."""
    print(write(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
