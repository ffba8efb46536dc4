"""The board: tables that fill in, what is running with its curve, what has failed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from retable.monitor.board.cell_grid import fit, grid_lines
from retable.monitor.board.sparkline import sparkline
from retable.monitor.board.state_bar import bar, legend
from retable.monitor.board.view import Going, View
from retable.monitor.state import TROUBLE, State
from retable.monitor.status_text import logs_command, place_of, retry_command
from retable.monitor.table_status import Run, TableStatus
from retable.util.errors import brief
from retable.util.text import duration, short_key

_ALL = 20
"""Failures that are named where there is room for all lines."""

_CURVE = 8
"""A curve has at least so many columns."""


def board(
    views: Sequence[View],
    width: int,
    height: int | None = None,
    *,
    message: str = "",
    notes: Sequence[str] = (),
) -> list[Text]:
    """The lines of the board, none longer than ``width``.

    Args:
        views: tables as they are.
        width: columns of the terminal.
        height: lines of the terminal; None: as many as it takes.
        message: what is to be said of all, below it.
        notes: what could not be read or asked.
    """
    # A run that several tables need is in the first of them.
    once = {one.seen.folder: (view, one) for view in reversed(views) for one in view.going}
    going = [pair for view in views for pair in once.values() if pair[0] is view]
    bad = _failures(views, width)
    end = [fit(brief(note, 300), width, "yellow") for note in notes[-2:]]
    end += [fit(message, width, "dim")] if message else []
    gaps = height is None or height >= 30
    if height is None:
        most_going = most_bad = len(going) + len(bad) + 2
        room = None
    else:
        most_going = min(len(going) + 1, max(3, height // 4)) if going else 0
        most_bad = min(len(bad), max(2, height // 8))
        fixed = (4 if gaps else 2) * len(views) + most_going + most_bad + len(end) + 3 * gaps
        room = max(height - fixed, 0)
    lines: list[Text] = []
    for number, view in enumerate(views):
        if number and gaps:
            lines.append(Text())
        lines += _head(view, width)
        share = None if room is None else room // (len(views) - number)
        cells = grid_lines(view, width, share) if share is None or share >= 3 else []
        room = None if room is None else room - len(cells)
        lines += [Text(), *cells] if gaps and cells else cells
    if going:
        lines += [Text()] * gaps + _going(going, width, most_going + (room or 0))
    if bad:
        kept = [*bad[: most_bad - 1], bad[-1]] if len(bad) > most_bad else bad
        lines += [Text()] * gaps + kept
    if end:
        lines += [Text()] * gaps + end
    if height is not None and len(lines) > height:  # very many tables, or hardly a terminal
        lines = lines[:height]
    return lines


def plain(lines: Sequence[Text]) -> str:
    """The board without colours."""
    return "\n".join(line.plain.rstrip() for line in lines)


def _head(view: View, width: int) -> list[Text]:
    grid, counts = view.status.grid, view.status.counts()
    times = [f"elapsed {duration(view.elapsed)}"] if view.elapsed is not None else []
    times += [f"about {duration(view.left)} left"] if view.left is not None else []
    right = ", ".join(times)
    name = Text.assemble((grid.name, "bold"), (f", protocol {grid.protocol}", "dim"))
    title = Text.assemble(fit(name, max(width - len(right) - 1, 0)), " ", right)
    done = f" {counts[State.DONE]}/{sum(counts.values())}  "
    progress = Text.assemble(bar(counts, min(max(width // 4, 10), 40)), done, legend(counts))
    return [fit(title, width), fit(progress, width)]


def _going(going: Sequence[tuple[View, Going]], width: int, height: int) -> list[Text]:
    """The runs that are being done; those that are furthest first where not all can be shown."""
    several = len({id(view) for view, _ in going}) > 1
    if len(going) + 1 > height:
        going = sorted(going, key=lambda pair: -pair[1].spent)
    shown = [one for _, one in going[: max(height - 1, 1)]]
    tables = [view.status.grid.name for view, _ in going[: len(shown)]]
    names = [
        f"{table.partition('/')[2]}: {_name(one.run)}" if several else _name(one.run)
        for table, one in zip(tables, shown, strict=True)
    ]
    metrics = {one.curve.metric for one in shown} - {""}
    metric = metrics.pop() if len(metrics) == 1 else ""
    about = f"  {metric or 'curve'}: last (lowest to highest)" if metric or metrics else ""
    hidden = f", {len(shown)} of them here" if len(shown) < len(going) else ""
    title = Text.assemble((f"running: {len(going)}{hidden}", "bold"), (about, "dim"))
    epochs = [_epoch(one) for one in shown]
    values = [_values(one, with_name=not metric) for one in shown]
    places = [brief(", ".join(filter(None, place_of(one.seen))), 40) for one in shown]
    name_w = min(max(map(len, names)), max(20, width // 3))
    epoch_w, value_w = max(map(len, epochs)), max(map(len, values))
    rest = width - name_w - epoch_w - value_w - 4 * 2
    place_w = min(max(map(len, places)), max(rest - _CURVE, 0), 28)
    curve_w = max(min(rest - place_w, 60), 1)
    lines = [fit(title, width)]
    for one, name, epoch, value, place in zip(shown, names, epochs, values, places, strict=True):
        curve = sparkline(one.curve.values, curve_w)
        line = Text("  ").join(
            [
                fit(name, name_w),
                fit(epoch, epoch_w, "yellow", right=True),
                fit(curve, min(curve_w, max(len(o.curve.values) for o in shown)), "cyan"),
                fit(value, value_w),
                fit(place, place_w, "dim"),
            ]
        )
        lines.append(fit(line, width))
    return lines


def _name(run: Run) -> str:
    """Name of a run, the seed first: what is cut off is what several have in common."""
    return f"s{run.seed} {brief(run.what, 80)}"


def _epoch(one: Going) -> str:
    done, of = one.curve.done, one.curve.of
    if not (of or done):
        return duration(one.spent)
    return f"{done}/{of}" if of else f"{done}"


def _values(one: Going, *, with_name: bool) -> str:
    values = one.curve.values
    if not values:
        return one.seen.why or ("begun" if one.curve.of else "")
    name = f"{one.curve.metric} " if with_name else ""
    return f"{name}{values[-1]:.3g} ({min(values):.3g} to {max(values):.3g})"


def _failures(views: Sequence[View], width: int) -> list[Text]:
    """Lines on failures, the latest first, and then how to see more; none where nothing failed."""
    found = [(view.status, run) for view in views for run in view.status.in_state(*TROUBLE)]
    if not found:
        return []
    found.sort(key=_ended, reverse=True)
    lines = [_failure(status, run, width) for status, run in found[:_ALL]]
    status, run = found[0]
    failed = status.in_state(State.FAILED, State.LOST)
    again = f"; again: {retry_command(status.grid)}" if failed else ""
    hint = f"more: {logs_command(status.seen[run.key])}{again}"
    more = f"{len(found)} in all; " if len(found) > 1 else ""
    return [*lines, fit(f"{more}{hint}", width, "dim")]


def _failure(status: TableStatus, run: Run, width: int) -> Text:
    seen = status.seen[run.key]
    return fit(
        Text.assemble(
            (f"{seen.state}", "bold red"),
            f" {_name(run)} ({short_key(seen.folder.name)}): ",
            brief(seen.why, 300) if seen.why else "no message",
        ),
        width,
    )


def _ended(found: tuple[TableStatus, Run]) -> str:
    """When a run began that has failed; in a form that sorts, what never began last."""
    record = found[0].seen[found[1].key].record
    return record.started if record else ""
