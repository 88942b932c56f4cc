"""One look for all long work over files: a bar on a terminal, nothing elsewhere; messages go above it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def stderr_console() -> Console:
    """Return a console on stderr that prints file names as they are."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def file_progress(console: Console) -> Progress:
    """Return a bar with description, number done and time left, which disappears at the end."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def counted(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; it gets a function to be told (done, of how many)."""
    with file_progress(stderr_console()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
