"""What a person sees of a run, and what a program can read of it: a progress display and `log.jsonl`.

Signature: (step, numbers) -> a bar on a terminal, a line every half minute elsewhere, a JSON line in the log.
"""

import json
import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from disa.errors import DisaError
from disa.running.files import write_whole

PLAIN_SECONDS = 30.0  # between lines when the output is not a terminal


class RunLog:
    """Shows and logs the steps of one run; a context manager.

    `path` gets one JSON object per line. Lines at or after step `start` are of steps that will be done again and
    are removed first, so a resumed run's log equals an uninterrupted one's.
    """

    def __init__(
        self,
        path: Path | None,
        steps: int,
        start: int = 0,
        every: int = 10,
        console: Console | None = None,
    ) -> None:
        """Open the log and begin to measure time; without a path nothing is written."""
        self.steps, self.start, self.every = steps, start, every
        self.console = console or Console(stderr=True)
        self.path, self.file = path, None if path is None else _opened(path, start)
        self.begun = self.spoken = time.monotonic()
        self.smooth: float | None = None
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=self.console, disable=not self.console.is_terminal, speed_estimate_period=120,
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=steps, completed=start, said="")

    def __enter__(self) -> "RunLog":
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
        if self.file is not None:
            with suppress(OSError):  # a full disk, which `write` has told of
                self.file.close()

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Report the step with this 0-based index, just done; `numbers` holds at least `loss`."""
        now, done = time.monotonic(), step + 1
        self.smooth = (
            numbers["loss"] if self.smooth is None else 0.95 * self.smooth + 0.05 * numbers["loss"]
        )
        rate = (done - self.start) / max(1e-9, now - self.begun)
        said = f"loss {self.smooth:.4f}  {rate:.2f} steps/s  {peak_memory():.1f} GB"
        self.bar.update(self.task, completed=done, said=said)
        if step % self.every == 0 or done == self.steps:
            # JSON knows no infinity: the norm of a step that fp16 leaves out
            self.write(
                {"step": step, **{n: v if math.isfinite(v) else None for n, v in numbers.items()}}
            )
        if self.bar.disable and (
            now - self.spoken >= PLAIN_SECONDS or done in (self.start + 1, self.steps)
        ):
            self.spoken = now
            self.say(f"step {done}/{self.steps}  {said}  left {clock((self.steps - done) / rate)}")

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one line to the log. Raises `DisaError` when the disk is full."""
        if self.file is None:
            return
        try:
            self.file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise DisaError(
                f"{self.path}: cannot be written ({error.strerror}); free space and --resume"
            ) from error


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def peak_memory() -> float:
    """Return the largest memory this process has held, in GB: the accelerator's if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the log's whole lines; the half line that a killed run may leave is dropped."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _opened(path: Path, start: int) -> TextIO:
    """Return the log, open at its end, without the lines from step `start` on."""
    _keep_before(path, start)
    try:
        return path.open("a", buffering=1)
    except OSError as error:
        raise DisaError(f"{path}: cannot be written ({error.strerror})") from error


def _keep_before(path: Path, start: int) -> None:
    if path.exists():
        lines = [
            json.dumps(record) + "\n"
            for record in read_log(path)
            if record.get("step", start) < start
        ]
        write_whole(path, lambda file: file.write("".join(lines).encode()))
