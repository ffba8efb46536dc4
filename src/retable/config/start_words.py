"""Words for a ``start`` that names a run or a file otherwise than it has to: what to write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from retable.config.hydra_errors import USE_MULTIRUN
from retable.config.refusals import place
from retable.util import paths
from retable.util.errors import UserError, brief, nearest

_FILES = (".pth", ".pt", ".th", ".ckpt", ".safetensors")
_OF_A_COMMA = (
    "an item of [...] ends at a comma, so that the whole override is to be quoted, such as"
    " 'model.sizes=[1,2]'"
)


def refuse_unnamed(given: Any, overrides: Sequence[str], of_run: Collection[str]) -> None:
    """Refuse what names neither a run nor a file, and say how it is written.

    Args:
        given: the value of ``start``; not None.
        overrides: of the run.
        of_run: keys of a run that is named.

    Raises:
        UserError: naming key and place.
    """
    if isinstance(given, str):
        said = f"'{brief(given)}' is not valid: {_written(given, overrides)}"
        raise _refusal(["start"], said, overrides)
    if not isinstance(given, dict):
        return
    run = given.get("run")
    if isinstance(run, str):
        said = f"'{brief(run)}' is not valid: {_written(run, overrides)}"
        raise _refusal(["start", "run"], said, overrides)
    if misplaced := next((key for key in given if key in of_run), None):
        raise _refusal(["start", misplaced], f"belongs into start.run.{misplaced}", overrides)
    if "run" in given and run is None and given.get("file") is None:
        said = "is null, and no file is named; start=null lets the run start from nothing"
        raise _refusal(["start", "run"], said, overrides)
    if isinstance(run, dict):
        _refuse_overrides(run.get("overrides"), overrides)


def _written(name: str, overrides: Sequence[str]) -> str:
    """How a run or a file of some name is written, in a file or on the command line."""
    if name.endswith(_FILES) or ":" in name:
        what, value, hint = "a file of weights", f"{{file: {brief(name)}, sha256: ...}}", ""
    else:
        what, value = "a run", f"{{run: {{experiment: {brief(name)}}}}}"
        known = paths.config_names("experiment")
        hint = "" if name in known else f"; no experiment '{brief(name)}'{nearest(name, known)}"
    given = any(text.lstrip("+").startswith("start") for text in overrides)
    start = f"'start={value}'" if given else f"start: {value}"
    return f"{what} is named as {start}{hint}"


def _refuse_overrides(given: Any, overrides: Sequence[str]) -> None:
    path = ["start", "run", "overrides"]
    if isinstance(given, str):
        raise _refusal(path, f"expected a list, such as ['{brief(given)}']", overrides)
    if isinstance(given, dict):
        texts = ", ".join(f"'{key}={value}'" for key, value in given.items())
        raise _refusal(path, f"expected a list of texts, such as [{brief(texts)}]", overrides)
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict) and len(item) == 1:
            [(key, value)] = item.items()
            said = f"{brief(repr(item))} is no text: write '{key}={value}', as on the command line"
            raise _refusal(path, brief(said, 300), overrides)
        if isinstance(item, str) and "=" not in item and not item.startswith("~"):
            said = f"'{brief(item)}' is not key=value; {_OF_A_COMMA}"
            raise _refusal(path, said, overrides)


def of_parent(error: UserError) -> UserError:
    """What is wrong with the run that is started from, which has one value of everything."""
    one = "it has one value only; a list is written 'key=[a,b]', a text 'key=\"a, b\"'"
    return UserError(f"start.run: {str(error).replace(USE_MULTIRUN, one)}")


def _refusal(path: list[str], message: str, overrides: Sequence[str]) -> UserError:
    return UserError(f"{'.'.join(path)}: {message}{place(path, overrides)}")
