"""A long evaluation as a person sees it: images counted -> a bar on a terminal, a line each half minute elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from disa.running.processes import Processes

BAR_SECONDS, PLAIN_SECONDS = (
    0.5,
    30.0,
)  # between updates: the running mIoU takes a moment to compute


class Counting:
    """Shows the images counted by all processes, the mIoU of those of this one, and the time left."""

    def __init__(self, name: str, processes: Processes) -> None:
        self.processes, self.console = processes, Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"), TimeRemainingColumn(),
            console=self.console, transient=True, disable=not self.console.is_terminal or processes.rank > 0,
        )  # fmt: skip
        self.task = self.bar.add_task(name, total=None, said="")
        self.name, self.done, self.images, self.spoken = name, 0, 0, time.monotonic()

    def __enter__(self) -> "Counting":
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()

    def begin(self, done: int, images: int) -> None:
        """Show where this sitting starts."""
        self.done, self.images = done, images
        self.bar.update(self.task, total=images, completed=done)
        if done and self.processes.rank == 0:
            self.console.print(
                f"{self.name}: {done} of {images} images are counted already", markup=False
            )

    def progress(self, number: int, miou: Callable[[], float]) -> None:
        """Report that this process has counted so many images in this sitting; the others are as fast."""
        now = time.monotonic()
        if (
            now - self.spoken < (PLAIN_SECONDS if self.bar.disable else BAR_SECONDS)
            or self.processes.rank > 0
        ):
            return
        self.spoken = now
        counted = min(self.done + number * self.processes.count, self.images)
        said = f"mIoU {100 * miou():.1f}"
        self.bar.update(self.task, completed=counted, said=said)
        if self.bar.disable:
            self.console.print(
                f"{self.name}: {counted} of {self.images} images, {said}", markup=False
            )
