"""What a run shows and logs: a progress bar, lines on stderr, and `log.jsonl`."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch

from disa.errors import DisaError
from disa.running.files import write_text, writing
from disa.running.reading import decode_text, parse_json
from disa.running.terminal import Report, counted, warn
from disa.training.run_folder import AGAIN

LEFT_OUT = "this line is left out"


class Measured(TypedDict):
    """What an evaluation in the log says at least."""

    images: int


class Logged(TypedDict):
    """What a line of the log says at least."""

    step: int
    evaluation: NotRequired[Measured]


@contextmanager
def open_log(path: Path | None, steps: int, start: int = 0, every: int = 10) -> Iterator["RunLog"]:
    """Open the log of a run that does the steps from `start` on, and show a bar.

    `path` gets one JSON object per line; without it, nothing is written or shown. Lines of step
    `start` and later belong to steps that will be repeated; they are removed first, so that the log
    of a resumed run equals that of an uninterrupted one. Raises `DisaError` if the log cannot be
    written.
    """
    if path is not None:
        _keep_before(path, start)
    with counted("training", visible=path is not None) as report:
        yield RunLog(path, steps, start, every, report)


@dataclass
class RunLog:
    """Shows and logs the steps of one run. Made by `open_log`."""

    path: Path | None
    steps: int
    start: int
    every: int
    report: Report
    smooth_loss: float | None = None
    begun: float = field(default_factory=time.monotonic)

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Report the step with this 0-based index, just done; `numbers` holds at least `loss`."""
        done = step + 1
        # The loss of a single batch says little: people see an average over about 20 steps.
        loss = numbers["loss"]
        before = loss if self.smooth_loss is None else self.smooth_loss
        self.smooth_loss = 0.95 * before + 0.05 * loss
        rate = (done - self.start) / max(1e-9, time.monotonic() - self.begun)
        self.report(done, self.steps, f"loss {self.smooth_loss:.4f}  {rate:.2f} steps/s")

        if step % self.every == 0 or done == self.steps:
            # JSON knows no infinity: the norm of a step that fp16 leaves out.
            finite = {name: v if math.isfinite(v) else None for name, v in numbers.items()}
            self.write({"step": step, **finite})

        # The first step has needed all kinds of memory that there are.
        if done == self.start + 1:
            self.say(f"the first step took up to {peak_memory():.1f} GB of memory")

    def say(self, line: str) -> None:
        """Print one line on stderr, above the bar."""
        if self.path is not None:
            warn(line)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one line to the log. Raises `DisaError` when the disk is full."""
        if self.path is None:
            return
        with writing(self.path, AGAIN), self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def peak_memory() -> float:
    """Return the largest memory this process has held, in GB: the GPU's if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def read_log(path: Path, report: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Return the log's whole lines; `report` gets a line on each that is damaged.

    A run that is killed may leave half a line, and a crash of the machine other bytes.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            name = f"{path}: line {number}"
            text = decode_text(line, name, LEFT_OUT)
            records.append(parse_json(text, name, LEFT_OUT, Logged))
        except DisaError as error:
            report(str(error))
    return records


def _keep_before(path: Path, start: int) -> None:
    if path.exists():
        records = [record for record in read_log(path, warn) if record["step"] < start]
        text = "".join(json.dumps(record) + "\n" for record in records)
        write_text(path, text)
