"""The folder of a run, and the checkpoints in it.

- `run.json`: every start: command, code version, settings, machine
- `config.yaml`: the options of the command, which `--config` reads
- `log.jsonl`: a line every `log_every` steps, and one for each evaluation
- `checkpoints/step-N/`: the last ones, `tensors.safetensors` and `state.json`, without pickle
- `best/`: the model of the best evaluation, and `best.json`: its step, mIoU and number of images
- `evaluation/`: label maps of the current evaluation, so that an interrupted one can continue
- `failed-step-*`: the batch of a step whose loss was not finite
- `.lock`: held by the run at work
- `model/`: the model at the end, a folder that `disa.load` reads (pretraining: `clip/`)
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from disa.errors import DisaError
from disa.running.drafts import draft, remove_abandoned, remove_folder
from disa.running.files import prepare_folder, sync, write_json, writing
from disa.running.lists import first_of
from disa.running.locks import hold
from disa.running.provenance import code_and_machine
from disa.running.reading import read_json
from disa.running.records import save_config
from disa.running.terminal import warn

TENSORS = "tensors.safetensors"
STATE = "state.json"
PATIENCE = 10.0  # seconds to wait for a run in the same folder that is about to leave
AGAIN = "free space, then run the same command again"
REMEDY = "delete this checkpoint to continue from the one before it"
MOST_SHOWN = 4  # differences in a message

# What a run may not change when it continues: part of a checkpoint's state -> advice.
IDENTITY = {
    "model": "give the same network settings",
    "training": "give the same settings",
    "pretraining": "give the same settings",
    "data": "give the data as they were",
    "start": "give the same --clip or --init",
}


class Scale(TypedDict):
    """The state of torch's `GradScaler`."""

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    _growth_tracker: int


class State(TypedDict):
    """What `state.json` says at least."""

    step: Annotated[int, range(2**53)]
    # How fp16 multiplies losses.
    scale: NotRequired[Scale | None]
    # The parts in `IDENTITY`.
    model: NotRequired[dict[str, Any]]
    training: NotRequired[dict[str, Any]]
    pretraining: NotRequired[dict[str, Any]]
    data: NotRequired[dict[str, Any]]
    start: NotRequired[dict[str, Any]]


class Best(TypedDict):
    """What `best.json` says."""

    step: int
    miou: float | None
    images: int


class Checkpoint(NamedTuple):
    """What a run needs to continue: tensors by name, and plain JSON data with at least `step`."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class RunFolder:
    """The files of a run. Of several processes, one may change them."""

    def __init__(self, path: Path, command: Any = None) -> None:
        """Name the files; nothing is written yet. `command` is the record to save with the run."""
        self.path = path
        self.command = command
        self.starts = path / "run.json"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.clip = path / "clip"
        self.best = path / "best"
        self.best_numbers = path / "best.json"
        self.evaluation = path / "evaluation"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and keep other runs out of it.

        The operating system releases it when this process dies. Raises `DisaError` if the folder
        cannot be written, if another run is at work in it, and for somebody else's `log.jsonl`.
        """
        prepare_folder(self.path)
        # The log is shortened on resuming, so it must be a run's own.
        if (self.log.exists() or self.log.is_symlink()) and not self._starts():
            raise DisaError(
                f"{self.log}: is no log of a run (there is no run.json) and will not be touched; "
                "choose another --out"
            )
        busy = f"{self.path}: another run is at work in it; wait, or choose another --out"
        with hold(self.path / ".lock", PATIENCE, busy):
            yield

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint, None in a folder without any."""
        return next(reversed(checkpoints(self.checkpoints)), None)

    def checkpoint_to_continue(
        self, identity: Mapping[str, Any], resume: bool
    ) -> Checkpoint | None:
        """Return the newest checkpoint; None where there is none.

        `identity` has some of the parts in `IDENTITY`. Raises `DisaError`, naming what differs, for
        a checkpoint of another run, for a damaged one, and for any unless `resume` is set.
        """
        path = self.last_checkpoint()
        if path is None:
            return None
        if not resume:
            raise DisaError(
                f"{self.path}: holds a run already; add --resume to continue it, or choose another "
                "--out"
            )
        checkpoint = read_checkpoint(path)
        _refuse_another_run(path, checkpoint.state, identity)
        return checkpoint

    def begin(self, facts: Mapping[str, Any], step: int, processes: int = 1) -> None:
        """Note this start in run.json and config.yaml, and remove what a killed run left behind.

        A run that starts at step 0 removes all evaluations of an older one.
        """
        for folder in (self.checkpoints, self.best, self.evaluation):
            remove_abandoned(folder)
        # In a folder that has seen no run nothing is removed: it may hold somebody's own files.
        starts = self._starts()
        if starts and step == 0:
            self.best_numbers.unlink(missing_ok=True)
            for folder in (self.best, self.evaluation):
                remove_folder(folder)

        start = code_and_machine() | {"processes": processes, "step": step} | dict(facts)
        write_json(self.starts, [*starts, start])
        if self.command is not None:
            save_config(self.path / "config.yaml", self.command)

    def is_best(self, miou: float | None, images: int) -> bool:
        """Whether this is the best evaluation on as many images so far; others do not compare."""
        before: Best | None = _described(self.best_numbers, Best)
        if miou is None:
            return False
        if before is None or before["images"] != images:
            return True
        return before["miou"] is None or miou > before["miou"]

    def keep_best(self, done: int, miou: float | None, images: int) -> None:
        """Note that `best/` is the model after `done` steps."""
        write_json(self.best_numbers, {"step": done, "miou": miou, "images": images})

    def _starts(self) -> list[Any]:
        return _described(self.starts, list) or []


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write `folder/step-N` whole or not at all, then remove all but the newest `keep`.

    Raises `DisaError` when the disk is full or read-only; older checkpoints stay.
    """
    final = folder / f"step-{checkpoint.state['step']:08d}"
    # Safetensors refuses views.
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    with writing(final, AGAIN, (OSError, SafetensorError, DisaError)):
        folder.mkdir(parents=True, exist_ok=True)
        with draft(final) as part:
            part.mkdir()
            save_file(tensors, part / TENSORS)
            write_json(part / STATE, checkpoint.state)

            # The rename must not reach the disk before the content does.
            for path in (part / TENSORS, part / STATE, part):
                sync(path)
            # A resumed run writes the checkpoints of its repeated steps again.
            remove_folder(final)
            part.rename(final)
        sync(folder)
    # Only now: until the rename, the old ones were all that there was.
    for old in checkpoints(folder)[:-keep]:
        remove_folder(old)
    return final


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises `DisaError` if it is damaged."""
    try:
        return Checkpoint(load_file(path / TENSORS), read_json(path / STATE, REMEDY, State))
    except (OSError, SafetensorError) as error:
        raise DisaError(f"{path}: damaged ({error}); {REMEDY}") from error


def checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints in a folder, the oldest first."""
    if not folder.is_dir():
        return []
    # Other names may be somebody's copies.
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name))


def _refuse_another_run(path: Path, state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise `DisaError` if a checkpoint's state is not of the run with this identity."""
    if not identity.keys() <= state.keys():
        raise DisaError(f"{path}: is of another command or an older version; choose another --out")
    # By way of JSON, as the state was: it has lists where records have tuples.
    for part, now in json.loads(json.dumps(identity)).items():
        before = state[part]
        names = [name for name in now | before if now.get(name) != before.get(name)]
        if names:
            differences = [_difference(name, before.get(name)) for name in names]
            raise DisaError(
                f"{path}: belongs to a run with other {part}: {first_of(differences, MOST_SHOWN)}; "
                f"{IDENTITY[part]}, or choose another --out"
            )


def _difference(name: str, value: object) -> str:
    """Return "name=value", or the name alone where the value says nothing to people."""
    text = str(value)
    return f"{name}={text}" if len(text) <= 40 else f"{name} changed"


def _described(path: Path, form: Any) -> Any:
    """Return the data in a file that only describes the run; None if it is missing.

    One that is damaged stops no run, but is named: it counts as missing.
    """
    if not path.exists():
        return None
    try:
        return read_json(path, "it counts as missing", form)
    except DisaError as error:
        warn(str(error))
        return None
