"""Train and measure every variant with every seed, each in a process of its own, resumable at any moment.

Signature: (Budget, folder) -> folder/runs/VARIANT/seed-N/{model, result.json, time.json}

One run that dies does not take the others along. A seed's runs come before the next seed's, so that an unfinished study
is a whole table with fewer seeds.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

from disa.errors import DisaError
from disa.running.files import prepare_folder, write_json
from disa.running.provenance import weights_sha256
from disa.study.variants import VARIANTS, Variant, folder_name
from disa.training.checkpoint import checkpoints, read_state

RESULT, TIME, LOG = "result.json", "time.json", "log.txt"


@dataclass(frozen=True)
class Budget:
    """What every run of a study gets alike. Raises `DisaError` for numbers that make no sense."""

    steps: int = 300  # optimizer steps of a run
    batch: int = 4  # scenes a step
    scenes: int = 100  # test scenes of a measurement
    settings: tuple[str, ...] = (
        "precision=fp32",
        "workers=0",
        "warmup=30",
    )  # more of `disa train --set`

    def __post_init__(self) -> None:
        """Refuse impossible numbers before anything is trained."""
        for name in ("steps", "batch", "scenes"):
            if getattr(self, name) < 1:
                raise DisaError(f"{name}={getattr(self, name)}: must be at least 1")


class Job(NamedTuple):
    """One run of the study."""

    variant: Variant
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """What the run is called on the screen."""
        return f"{self.variant.name}, seed {self.seed}"


class Failed(NamedTuple):
    """A run that ended badly, and where it says why."""

    job: Job
    log: Path


class Study:
    """A folder of runs with one budget and one CLIP."""

    def __init__(self, out: Path, clip: Path, budget: Budget) -> None:
        """Write nothing yet. Raises `DisaError` if the folder holds a study with another budget or CLIP."""
        self.out, self.clip, self.budget, self.about = (
            out,
            clip.resolve(),
            budget,
            out / "study.json",
        )
        self.facts = json.loads(json.dumps(asdict(budget) | {"clip_sha256": weights_sha256(clip)}))
        there = _read(self.about) if self.about.exists() else self.facts
        if differing := [
            f"{name}={there.get(name)}"
            for name in self.facts
            if there.get(name) != self.facts[name]
        ]:
            raise DisaError(
                f"{self.about}: holds a study with {', '.join(differing)}; give the same, or choose another --out"
            )
        self._stop, self._lock = Event(), Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def jobs(
        self, variants: Sequence[Variant] = VARIANTS, seeds: Sequence[int] = (0, 1, 2)
    ) -> list[Job]:
        """Return the runs in the order in which they are done, finished ones included."""
        runs = self.out / "runs"
        return [
            Job(v, seed, runs / folder_name(v.name) / f"seed-{seed}")
            for seed in seeds
            for v in variants
        ]

    def run(
        self, jobs: Sequence[Job], at_once: int, done: Callable[[Job, float], None]
    ) -> list[Failed]:
        """Do what is left of `jobs`, `at_once` of them at a time, and return those that failed.

        `done` is told of every finished run and the minutes it took. Ctrl-C and SIGTERM let the running ones save their
        checkpoints and raise `KeyboardInterrupt`.
        """
        prepare_folder(self.out)
        write_json(self.about, self.facts)
        left = [job for job in jobs if not (job.folder / RESULT).exists()]
        failed: list[Failed] = []
        with _sigterm_as_ctrl_c(), ThreadPoolExecutor(at_once) as pool:
            try:
                tasks = {pool.submit(self._do, job): job for job in left}
                while tasks:
                    finished, _ = wait(tasks, timeout=1, return_when=FIRST_COMPLETED)
                    for task in finished:
                        job, minutes = tasks.pop(task), task.result()
                        if (job.folder / RESULT).exists():
                            done(job, minutes)
                        else:
                            failed.append(Failed(job, job.folder / LOG))
            except BaseException:
                self._end()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return failed

    def _do(self, job: Job) -> float:
        """Train, measure, clear up; return the minutes it took. Whether it worked shows in the result's file."""
        begun = time.monotonic()
        prepare_folder(job.folder)
        if not self._disa(self.training(job), job):
            return 0.0
        measuring, model = time.monotonic(), str(job.folder / "model")
        measure = ["evaluate", "picturebook", "--model", model, "--limit", str(self.budget.scenes)]
        if self._disa([*measure, "--device", "cpu", "--json", str(job.folder / RESULT)], job):
            trained = read_state(checkpoints(job.folder / "checkpoints")[-1])[
                "seconds"
            ]  # of all starts
            shutil.rmtree(
                job.folder / "checkpoints", ignore_errors=True
            )  # five times the size of the model
            write_json(job.folder / TIME, {"seconds": trained + time.monotonic() - measuring})
        return (time.monotonic() - begun) / 60

    def training(self, job: Job) -> list[str]:
        """Return the words after `disa` that train a run."""
        changes = [f"{name}={value}" for name, value in job.variant.changes.items()]
        settings = [*self.budget.settings, *changes, "evaluate_images=0"]
        words = [
            "train",
            job.variant.recipe,
            "--clip",
            str(self.clip),
            "--out",
            str(job.folder),
            "--device",
            "cpu",
        ]
        words += [
            "--steps",
            str(self.budget.steps),
            "--batch",
            str(self.budget.batch),
            "--seed",
            str(job.seed),
        ]
        return [*words, *(part for text in settings for part in ("--set", text))]

    def _disa(self, words: list[str], job: Job) -> bool:
        """Run one command in a process of its own, its output in the run's log; return whether it worked."""
        with (job.folder / LOG).open("a") as log:
            log.write(f"disa {' '.join(words)}\n")
            log.flush()
            with self._lock:
                if self._stop.is_set():
                    return False
                process = subprocess.Popen(
                    [sys.executable, "-m", "disa.interfaces.child", *words],  # leaves with this process
                    stdout=log, stderr=log, stdin=subprocess.PIPE, start_new_session=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},  # several runs would fight for the same cores
                )  # fmt: skip
                self._running.add(process)
            with process:
                code = process.wait()
            with self._lock:
                self._running.discard(process)
        return code == 0

    def _end(self) -> None:
        """Let running commands save and leave; start no more."""
        with self._lock:
            self._stop.set()
            for process in self._running:
                process.terminate()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DisaError(
            f"{path}: cannot be read ({error}); delete it, or choose another --out"
        ) from None
    return found if isinstance(found, dict) else {}


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    try:
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread: nobody sends signals to it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
