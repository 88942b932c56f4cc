"""A run on disk. What is in its folder:

- `run.json`: how it was started: command, code version, settings, machine; a list, with every later start appended
- `log.jsonl`: a line every `log_every` steps, and one for each evaluation
- `checkpoints/step-N/`: the last ones, each all that is needed to go on
- `best/`: the model of the best evaluation, and `best.json`: its step, mIoU and number of images
- `evaluation/`: counts of the evaluation under way, so that an interrupted one goes on
- `failed-step-*`: the batch of a step whose loss was no number
- `.lock`: held by the run that is at work
- `model/`: the model at the end, a folder that `disa.load` reads
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from disa.errors import DisaError
from disa.running.files import prepare_folder, write_json
from disa.running.provenance import code_and_machine
from disa.training.checkpoint import clear_partial
from disa.training.run_log import read_log

PATIENCE = 10.0  # seconds: a run whose parent was killed saves and leaves in less


class RunFolder:
    """The places of a run, and what is known of it; of several processes, one may change it."""

    def __init__(self, path: Path) -> None:
        """Make the folder. Raises `DisaError` if it cannot be written, or holds a log that is none of a run."""
        self.path, self.about = path, path / "run.json"
        self.log, self.checkpoints = path / "log.jsonl", path / "checkpoints"
        self.model, self.best = path / "model", path / "best"
        self.evaluation = path / "evaluation"
        prepare_folder(path)
        if self.log.exists() and not self._starts():
            raise DisaError(
                f"{self.log}: is of no run (there is no run.json), and is kept; choose another --out"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out; the system lets go when this process dies. Raises `DisaError` if one is at work here."""
        try:
            with FileLock(self.path / ".lock", timeout=PATIENCE):
                yield
        except Timeout:
            raise DisaError(
                f"{self.path}: another run is at work in it; wait, or choose another --out"
            ) from None

    def clear(self, start: int) -> None:
        """Remove what a killed run left half written and, where none is gone on with, what an older one measured.

        In a folder that has seen no run, nothing is: it may hold somebody's own files.
        """
        if not self._starts():
            return
        for folder in (self.model, self.best):
            for path in (*folder.glob(".*.part"), *folder.glob(".tmp*")):
                path.unlink(missing_ok=True)
        clear_partial(self.checkpoints)
        if start == 0:
            (self.path / "best.json").unlink(missing_ok=True)
            for folder in (self.best, self.evaluation):
                shutil.rmtree(folder, ignore_errors=True)

    def describe(self, state: dict[str, Any], processes: int) -> None:
        """Add this start to run.json: settings, from which step, command, versions, commit, date, machine."""
        entry = {name: value for name, value in state.items() if name not in ("seconds", "scale")}
        write_json(
            self.about, [*self._starts(), code_and_machine() | {"processes": processes} | entry]
        )

    def is_evaluated(self, done: int, images: int) -> bool:
        """Whether the log has the evaluation on so many images after `done` steps."""
        found = [
            record.get("evaluation")
            for record in read_log(self.log)
            if record.get("step") == done - 1
        ]
        return any(isinstance(each, dict) and each.get("images") == images for each in found)

    def is_best(self, miou: float | None, images: int) -> bool:
        """Whether this is better than every evaluation on as many images so far; others cannot be compared."""
        there = _read_json(self.path / "best.json")
        before = (
            there.get("miou") if isinstance(there, dict) and there.get("images") == images else None
        )
        return miou is not None and (before is None or miou > before)

    def keep_best(self, done: int, miou: float | None, images: int) -> None:
        """Write down that `best/` is the model after `done` steps."""
        write_json(self.path / "best.json", {"step": done, "miou": miou, "images": images})

    def _starts(self) -> list[Any]:
        there = _read_json(self.about)
        return there if isinstance(there, list) else []


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or not ours: it is only a description
        return None
