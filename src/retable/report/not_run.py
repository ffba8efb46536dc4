"""Tables and protocols of a paper of which nothing is published, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from retable.tables import paper_info, spec
from retable.util import paths


@dataclass(frozen=True)
class NotRun:
    """Tables of one protocol with one reason.

    Attributes:
        tables: names, without the paper.
        protocol: theirs.
        why: the paper's ``paper.yaml`` says it; empty where it says nothing.
    """

    tables: list[str]
    protocol: str
    why: str


def not_run(paper: str, published: Collection[tuple[str, str]]) -> list[NotRun]:
    """What is missing, by protocol and reason; smoke is for trying the code out.

    Args:
        paper: its name.
        published: names and protocols of tables of which something is.
    """
    info = paper_info.load(paper)
    reasons = info.not_run if info else {}
    found: dict[tuple[str, str], list[str]] = {}
    for name in paths.config_names("table"):
        of, _, table = name.partition("/")
        if of != paper:
            continue
        for protocol in spec.load(name).protocols():
            if protocol != "smoke" and (name, protocol) not in published:
                keys = [k for k in reasons if fnmatchcase(f"{table}@{protocol}", k)]
                # One that names the table says the most, and then one that names the protocol.
                keys.sort(key=lambda k: (k.startswith("*"), k.endswith("*"), -len(k)))
                why = reasons[keys[0]] if keys else ""
                found.setdefault((protocol, why), []).append(table)
    return [NotRun(tables, protocol, why) for (protocol, why), tables in found.items()]


def idle(paper: str, published: Collection[tuple[str, str]]) -> list[str]:
    """Keys of ``paper.yaml`` that give a reason for nothing, as it was run meanwhile."""
    info = paper_info.load(paper)
    places = [f"{t}@{one.protocol}" for one in not_run(paper, published) for t in one.tables]
    keys = info.not_run if info else {}
    return [key for key in keys if not any(fnmatchcase(place, key) for place in places)]


def untested(paper: str, published: Collection[tuple[str, str]]) -> dict[str, list[str]]:
    """Claims by table, of those tables of which nothing is published: no list of verdicts has them.

    Args:
        paper: its name.
        published: names and protocols of tables of which something is.
    """
    there = {name for name, _ in published}
    names = [n for n in paths.config_names("table") if n.startswith(f"{paper}/") and n not in there]
    found = {name.partition("/")[2]: [c.id for c in spec.load(name).claims] for name in names}
    return {table: claims for table, claims in found.items() if claims}
