"""Does runs with the retable that is on the module path; executed as a file, not imported.

``launch.commit_code`` starts it with the interpreter and the source of a commit. It may import
nothing but what every published commit has; where a name has moved, the old place stays listed.
It reads one JSON document from stdin (``{"runs": [{"key", "fingerprint", "values"}, ...]}``) and
answers with one on stdout; what the runs print goes to stderr.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1
_PLACES = {
    "from_values": ["retable.config.compose", "retable.compose"],
    "freeze": ["retable.runs.frozen", "retable.launch.frozen"],
    "launch": ["retable.launch.dispatch", "retable.launch.engine"],
}


def _known(name: str) -> Any:
    for place in _PLACES[name]:
        try:
            return getattr(importlib.import_module(place), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"the code of this commit has no {name} where it is looked for")


def main() -> int:
    """Freeze the runs, do those whose code is the expected one, and say what was found."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # its launch ends with whoever asked
    answer_to = os.dup(1)
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    answer: dict[str, Any] = {"computed_by": {}, "refused": {}, "stopped": False}
    try:
        from_values, freeze, launch = map(_known, _PLACES)
        runs: list[Any] = []
        for entry in request["runs"]:
            try:
                run = freeze(from_values(entry["values"]))
            except Exception as error:  # what that code refuses, it says with an exception
                answer["refused"][entry["key"]] = str(error) or type(error).__name__
                continue
            if run.key != entry["key"]:
                answer["refused"][entry["key"]] = f"its config gives the key {run.key[:12]}"
                continue
            answer["computed_by"][entry["key"]] = run.fingerprint
            if run.fingerprint == entry["fingerprint"]:
                runs.append(run)
        if runs:
            answer["stopped"] = bool(launch(runs).stopped)
    except KeyboardInterrupt:
        answer["stopped"] = True
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    with os.fdopen(answer_to, "w", encoding="utf-8") as out:
        json.dump(answer, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
