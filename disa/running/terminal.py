"""What people see while a command works: lines on stdout and stderr, and one progress bar."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from disa.errors import DisaError
from disa.running.shown import printable

SECONDS_PER_LINE = 30  # of progress, where stderr is a file
Report = Callable[..., None]  # (done, total, remark="")


class _Screen(Console):
    """A console that shows names of files and labels as they are, and obeys none of them."""

    def __init__(self, file: Any) -> None:
        # Markup would read a label such as "[red]" as a colour, and wrapping would break paths
        # that people copy.
        super().__init__(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return what is printed for a line, or in a cell of a table."""
        return super().render_str(printable(text), **options)


class _Lasting:
    """A stream that nobody may read any more: a closed terminal stops no work."""

    def __init__(self, stream: Any) -> None:
        # While there is a bar, rich stands between.
        self.stream = getattr(stream, "rich_proxied_file", stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()


def _stderr() -> _Screen:
    # Made anew for every line, because tests and launchers replace `sys.stderr`.
    return _Screen(_Lasting(sys.stderr))


def escape_unprintable() -> None:
    """Let stdout and stderr write \\u escapes for what their code page lacks.

    Output that is piped on Windows, or on a machine without a locale, is no UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def say(*lines: object) -> None:
    """Print lines, or anything that rich can draw (a table), on stdout.

    Raises `DisaError` if it cannot be written.
    """
    try:
        screen = _Screen(sys.stdout)
        for line in lines:
            screen.print(line)
    except OSError as error:
        # What waits in the buffer would fail again when Python leaves.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        raise DisaError(f"stdout cannot be written ({error.strerror})") from None


def warn(line: object) -> None:
    """Print a line on stderr, for what is not the result of the command."""
    _stderr().print(line)


@contextmanager
def counted(description: str, visible: bool = True) -> Iterator[Report]:
    """Show a bar on stderr while the block runs; it disappears at the end.

    Where stderr is no terminal, a line every half minute takes its place. The block gets a function
    that takes (done, total) and a remark such as the mIoU so far. With `visible` False nothing is
    shown: of several processes only the first has a bar.
    """
    console = _stderr()
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
    with Progress(
        *columns, console=console, transient=True, disable=hidden, get_time=time.monotonic
    ) as bar:
        task = bar.add_task(printable(description), total=None, remark="")

        def report(done: int, total: int, remark: str = "") -> None:
            nonlocal line_due
            bar.update(task, completed=done, total=total, remark=printable(remark))
            if hidden and visible and time.monotonic() >= line_due:
                line_due = time.monotonic() + SECONDS_PER_LINE
                warn(f"{description}: {done} of {total} {remark}{_left(bar)}".rstrip())

        yield report


def _left(bar: Progress) -> str:
    """Return the time that is left, "" where nothing is known of it."""
    seconds = bar.tasks[0].time_remaining
    return "" if seconds is None else f"  left {timedelta(seconds=seconds)}"
