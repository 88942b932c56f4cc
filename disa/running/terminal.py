"""What people see while a command works: lines on stdout and stderr, and one progress bar."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_PER_LINE = 30  # of progress, where stderr is a file
Report = Callable[..., None]  # (done, total, remark="")


def _console(stderr: bool) -> Console:
    """Return a console that prints names of files and labels as they are."""
    # Made anew for every line, because tests and launchers replace `sys.stdout`. Markup would
    # read a label such as "[red]" as a colour, and wrapping would break paths that people copy.
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def escape_unprintable() -> None:
    """Let stdout and stderr write \\u escapes for what their code page lacks.

    Output that is piped on Windows, or on a machine without a locale, is no UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def say(text: object) -> None:
    """Print a line, or anything that rich can draw (a table), on stdout."""
    _console(stderr=False).print(text)


def warn(text: object) -> None:
    """Print a line on stderr, for what is not the result of the command."""
    _console(stderr=True).print(text)


@contextmanager
def counted(description: str, visible: bool = True) -> Iterator[Report]:
    """Show a bar on stderr while the block runs; it disappears at the end.

    Where stderr is no terminal, a line every half minute takes its place. The block gets a function
    that takes (done, total) and a remark such as the mIoU so far. With `visible` False nothing is
    shown: of several processes only the first has a bar.
    """
    console = _console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remark]}", markup=False),
        TimeRemainingColumn(),
    )
    # In a log file every step of a bar would be a line of its own.
    hidden = not visible or not console.is_terminal
    line_due = time.monotonic() + SECONDS_PER_LINE
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(description, total=None, remark="")

        def report(done: int, total: int, remark: str = "") -> None:
            nonlocal line_due
            bar.update(task, completed=done, total=total, remark=remark)
            if hidden and visible and time.monotonic() >= line_due:
                line_due = time.monotonic() + SECONDS_PER_LINE
                warn(f"{description}: {done} of {total} {remark}".rstrip())

        yield report
