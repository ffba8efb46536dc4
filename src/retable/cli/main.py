"""The commands. Each calls one function; nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from retable import __version__
from retable.cli import (
    check_paper,
    clean,
    monitor,
    new,
    refresh,
    rehearse,
    runs,
    site,
    sweeps,
    tables,
    verdicts,
    wandb,
    watch,
)
from retable.util.errors import UserError, one_line

GROUPS = {
    "Tables of a paper": (
        "list", "show", "plan", "rehearse", "prepare", "run", "table", "claims", "reproduce",
    ),
    "Experiments and papers of your own": ("new", "train", "summarize", "check-paper"),
    "While runs go on": ("status", "watch", "logs", "cancel", "retry"),
    "Runs that are done": ("verify", "diff", "export", "refresh"),
    "Results for others": ("publish", "restore", "site", "wandb"),
    "This machine": ("doctor", "clean"),
}  # fmt: skip
"""Commands by what one wants to do, in the order in which one comes to want it."""


class _Grouped(typer.core.TyperGroup):
    """Shows its commands under the headings of :data:`GROUPS`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(len(name) for names in GROUPS.values() for name in names)
        for heading, names in GROUPS.items():
            with formatter.section(heading):
                limit = formatter.width - 6 - width
                found = [(name, self.commands[name].get_short_help_str(limit)) for name in names]
                formatter.write_dl([(name.ljust(width), said) for name, said in found])


app = typer.Typer(
    cls=_Grouped,
    help="Reproduce a paper's table, cell by cell. Example: retable run risk_parity/iterations",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(tables.app)
app.add_typer(rehearse.app)
app.add_typer(refresh.app)
app.add_typer(verdicts.app)
app.add_typer(monitor.app)
app.add_typer(runs.app)
app.add_typer(sweeps.app)
app.add_typer(new.app)
app.add_typer(check_paper.app)
app.add_typer(clean.app)
app.add_typer(site.app)
app.add_typer(watch.app)
app.add_typer(wandb.app)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        typer.echo(f"retable {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2."""
    if sys.argv[1:] == ["--version"]:  # Typer would load pydantic to read the option
        print(f"retable {__version__}")
        return
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as error:
        _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        # Typer refuses an unknown option or a missing argument with an exception of its own.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        said = message()
        if "unexpected extra argument" in said and (found := re.search(r"\((\w+)=(\S+)\)", said)):
            said += f"; an option is spelled --{found[1]} {found[2]}"
        _refuse(said)


def _refuse(text: str) -> NoReturn:
    typer.echo(f"error: {one_line(text)}", err=True)
    sys.exit(2)
