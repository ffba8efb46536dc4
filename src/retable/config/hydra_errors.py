"""Reword errors of Hydra and OmegaConf so that they name what the user gave."""

from __future__ import annotations

import re
from collections.abc import Sequence

from retable.config.yaml_checks import references
from retable.util.errors import UserError, brief

USE_MULTIRUN = "several values need `train -m`; a list is written key=[a,b]"
_QUOTE = "quote a text, such as key='\"a: b\"'"
_QUOTE_EACH = "quote each override, such as 'start.run.overrides=[\"model.width=8\"]'"
_OVERRIDES = re.compile(r"\+*start(\.run\.overrides=|.*\boverrides:)")
_UNREADABLE = (
    "LexerNoViableAlt",
    "Error parsing override",
    "no viable",
    "mismatched input",
    "extraneous input",
    "token recognition",
)


def in_words(error: Exception) -> str:
    """Reword an error of Hydra or OmegaConf in one line, without their internals."""
    if isinstance(error, RecursionError):
        return "refers to itself"
    text = (str(error) or str(error.__cause__ or error.__context__ or "")).replace("++", "")
    first = brief(text.partition("\n")[0])
    if any(part in text for part in _UNREADABLE):
        first = first.replace("LexerNoViableAltException: ", "").removesuffix(" ^")
        first = first.partition(" expecting ")[0]  # what the grammar calls things
        return f"cannot be read: {first}; {_QUOTE}"
    if "Ambiguous value" in text or "requires --multirun" in text:
        return f"{first}: {USE_MULTIRUN}"
    if text.startswith("Error merging override"):
        if "KeyValidationError" in type(error.__cause__).__name__:
            return f"{first}: a key has to be text"
        return f"{first}: something of another kind stands there, such as key: value pairs"
    if "does not support sweep type" in text:
        return "interval() is for a sweeper that optimises; the basic one takes a,b and range(0,3)"
    if match := re.match(r"Could not override '(.+?)'\.\s*No match in the defaults list", text):
        return f"override '{match[1]}=': run.yaml has no such choice in its defaults"
    if text.startswith("Could not delete from config."):
        key = re.search(r"'([^']*)'", first)
        return (
            f"override '~{key[1] if key else ''}': cannot be left out: {first.partition('. ')[2]}"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    skip = ("full_key", "object_type", "See ", "Config search path", "Available options")
    keep = [line for line in lines if not line.startswith(skip)]
    return brief(" ".join(keep[:2]).partition(" provider=")[0], 300) or type(error).__name__


def refuse_unreadable(overrides: Sequence[str]) -> None:
    """Name the override or line that Hydra could not read; it only says what it expected there."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar_parser import parse

    parser = OverridesParser.create()
    for text in overrides:
        try:
            parser.parse_override(text)
        except HydraException as error:
            said = in_words(error)
            if _OVERRIDES.match(text):
                said = said.replace(_QUOTE, _QUOTE_EACH)
            raise UserError(
                said if brief(text) in said else f"override '{brief(text)}': {said}"
            ) from None
    found = [(f"override '{brief(text)}'", text.partition("=")[2]) for text in overrides]
    for place, text in [*found, *references(overrides)]:
        try:
            parse(text if "${" in text else "x")
        except GrammarParseError as error:
            raise UserError(
                f"{place}: the reference {brief(text)} cannot be read:"
                f" {str(error).partition(' expecting ')[0]}"
            ) from None
