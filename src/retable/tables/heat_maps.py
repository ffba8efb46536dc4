"""Arrays of a table's heat maps and images, from what the runs of a cell have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retable.runs.artifacts import read_recorded
from retable.tables.aggregate import Table
from retable.tables.heat_spec import Heat, HeatPanel, Image, ImagePanel
from retable.util.errors import UserError, nearest

MOST = 256
"""Rows or columns of an array that is drawn: more of them are about a pixel each, or less."""

MOST_OF_IMAGE = 128
"""The same of an image, whose pixels are rarely of one colour: half a megabyte."""


@dataclass(frozen=True)
class HeatMap:
    """What one panel shows.

    Attributes:
        panel: as the table file has it.
        mean: elementwise over the runs, (R, C); of an image (R, C, 3), between 0 and 1, of its one
            run; None where there is nothing to show.
        n: runs that it is over.
        seed: of an image's run.
        n_planned: runs that the cell is to have.
        why: why there is nothing to show; empty where there is something.
        mistake: key of the table file that is to be mended, where that is why; else empty.
    """

    panel: HeatPanel
    mean: NDArray[np.float64] | None = None
    n: int = 0
    n_planned: int = 0
    seed: int | None = None
    why: str = ""
    mistake: str = ""


def heat_maps(table: Table, figure: Heat | Image) -> list[HeatMap]:
    """Arrays of all panels, read anew each time.

    Raises:
        UserError: where a file is broken, or not what its run's record says.
    """
    return [_heat_map(table, figure, number) for number in range(len(figure.panels))]


def refuse_mistakes(table: Table) -> None:
    """Refuse a figure that names what no run has left, or of which no heat map can be drawn.

    Raises:
        UserError: with the key of the table file; and as :func:`heat_maps`.
    """
    for found in without_numbers(table):
        if found.mistake:
            raise UserError(f"{table.name}: {found.mistake}: {found.why}")


def without_numbers(table: Table) -> list[HeatMap]:
    """Panels of a table's figure that have nothing to show; none where it is of another kind."""
    figure = table.spec.figure
    found = heat_maps(table, figure) if isinstance(figure, Heat | Image) else []
    return [one for one in found if one.mean is None]


def _heat_map(table: Table, figure: Heat | Image, number: int) -> HeatMap:
    panel = figure.panels[number]
    cell = table.cells.get((panel.row, panel.column))
    if cell is None or not cell.n_planned:
        return HeatMap(panel, why=f"not run under protocol {table.protocol}")

    def nothing(why: str, mistake: str = "") -> HeatMap:
        return HeatMap(panel, n_planned=cell.n_planned, why=why, mistake=mistake)

    if not cell.run_keys:
        return nothing("no run of it is finished")
    keys = cell.run_keys
    if isinstance(panel, ImagePanel) and panel.seed is not None:
        keys = [key for key in keys if table.records[key].seed == panel.seed]
        if not keys:
            return nothing(f"no run of seed {panel.seed} is finished")
    arrays, known = _left(table, keys, figure.artifact, panel.array)
    if not known:
        names = {name for key in keys for name in table.records[key].artifacts}
        if figure.artifact in names:
            return nothing(f"artefact '{figure.artifact}' is recorded, but its file is not here")
        near = nearest(figure.artifact, names)
        why = f"its runs have left no artefact '{figure.artifact}'{near}"
        return nothing(why, "figure.artifact" if names else "")
    where = f"figure.panels.{number}.array"
    if not arrays:
        near = nearest(panel.array, known)
        return nothing(f"no array '{panel.array}' in artefact '{figure.artifact}'{near}", where)
    first = next(iter(arrays))
    if isinstance(figure, Image):
        arrays = {first: arrays[first]}
    if why := _undrawable(list(arrays.values()), image=isinstance(figure, Image)):
        return nothing(f"array '{panel.array}' {why}", where)
    if isinstance(figure, Image):
        seed = table.records[first].seed
        return HeatMap(panel, _pixels(arrays[first], figure), 1, cell.n_planned, seed)
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        mean = np.mean([array.astype(np.float64) for array in arrays.values()], axis=0)
    return HeatMap(panel, np.atleast_2d(mean), len(arrays), cell.n_planned)


def _pixels(array: NDArray[Any], figure: Image) -> NDArray[np.float64]:
    """An image's colours, (R, C, 3), between 0 and 1."""
    low, high = figure.limits
    values = array.astype(np.float64)
    values = np.broadcast_to(values, (3, *values.shape[-2:]))
    return np.clip((np.moveaxis(values, 0, -1) - low) / (high - low), 0, 1)


def _left(
    table: Table, keys: Sequence[str], artifact: str, name: str
) -> tuple[dict[str, NDArray[Any]], set[str]]:
    """An array of an artefact by run, as far as it is here; and all names of arrays.

    Of the other arrays, which may be large, nothing is kept.
    """
    found: dict[str, NDArray[Any]] = {}
    known: set[str] = set()
    for key in keys:
        record = table.records[key]
        sha256 = record.artifacts.get(artifact)
        if sha256 is not None and table.artifact_file is not None:
            file = table.artifact_file(record, artifact)
            if file.is_file():
                arrays = read_recorded(file, sha256)
                known |= arrays.keys()
                if name in arrays:
                    found[key] = arrays[name]
    return found, known


def _undrawable(arrays: list[NDArray[Any]], *, image: bool) -> str:
    """What keeps a mean of some arrays, or an image, from being drawn; empty where nothing."""
    shapes = sorted({tuple(array.shape) for array in arrays})
    if len(shapes) > 1:
        return f"has shapes {shapes[0]} and {shapes[1]} in different runs, which have no mean"
    (shape,) = shapes
    if image and not (len(shape) == 2 or (len(shape) == 3 and shape[0] in {1, 3})):
        return f"has shape {shape}: an image is (R, C), (1, R, C) or, in colours, (3, R, C)"
    if not image and len(shape) not in {1, 2}:
        return f"has shape {shape}: a heat map is of one or two dimensions, not {len(shape)}"
    if not all(shape):
        return f"has shape {shape}: there is nothing in it"
    if max(shape) > (most := MOST_OF_IMAGE if image else MOST):
        return f"has shape {shape}: at most {most} rows and columns are drawn"
    if any(np.iscomplexobj(array) for array in arrays):
        return "holds complex numbers"
    if image and not all(bool(np.isfinite(array).all()) for array in arrays):
        return "holds numbers that are not finite"
    return ""
