"""The command line: names, options and help of every command. What a command does is in the file of its name.

Nothing heavy is imported here, so that help answers at once; each command imports its `run` when it is called.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import disa
from disa.errors import DisaError, memory_errors_as
from disa.interfaces.training_cli import training

FAILED, INTERRUPTED = 2, 130


class Commands(TyperGroup):
    """Every command's errors in one place: one line on stderr and an exit code, never a traceback for bad input."""

    def invoke(self, ctx: Any) -> object:
        """Run the command. A `DisaError` and memory that runs out exit with 2, Ctrl-C with 130."""
        try:
            with memory_errors_as(
                "out of memory; choose smaller pictures, fewer labels or --device cpu"
            ):
                return super().invoke(ctx)
        except DisaError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            typer.echo("interrupted: files already written are whole and kept", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(training)


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"disa {disa.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def disa_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Segment pictures by words: every pixel gets one of the labels that you name, in your own words.

    Try `disa segment boat.png --labels "boat, sea, sky" --out results`.

    Exit codes: 0 done, 1 some pictures failed, 2 nothing could be done, 130 interrupted.
    """


def main(arguments: list[str]) -> int:
    """Run a command that is not a record yet."""
    return int(app(arguments, prog_name="disa") or 0)
