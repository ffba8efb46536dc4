"""Dashboards: planned tables with what they show, and written specs read with W&B's own types."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from wandb_workspaces.reports.v2.interface import Report
from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces import Workspace
from wandb_workspaces.workspaces.internal import View

from retable.cli.workflow import collect
from retable.tables.verdicts.judge import judge_all
from retable.wandb_tools.dashboard import build


def sources(grids, histories=None):
    """Tables with their runs' records here; ``histories`` (text by key) instead of their own."""
    built = collect(grids)
    tables = judge_all(one.table for one in built)
    return [
        build.source_of(one.grid, table, one.records, histories)
        for one, table in zip(built, tables, strict=True)
    ]


def written(source, file: Path, site=None):
    """The spec of a dashboard, through its file."""
    made = build.make(source, build.place_of(None, None), None, site)
    build.write(made, file)
    return Spec(file)


class Spec:
    """A written spec, and what the library reads from it."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_text(encoding="utf-8")
        self.content = json.loads(self.text)
        self.workspace = Workspace._from_model(View.model_validate(self.content["workspace"]))
        self.report = Report._from_model(ReportViewspec.model_validate(self.content["report"]))

    def again(self):
        """What the library would write of what it has read."""
        self.report.width = self.content["report"]["spec"][
            "width"
        ]  # the one thing it does not read
        models = {"workspace": self.workspace._to_model(), "report": self.report._to_model()}
        return {
            name: json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
            for name, model in models.items()
        }

    @property
    def view(self):
        return self.content["workspace"]["spec"]["section"]

    @property
    def sections(self):
        """Panels of the workspace by section."""
        sections = self.view["panelBankConfig"]["sections"]
        return {section["name"]: section["panels"] for section in sections}

    @property
    def grids(self):
        """Run set and panels of each panel grid of the report."""
        blocks = [b for b in self.content["report"]["spec"]["blocks"] if b["type"] == "panel-grid"]
        return [
            (b["metadata"]["runSets"][0], b["metadata"]["panelBankSectionConfig"]["panels"])
            for b in blocks
        ]

    @property
    def texts(self):
        """Markdown of the report."""
        blocks = self.content["report"]["spec"]["blocks"]
        return [b["content"] for b in blocks if b["type"] == "markdown-block"]


def filters(runset):
    """Filters of a run set as (what, operator, values)."""
    return [(f["key"]["name"], f["op"], f["value"]) for f in runset["filters"]["filters"]]


def metrics(panels):
    """Metrics of the curves and of the bars among some panels."""
    kinds = ("Run History Line Plot", "Bar Chart")
    return [[p["config"]["metrics"] for p in panels if p["viewType"] == kind] for kind in kinds]


class Views:
    """What W&B's server does with saved workspaces and reports, for the stand-in of it.

    Attributes:
        saved: by id.
        projects: that there are.
    """

    def __init__(self) -> None:
        self.saved: dict[str, dict] = {}
        self.projects = ["uncategorized"]

    def operations(self):
        return {
            "UpsertView2": self._upsert,
            "upsertView": self._upsert,
            "View": self._view,
            "SpecificReport": self._report,
            "GetProjects": self._projects,
            "CreateProject": self._create,
        }

    def of_type(self, kind):
        return [view for view in self.saved.values() if view["type"] == kind]

    def _upsert(self, server, given):
        known = given.get("id")
        if known is not None and known not in self.saved:
            raise KeyError(known)
        name = known or base64.b64encode(f"View:{len(self.saved)}".encode()).decode()
        project = {"id": "p", "name": given["projectName"], "entityName": given["entityName"]}
        view = {k: given[k] for k in ("name", "displayName", "description", "type", "spec")}
        assert given["projectName"] in self.projects
        self.saved[name] = {**view, "id": name, "project": project, "updatedAt": None}
        return {"upsertView": {"view": self.saved[name], "inserted": known is None}}

    def _view(self, server, given):
        found = [v for v in self.saved.values() if v["name"] == given["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}

    def _report(self, server, given):
        return {"view": self.saved.get(given["reportId"])}

    def _create(self, server, given):
        self.projects.append(given["input"]["name"] if "input" in given else given["name"])
        return {"result": None}

    def _projects(self, server, given):
        about = {"id": "p", "entityName": "someone", "isBenchmark": False, "user": None}
        about["createdAt"] = "2026-01-01T00:00:00"
        edges = [{"node": {**about, "name": name}, "cursor": "c"} for name in self.projects]
        info = {"endCursor": None, "hasNextPage": False}
        return {"models": {"edges": edges, "pageInfo": info}}
