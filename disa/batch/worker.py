"""What runs on the machines of a cluster: workers, which are Ray's actors.

A worker loads the model once, and reads, segments and writes the pictures that it is given.
"""

import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from disa.data.images import Reading
from disa.errors import DisaError, memory_errors_as, one_line
from disa.inference.folder import LESS_MEMORY, segment_files
from disa.inference.request import Job, Query
from disa.inference.result_names import has_results, own_name
from disa.inference.segmentation import Saving
from disa.inference.segmenter import load
from disa.running.devices import DTYPES

if TYPE_CHECKING:  # it imports fsspec and pyarrow, which come with an extra
    from disa.batch.pictures import Unit

TRIALS = 2  # of a picture alone, after its worker died


@dataclass(frozen=True)
class Task:
    """What every worker is told."""

    model: str
    device: str
    loading: Mapping[str, Any]
    queries: Mapping[str, Query]
    saving: Saving
    reading: Reading
    renamed: Mapping[str, str]  # path -> name of its results, where that is not its own
    folder: str  # in which relative paths begin


class Answer(NamedTuple):
    """What a worker says of a picture; or why nothing of this run can succeed."""

    path: str
    error: str = ""
    notes: str = ""
    is_end: bool = False


class Trials:
    """How often batches and pictures were begun: an actor that survives the workers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def begin(self, key: str) -> int:
        """Return how often this one was begun, now included."""
        self.counts[key] += 1
        return self.counts[key]


class Worker:
    """Loads the model once, and segments batches of pictures."""

    def __init__(self, task: Task, trials: Any) -> None:
        self.task = task
        self.trials = trials
        self.refusal = ""
        loading = dict(task.loading)
        if "dtype" in loading:
            loading["dtype"] = DTYPES[loading["dtype"]]
        try:
            os.chdir(task.folder)
            with memory_errors_as(LESS_MEMORY):
                self.segmenter = load(task.model, task.device, **loading)
        except (DisaError, OSError) as error:
            self.refusal = f"{platform.node()}: {one_line(error)}"

    def __call__(self, table: Any) -> dict[str, list[Any]]:
        """Segment the pictures of a unit, the only row of a table; return a row for each."""
        answers = [Answer("", self.refusal, is_end=True)]
        if not self.refusal:
            from disa.batch.pictures import Unit

            answers = list(self._answers(Unit(**table.to_pylist()[0])))
        return {name: [getattr(each, name) for each in answers] for name in Answer._fields}

    def _answers(self, unit: "Unit") -> Iterator[Answer]:
        from disa.batch.pictures import contents

        task = self.task
        is_again = self._begin(f"unit {unit.paths[0]}") > 1
        folders = [task.saving.out / folder for folder in task.queries]
        paths = {}
        for path in unit.paths:
            name = task.renamed.get(path) or own_name(Path(path))
            if has_results(folders, name):
                yield Answer(path)
            else:
                paths[name] = path

        jobs = []
        found = contents(unit._replace(paths=list(paths.values())))
        for (name, path), content in zip(paths.items(), found, strict=True):
            if isinstance(content, DisaError):
                yield Answer(path, one_line(content))
            else:
                jobs.append(Job(Path(path), name, content))

        # Of pictures whose worker died, one may be the reason; alone it shows.
        groups = [[job] for job in jobs] if is_again else [jobs]
        for group in groups:
            if is_again and self._begin(f"picture {group[0].name}") > TRIALS:
                yield Answer(paths[group[0].name], "the worker that segments it dies each time")
                continue
            try:
                for job, error, notes in segment_files(
                    self.segmenter, group, task.queries, task.saving, 0, task.reading
                ):
                    said = "" if error is None else one_line(error)
                    yield Answer(paths[job.name], said, "\n".join(notes))
            except DisaError as error:  # the disk refuses
                yield Answer("", one_line(error), is_end=True)

    def _begin(self, key: str) -> int:
        import ray  # it is what runs this

        count: int = ray.get(self.trials.begin.remote(key))
        return count
