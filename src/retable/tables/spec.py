"""The schema of a table file, and its refusals with file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from retable.config.types import PaperName
from retable.config.yaml_checks import NOT_OF_A_FILE, of_launch
from retable.tables import table_file
from retable.tables.cell_map_spec import CellMap, CellMapPanel
from retable.tables.claim_spec import Claim
from retable.tables.figure_spec import AnyFigure, Figure, Pair, Panel, Scatter
from retable.tables.heat_spec import Heat, HeatPanel, Image, ImagePanel
from retable.tables.looks_spec import DeclaredLooks
from retable.tables.over_columns_spec import Base, OverColumns, behind, with_metrics
from retable.tables.spec_parts import (
    Column,
    Metric,
    Part,
    Quick,
    Reported,
    Row,
    SeedCount,
    SeedList,
    Select,
    Source,
)
from retable.tables.validate import problems
from retable.tables.why_spec import Why
from retable.util import paths
from retable.util.errors import UserError, brief, nearest
from retable.util.paths import shown


class TableSpec(Part):
    """A whole table file."""

    paper: PaperName
    title: str
    source: Source
    metrics: dict[str, Metric] = Field(min_length=1)
    seeds: SeedCount | SeedList | dict[str, SeedCount | SeedList]
    columns: dict[str, Column] = Field(min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    looks: DeclaredLooks | None = Field(None, description="judge a published table again")
    select: Select | None = None
    reported: dict[str, dict[str, Reported]] = Field({})
    counted_in: list[str] = Field(
        [], description="tables that have the same reported numbers, and count them"
    )
    claims: list[Claim] = Field([])
    figure: AnyFigure | None = Field(None, description="draw the table as this figure")
    why: list[Why] = Field([], description="causes of differences, each with what tests it")
    differs: str | None = None
    notes: list[str] = Field([])
    transposed: bool = Field(False, description="print rows across and columns down")
    timing: Literal["alone"] | None = Field(None, description="alone: nothing runs beside a run")
    quick: Quick | None = Field(
        None, description="part of make reproduce: true, or what of it in place of all of `paper`"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_rows(cls, values: Any) -> Any:
        """A row may be written as its list of overrides."""
        if isinstance(values, dict) and isinstance(values.get("rows"), dict):
            rows = cast("dict[str, Any]", values["rows"])
            short = {k: {"overrides": v} if isinstance(v, list) else v for k, v in rows.items()}
            return {**values, "rows": {k: {} if v is None else v for k, v in short.items()}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _metrics_over_columns(cls, values: Any) -> Any:
        """Columns over others may leave out their metric."""
        return with_metrics(values)

    @field_validator("quick", mode="before")
    @classmethod
    def _short_quick(cls, value: Any) -> Any:
        """``true`` is short for all of protocol ``paper``."""
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    def protocols(self) -> list[str]:
        """Protocols that some column has an experiment for."""
        found: list[str] = []
        for column in self.columns.values():
            names = by_protocol(column.experiment)
            found += [name for name in names if name not in found]
        return found

    def seed_list(self, protocol: str) -> list[int]:
        """Seeds of a protocol."""
        seeds = self.seeds.get(protocol, 1) if isinstance(self.seeds, dict) else self.seeds
        return list(range(seeds)) if isinstance(seeds, int) else list(seeds)

    def n_seeds(self, row: str, column: str, protocol: str) -> int:
        """Number of a protocol's seeds that a cell is run with, or all that it is made of are."""
        parts = behind(self, row, column, protocol)
        over = self.columns[column].over_columns
        if over is not None and parts:
            return min(self.n_seeds(*p, protocol) for p in parts if p[0] != over.base_row)
        own = [self.rows[row].seeds, self.columns[column].seeds]
        limits = [each.get(protocol) if isinstance(each, dict) else each for each in own]
        return min([len(self.seed_list(protocol)), *(n for n in limits if n is not None)])

    def selects(self, row: str) -> Select | None:
        """Rule by which a row's settings are chosen; None where they are given."""
        select = self.select
        return select if select and row in (select.rows or [row]) else None

    def reference(self, column: str) -> str | None:
        """Row that the numbers of a column are relative to, None where to none."""
        return self.metrics[self.columns[column].metric].relative_to

    def experiment(self, column: str, protocol: str, row: str | None = None) -> str | None:
        """Experiment of a column under a protocol, or of its cell in a row; None where it has none.

        A row that names experiments or protocols is run in those that the column names too. A
        column over others has that of the first of them, where all have one.
        """
        if (over := self.columns[column].over_columns) is not None:
            all_ = [self.experiment(one, protocol, row) for one in over.columns]
            return None if None in all_ else all_[0]
        found = by_protocol(self.columns[column].experiment).get(protocol)
        if row is not None and protocol not in (self.rows[row].protocols or [protocol]):
            return None
        own = self.rows[row].experiment if row is not None else None
        return found if found is None or own is None else by_protocol(own).get(protocol)


def by_protocol(experiment: str | dict[str, str]) -> dict[str, str]:
    """Experiments by protocol; one that is named alone is of protocol ``paper``."""
    return {"paper": experiment} if isinstance(experiment, str) else experiment


def load(name: str) -> TableSpec:
    """Read and check the table file ``conf/table/<name>.yaml``.

    Raises:
        UserError: with file and line, for anything wrong in it.
    """
    file = paths.config_file("table", name)
    if file is None:
        names = paths.config_names("table")
        raise UserError(f"no table '{name}'{nearest(name, names)}")
    return load_file(file)


def load_file(file: Path) -> TableSpec:
    """Read and check a table file."""
    values = table_file.values(file)
    if not isinstance(values, dict):
        raise UserError(f"{shown(file)}: is not a table: expected key: value pairs, such as paper:")
    try:
        spec = TableSpec.model_validate(values)
    except ValidationError as error:
        raise _refusal(file, error) from None
    _check_names(file, spec)
    for path, message in problems(spec):
        raise refuse(file, path, message)
    return spec


def refuse(file: Path, path: list[str], message: str) -> UserError:
    """A refusal that names file, line and key."""
    line, origin = table_file.place(file, path)
    where = f"{shown(file)}, line {line}" if line else shown(file)
    given = f" (with {origin})" if origin else ""
    return UserError(f"{where}: {'.'.join(part or repr(part) for part in path)}: {message}{given}")


def _refusal(file: Path, error: ValidationError) -> UserError:
    first, *others = error.errors(include_url=False)
    if isinstance(first["input"], list):
        # Of a union, the member that was nearly right says more than that the first was wrong.
        said = [e for e in others if e["type"] == "value_error" and e["input"] == first["input"]]
        first = next(iter(said), first)
    if first["type"] == "missing":  # it is often there under a misspelt name
        beside = [e for e in others if e["loc"][:-1] == first["loc"][:-1]]
        first = next((e for e in beside if e["type"] == "extra_forbidden"), first)
    # Names of union members in a location are pydantic's, not the file's.
    kind = _figure_kind(first["loc"])
    found = first["loc"] if kind is None else (first["loc"][0], *first["loc"][2:])
    path = [str(p) for p in found if not _is_union_member(p)]
    if first["type"] == "extra_forbidden" and _is_union_member(found[-1]):
        path.append(str(found[-1]))  # a key of the file that looks like one
    given = brief(repr(first["input"]))
    match first["type"]:
        case "extra_forbidden":
            message = f"unknown field{nearest(path[-1], _fields(path[:-1], kind))}"
        case "missing":
            message = "is missing"
        case "value_error":
            message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        case "string_type" if path and path[-1] in {"value", "spread"}:
            message = "write it in quotes, as it is printed: YAML would lose a last zero"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", first["msg"])
            message = f"{given} is not valid{nearest(str(first['input']), choices)}"
        case "union_tag_invalid":  # the only one is that of figures
            path, tag = [*path, "kind"], str(first.get("ctx", {})["tag"])
            message = f"{brief(tag)} is not valid{nearest(tag, _FIGURES)}"
        case "dict_type" | "model_type" if path == ["quick"]:
            message = f"{given} is not valid: expected true, false or key: value pairs"
        case "dict_type" | "model_type":
            message = f"{given} is not valid: expected key: value pairs"
        case _ if path and path[-1] == "epoch":
            message = f"{given} is not valid: expected an epoch, from 0, or a share from 1% to 100%"
        case _ if path == ["quick", "seeds"]:
            message = f"{given} is not valid: expected a number of seeds, 1 or more"
        case _ if path and path[-1] == "seeds":
            message = f"{given} is not valid: expected how many seeds, or a list of seeds"
        case _:
            message = f"{given} is not valid: {first['msg'].replace('Input should', 'should')}"
    return refuse(file, path, message)


def _is_union_member(part: int | str) -> bool:
    text = str(part)
    return text in {"int", "str", "constrained-int"} or "[" in text


def _figure_kind(loc: tuple[int | str, ...]) -> str | None:
    """Kind of the figure that a location is in; pydantic names it in there."""
    kind = loc[1] if len(loc) > 1 and loc[0] == "figure" else None
    return str(kind) if kind in _FIGURES else None


_FIGURES: dict[str, tuple[type[Part], type[Part]]] = {
    "curves": (Figure, Panel),
    "scatter": (Scatter, Pair),
    "cells": (CellMap, CellMapPanel),
    "heat": (Heat, HeatPanel),
    "image": (Image, ImagePanel),
}
"""A figure of each kind, and its panels."""


def _fields(path: list[str], kind: str | None) -> list[str]:
    if kind is not None:
        return list(_FIGURES[kind]["panels" in path].model_fields)
    if path[:1] == ["columns"] and path[2:3] == ["over_columns"]:
        return list((Base if path[3:4] == ["base"] else OverColumns).model_fields)
    owners: dict[str, type[Part]] = {
        "source": Source,
        "metrics": Metric,
        "columns": Column,
        "rows": Row,
        "reported": Reported,
        "claims": Claim,
        "select": Select,
        "why": Why,
        "quick": Quick,
        "looks": DeclaredLooks,
    }
    return list(owners.get(path[0] if path else "", TableSpec).model_fields)


def _check_names(file: Path, spec: TableSpec) -> None:
    """Everything that refers to something else in the file, or to a config."""
    folder = file.parent.name
    if spec.paper != folder:
        raise refuse(file, ["paper"], f"is '{spec.paper}', but the file lies in {folder}/")

    def known(path: list[str], name: str, choices: list[str], what: str) -> None:
        if name not in choices:
            raise refuse(file, path, f"no {what} '{name}'{nearest(name, choices)}")

    rows, columns = list(spec.rows), list(spec.columns)
    experiments = paths.config_names("experiment")
    for kind, parts in (("columns", spec.columns), ("rows", spec.rows)):
        for name, part in parts.items():
            if any(text.lstrip("+~").startswith("seed=") for text in part.overrides):
                path = [kind, name, "overrides"]
                raise refuse(file, path, "the table's seeds are in 'seeds'; leave it out")
            if section := next(filter(None, map(of_launch, part.overrides)), None):
                raise refuse(file, [kind, name, "overrides"], f"{section}: {NOT_OF_A_FILE}")
            kinds = part.experiment if isinstance(part.experiment, dict) else {"": part.experiment}
            for protocol, experiment in kinds.items():
                path = [kind, name, "experiment", *([protocol] if protocol else [])]
                if experiment is not None:
                    known(path, experiment, experiments, "experiment")
    for name, column in spec.columns.items():
        known(["columns", name, "metric"], column.metric, list(spec.metrics), "metric")
        key = spec.metrics[column.metric].key
        if column.epoch is not None and not key.startswith(("train/", "val/")):
            what = f"a history has train/... and val/..., and the key of the metric is {key}"
            raise refuse(file, ["columns", name, "epoch"], what)
    for name, row in spec.rows.items():
        for column in row.columns or []:
            known(["rows", name, "columns"], column, columns, "column")
        for protocol in row.protocols or []:
            known(["rows", name, "protocols"], protocol, spec.protocols(), "protocol")
    for name, metric in spec.metrics.items():
        if metric.relative_to is not None:
            path = ["metrics", name, "relative_to"]
            known(path, metric.relative_to, rows, "row")
            if not spec.rows[metric.relative_to].run:
                raise refuse(file, path, f"row '{metric.relative_to}' is not run")
    own = f"{folder}/"
    for index, other in enumerate(spec.counted_in):
        named = [n.removeprefix(own) for n in paths.config_names("table") if n.startswith(own)]
        tables = [name for name in named if name != file.stem]
        known(["counted_in", str(index)], other, tables, "table")
    for row, cells in spec.reported.items():
        known(["reported", row], row, rows, "row")
        for column in cells:
            known(["reported", row, column], column, columns, "column")
    if isinstance(spec.seeds, dict):
        for protocol in spec.seeds:
            known(["seeds", protocol], protocol, spec.protocols(), "protocol")
    seen: set[str] = set()
    for index, claim in enumerate(spec.claims):
        path = ["claims", str(index)]
        if claim.id in seen:
            raise refuse(file, [*path, "id"], f"'{claim.id}' stands twice")
        seen.add(claim.id)
        for name in claim.rows():
            known([*path, "better" if name == claim.better else "than"], name, rows, "row")
        for name in claim.columns():
            known([*path, "on"], name, columns, "column")
    for index, why in enumerate(spec.why):
        path = ["why", str(index)]
        if why.row is not None:
            known([*path, "row"], why.row, rows, "row")
        for name in [why.column] if isinstance(why.column, str) else why.column or []:
            known([*path, "column"], name, columns, "column")
        if why.claim is not None:
            known([*path, "claim"], why.claim, [c.id for c in spec.claims], "claim")
