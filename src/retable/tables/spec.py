"""The schema of a table file, and its refusals with file and line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from retable import locations
from retable.compose import line_of, shown
from retable.errors import UserError, nearest

Grade = Literal["primary", "secondhand", "recalled", "derived"]
SpreadKind = Literal["std", "std0", "sem", "ci95_z", "ci95_t", "unknown", "other"]
ClaimKind = Literal[
    "ordering",
    "threshold",
    "ratio",
    "not_worse",
    "tie",
    "trend",
    "all_of",
    "interaction",
    "spread",
    "function",
    "not_judged",
]


def _number(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is not a finite number")
    return text


NumberText = Annotated[str, AfterValidator(_number)]


class Part(BaseModel):
    """Part of a table file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Source(Part):
    """Where the table stands."""

    paper_ref: str = Field(description="table or figure of the paper")
    arxiv: str | None = None
    code: str | None = Field(None, description="released code or notebook the numbers come from")
    dossier: list[str] = Field([], description="ids of the table in the source collection")
    own: bool = Field(True, description="false: not one of the paper's own tables; shown so")


class Metric(Part):
    """One quantity of a run and how it is judged."""

    key: str = Field(description="metric in the record, such as test/error")
    title: str | None = None
    unit: str = ""
    direction: Literal["min", "max", "none"] = "none"
    decimals: NonNegativeInt | None = Field(None, description="digits shown")
    margin: PositiveFloat | None = Field(None, description="difference that would not matter")
    quantum: PositiveFloat | None = Field(None, description="smallest step of the metric")
    deterministic: bool = Field(False, description="the same for every seed; one run suffices")
    tolerance: NonNegativeFloat | None = Field(None, description="of a deterministic cell")
    relative_to: str | None = Field(
        None, description="row whose mean in the same column divides the values"
    )
    scientific: bool = Field(False, description="show as 1.2e-07")


class Column(Part):
    """A condition: which experiment, which metric."""

    metric: str
    title: str | None = None
    experiment: str | dict[str, str] = Field(description="experiment's config, by protocol")
    overrides: list[str] = []
    step: NonNegativeInt | None = None
    result_row: str | None = None


class Row(Part):
    """A method."""

    title: str | None = None
    overrides: list[str] = []
    result_row: str | None = Field(None, description="rows of a run that gives several")
    run: bool = Field(True, description="false: reported only")
    quoted: str | None = Field(None, description="work that the paper quotes this row from")
    note: str | None = None


class Reported(Part):
    """A number as somebody printed it; text, because the digits say how exact it is."""

    value: NumberText
    spread: NumberText | None = None
    spread_kind: SpreadKind | None = None
    ddof: Literal[0, 1] = 1
    n: PositiveInt | None = None
    grade: Grade
    where: str
    decimals: NonNegativeInt | None = None
    reading_error: NonNegativeFloat = Field(0.0, description="of a value read off a plot")
    exact: bool = False
    margin: PositiveFloat | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _spread(self) -> Reported:
        if (self.spread is None) != (self.spread_kind is None):
            raise ValueError("spread and spread_kind: give both or neither")
        return self


class Claim(Part):
    """A statement of the paper, as it stands there, and how it is tested."""

    id: str
    statement: str
    kind: ClaimKind
    where: str | None = None
    grade: Grade = "primary"
    better: str | None = None
    than: str | list[str] | None = None
    on: str | list[str] | None = Field(None, description="columns; all where left out")
    average: bool = Field(False, description="over the columns, instead of in each")
    at_least: float | None = None
    at_most: float | None = None
    about: float | None = None
    within: PositiveFloat | None = None
    margin: PositiveFloat | None = None
    each_step: bool = False
    function: str | None = None
    why_not_judged: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        bounds = [b for b in (self.at_least, self.at_most, self.about) if b is not None]
        if self.kind in {"ordering", "ratio", "not_worse", "tie", "spread", "all_of"} and not (
            self.better and self.than
        ):
            raise ValueError(f"better, than: a claim of kind {self.kind} names rows in both")
        if self.kind in {"ratio", "threshold"} and len(bounds) != 1:
            raise ValueError("at_least, at_most, about: give one of them")
        if self.kind == "not_judged" and not self.why_not_judged:
            raise ValueError("why_not_judged: is needed where a claim is not judged")
        return self

    def rows(self) -> list[str]:
        """Rows that the claim names."""
        than = [self.than] if isinstance(self.than, str) else self.than or []
        return [name for name in [self.better, *than] if name]

    def columns(self) -> list[str]:
        """Columns that the claim names; empty for all."""
        return [self.on] if isinstance(self.on, str) else self.on or []


class TableSpec(Part):
    """A whole table file."""

    paper: str
    title: str
    source: Source
    metrics: dict[str, Metric]
    seeds: PositiveInt | list[NonNegativeInt] | dict[str, PositiveInt | list[NonNegativeInt]]
    columns: dict[str, Column]
    rows: dict[str, Row]
    reported: dict[str, dict[str, Reported]] = {}
    claims: list[Claim] = []
    differs: str | None = None
    notes: list[str] = []
    transposed: bool = Field(False, description="print rows across and columns down")
    quick: bool = Field(False, description="part of make reproduce")

    @model_validator(mode="before")
    @classmethod
    def _short_rows(cls, values: Any) -> Any:
        """A row may be written as its list of overrides."""
        if isinstance(values, dict) and isinstance(values.get("rows"), dict):
            rows = cast("dict[str, Any]", values["rows"])
            short = {k: {"overrides": v} if isinstance(v, list) else v for k, v in rows.items()}
            return {**values, "rows": {k: {} if v is None else v for k, v in short.items()}}
        return values

    def protocols(self) -> list[str]:
        """Protocols that some column has an experiment for."""
        found: list[str] = []
        for column in self.columns.values():
            names = ["paper"] if isinstance(column.experiment, str) else list(column.experiment)
            found += [name for name in names if name not in found]
        return found

    def seed_list(self, protocol: str) -> list[int]:
        """Seeds of a protocol."""
        seeds = self.seeds.get(protocol, 1) if isinstance(self.seeds, dict) else self.seeds
        return list(range(seeds)) if isinstance(seeds, int) else list(seeds)

    def experiment(self, column: str, protocol: str) -> str | None:
        """Experiment of a column under a protocol, None where it has none."""
        experiment = self.columns[column].experiment
        if isinstance(experiment, str):
            return experiment if protocol == "paper" else None
        return experiment.get(protocol)


class _TableLoader(yaml.SafeLoader):
    """YAML without repeated keys (the second would silently win), where ``on`` is a word.

    YAML 1.1 reads on, off, yes and no as booleans; YAML 1.2 has true and false only.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_TableLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if first in "tTfF" or "bool" not in tag]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(name: str) -> TableSpec:
    """Read and check the table file ``conf/table/<name>.yaml``.

    Raises:
        UserError: with file and line, for anything wrong in it.
    """
    file = locations.config_file("table", name)
    if file is None:
        names = locations.config_names("table")
        raise UserError(f"no table '{name}'{nearest(name, names)}")
    return load_file(file)


def load_file(file: Path) -> TableSpec:
    """Read and check a table file."""
    try:
        text = file.read_text(encoding="utf-8")
        values = yaml.load(text, Loader=_TableLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{shown(file)}{line}: not valid YAML: {problem}") from None
    try:
        spec = TableSpec.model_validate(values)
    except ValidationError as error:
        raise _refusal(file, error) from None
    _check_names(file, spec)
    return spec


def refuse(file: Path, path: list[str], message: str) -> UserError:
    """A refusal that names file, line and key."""
    known = list(path)
    line = line_of(file, known)
    while line is None and known:
        known.pop()
        line = line_of(file, known)
    where = f"{shown(file)}, line {line}" if line else shown(file)
    return UserError(f"{where}: {'.'.join(path)}: {message}")


def _refusal(file: Path, error: ValidationError) -> UserError:
    first = error.errors(include_url=False)[0]
    # Names of union members in a location are pydantic's, not the file's.
    path = [str(p) for p in first["loc"] if not _is_union_member(p)]
    match first["type"]:
        case "extra_forbidden":
            message = f"unknown field{nearest(path[-1], _fields(path[:-1]))}"
        case "missing":
            message = "is missing"
        case "value_error":
            message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        case "string_type" if path and path[-1] in {"value", "spread"}:
            message = f'write it in quotes, "{first["input"]}": YAML would lose a last zero'
        case _:
            message = f"{first['input']!r} is not valid: {first['msg']}"
    return refuse(file, path, message)


def _is_union_member(part: int | str) -> bool:
    text = str(part)
    return text in {"int", "str"} or "[" in text


def _fields(path: list[str]) -> list[str]:
    owners: dict[str, type[Part]] = {
        "source": Source,
        "metrics": Metric,
        "columns": Column,
        "rows": Row,
        "reported": Reported,
        "claims": Claim,
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
    for name, column in spec.columns.items():
        known(["columns", name, "metric"], column.metric, list(spec.metrics), "metric")
        kinds = (
            column.experiment if isinstance(column.experiment, dict) else {"": column.experiment}
        )
        for protocol, experiment in kinds.items():
            path = ["columns", name, "experiment", *([protocol] if protocol else [])]
            known(path, experiment, locations.config_names("experiment"), "experiment")
    for name, metric in spec.metrics.items():
        if metric.relative_to is not None:
            known(["metrics", name, "relative_to"], metric.relative_to, rows, "row")
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
