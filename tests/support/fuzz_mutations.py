"""Odd values, canaries, and ways to break a file that was right."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import yaml
from hypothesis import strategies as st

# Each would leave a mark where it is executed.
CANARIES = [
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/apply:canary.fire []",
    "!!python/object/new:canary.fire []",
    "!!python/name:canary.fire",
    "!!python/module:canary",
    "{{_target_: os.system, command: 'touch {mark}'}}",
    "{{_target_: canary.fire}}",
    '{{_target_: builtins.eval, _args_: [\'open("{mark}", "w")\']}}',
    "{{_target_: builtins.exec, _args_: ['import canary']}}",
    "{{_target_: hydra.utils.instantiate, config: {{_target_: canary.fire}}}}",
    "{{_target_: retable.papers.digits.data.load_digits}}",
    "{{_target_: torch.load, f: /etc/passwd}}",
    "{{_target_: torch.nn.Linear, _args_: [1, 2]}}",
    "{{_target_: torch.nn.Linear, in_features: 1, out_features: 1, _recursive_: false}}",
    "{{_target_: torch.nn.Linear, in_features: 1, out_features: 1, _convert_: all}}",
    "{{_target_: pytorch_lightning.callbacks.LambdaCallback, setup: canary.fire}}",
    "${{oc.env:CANARY}}",
    "${{oc.decode:${{oc.env:CANARY}}}}",
    "${{oc.create:${{oc.env:CANARY}}}}",
    "${{hydra:runtime.cwd}}",
    "${{eval:__import__('canary')}}",
    "${{paths.runs}}",
    "${{seed}}",
]
ODD = [
    "", "null", "~", "true", "no", "on", "-1", "0", "-0", "0x10", "0o17", "1_000", "1e999",
    "-1e999",
    ".nan", ".inf", "1.5", "99999999999999999999999", "2024-02-30", "2001-01-01", "12:30:45",
    "[]", "{}", "[1, 2]", "[[[]]]", "{a: 1}", "{1: 2}", "{null: 1}", "{[1]: 2}", "!!binary aGk=",
    "!!set {a, b}", "!!omap [a: 1]", "!!str 3", "!!int x", "!foo bar", "!!null 3", "!!float x",
    "é", "１２", "٣", "²", "ｓｅｅｄ", "раper", "'\u202e'", "'\ud83d\ude00'", '"\\x1b[31mred"',
    '"\\0"', '"a\\nb"', '"\\u2028"', '"\\ud800"', "../../../etc/passwd", "/etc/passwd",
    "file:///etc",
    "*nope", "&a [*a]", "<<", "{<<: *nope}", "{<<: 3}", "%", "@", "`", "|", ">", "? a", ": b",
    "- -",
    "x" * 3000, "'" + "y" * 3000 + "'", "[" * 60 + "]" * 60, "[" * 3000, "{a: " * 500 + "}" * 500,
    "???", "${", "$", "${}", "${a", "${..}", "${.}", "${a.b.c}", "\\", "'", '"', "#", "\t", "=",
]  # fmt: skip
BOMB = "".join(
    ["\nbomb0: &b0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"]
    + [f"bomb{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 9)]
)
MERGE_BOMB = "\nm0: &m0 {a: 1}\n" + "".join(
    f"m{i}: &m{i} {{x: *m{i - 1}, y: *m{i - 1}, <<: *m{i - 1}}}\n" for i in range(1, 30)
)
LINES = [
    "hydra: {run: {dir: /tmp/x}}", "hydra: {searchpath: ['file:///etc']}",
    "hydra: {callbacks: {x: {_target_: canary.fire}}}", "hydra.run.dir: x", "seed: 3",
    "_target_: os.system",
    "_args_: [1]", "_convert_: all", "_recursive_: false", "_partial_: true", "<<: *x",
    "<<: {a: 1}",
    "paths: {runs: /tmp/x}", "paths: {runs: ../../x}", "defaults: [/experiment/digits/base]",
    "defaults: [override hydra/launcher: basic]", "defaults: [/hydra/launcher: basic]",
    "defaults: [{/trainer@hydra.run: default}]", "defaults: [../../../../etc/passwd]",
    "---", "...", "%YAML 1.1", "%TAG ! tag:x,2000:", "\x00", "\x07", "\x1b[2J", "\ufeffa: 1",
    "\u2028a: 1",
    "a:\tb", "\ta: b", "? x", "- a", "}", "]", "key without colon", "'open", '"open', "|", "&a",
    "*a", "!!x",
]  # fmt: skip


def odd_text(rng: random.Random, mark: object) -> str:
    """A value as it may stand in YAML or behind ``key=``."""
    if rng.random() < 0.35:
        return rng.choice(CANARIES).format(mark=mark)
    return rng.choice(ODD)


def odd_value(rng: random.Random) -> Any:
    """A value of any type, to be dumped."""
    return copy.deepcopy(rng.choice([
        None, True, False, 0, -1, 1, 3, 10**30, 1.5, -0.0, float("inf"), float("nan"), "", "x",
        "é", "\x00",
        "\x1b[31m", "a\nb", "y" * 2000, "${oc.env:HOME}", "../x", [], [1], ["a"], [None], [[]],
        {}, {"a": 1},
        {1: 2}, {None: 3}, {"_target_": "os.system"}, {"a": {"b": {"c": []}}}, b"bytes", "1",
        "true", "²",
    ]))  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, ...]] = []
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += _places(item, (*path, key))
    return found


def misspelt(rng: random.Random, word: str) -> str:
    """A word with a slip of the finger."""
    at = rng.randrange(len(word) + 1)
    return rng.choice([
        word[:at] + word[at + 1 :], word[:at] + rng.choice("abz_-.é ") + word[at:],
        word[: at - 1] + word[at : at + 1] + word[max(at - 1, 0) : at] + word[at + 1 :],
        word.upper(), word + word, word.replace("a", "а"), word + " ",
    ])  # fmt: skip


def structural(rng: random.Random, value: Any, replace: Callable[[], Any] | None = None) -> Any:
    """A deep copy of parsed YAML or JSON with one thing changed."""
    value = copy.deepcopy(value)
    places = _places(value)
    if not places:
        return replace() if replace else odd_value(rng)
    *path, key = rng.choice(places)
    owner = value
    for part in path:
        owner = owner[part]
    new = replace() if replace else odd_value(rng)
    match rng.randrange(7):
        case 0:
            del owner[key]
        case 1 if isinstance(owner, dict):
            renamed = {misspelt(rng, str(k)) if k == key else k: v for k, v in owner.items()}
            owner.clear()
            owner.update(renamed)
        case 2:
            other = rng.choice(list(owner) if isinstance(owner, dict) else range(len(owner)))
            owner[key], owner[other] = owner[other], owner[key]
        case 3:
            owner[key] = rng.choice([[owner[key]], {"x": owner[key]}, str(owner[key])])
        case 4 if isinstance(owner, dict):
            owner[rng.choice(["extra", "_target_", "", "é", "hydra", "seed", "\x1b"])] = new
        case _:
            owner[key] = new
    return value


def textual(rng: random.Random, text: str, mark: object) -> bytes:
    """A text with something done to it that no editor of YAML would do."""
    lines = text.splitlines()
    at = rng.randrange(max(len(lines), 1))
    data = text.encode("utf-8", "surrogatepass")
    byte = rng.randrange(len(data) + 1)
    match rng.randrange(15):
        case 0:
            return data[:byte]
        case 1:
            return data[:byte] + rng.randbytes(rng.randint(1, 6)) + data[byte:]
        case 2:
            return data[:byte] + data[byte + rng.randint(1, 40) :]
        case 3:
            lines.insert(at, lines[at] if lines else "")
        case 4:
            del lines[at : at + 1]
        case 5:
            lines[at : at + 1] = ["\t" + "".join(lines[at : at + 1])]
        case 6:
            lines[at : at + 1] = [" " * rng.randint(1, 3) + "".join(lines[at : at + 1])]
        case 7:
            return b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")
        case 8:
            lines.insert(at, rng.choice(LINES))
        case 9:
            return (
                text + rng.choice([BOMB, MERGE_BOMB]) + f"\nextra: *{rng.choice('bm')}8\n"
            ).encode()
        case 10:
            lines.append(rng.choice(LINES))
        case 11:
            return data.decode("utf-8").encode(rng.choice(["utf-16", "utf-32", "utf-16-le"]))
        case 12:
            return (
                data[:byte]
                + bytes([rng.choice(b"{}[]:,&*!|>%@`'\"#\\-? \t\n\x00\x1b\xff")])
                + data[byte:]
            )
        case _:
            spots = [i for i, line in enumerate(lines) if ": " in line]
            if spots:
                at = rng.choice(spots)
                head = (
                    lines[at].rpartition(": ")[0]
                    if rng.random() < 0.3
                    else lines[at].partition(": ")[0]
                )
                lines[at] = f"{head}: {odd_text(rng, mark)}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Words(yaml.SafeLoader):
    """As tables are read: on and off are words."""


_Words.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if first in "tTfF" or "bool" not in tag]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@cache
def _words(text: str) -> Any:
    return yaml.load(text, Loader=_Words)


def broken_yaml(rng: random.Random, text: str, mark: object) -> bytes:
    """A YAML file with one, two or three things wrong; comments at its head are kept."""
    data = text.encode()
    if rng.random() < 0.5:
        head = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("# @"))
        value = _words(text)
        for _ in range(rng.choice([1, 1, 2])):
            value = structural(rng, value)
            if not isinstance(value, dict | list):
                break
        dumped = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
        data = (head + dumped).encode("utf-8", "surrogatepass")
    if data == text.encode() or rng.random() < 0.3:
        data = textual(rng, data.decode("utf-8", "replace"), mark)
    return data


# Any YAML there is, with the words that mean something in it.
SCALAR = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    *(st.dates(), st.binary(max_size=4)),
)
WORDS = ["model", "data", "_target_", "trainer", "defaults", "seed", "hydra", "rows", "reported"]
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=5), st.integers(0, 9))
TREE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)
