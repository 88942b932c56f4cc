"""Many pictures at once: reading, the model and drawing overlap (decision D111)."""

import io
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

from disa.data.images import Picture, Reading, read_picture
from disa.data.parallel import process_pool
from disa.data.picture_files import Source
from disa.data.picture_paths import STDIN
from disa.errors import DisaError, memory_errors_as
from disa.inference.passes import BATCH
from disa.inference.request import Job, Query
from disa.inference.segmentation import Saving, Segmentation
from disa.inference.segmenter import Segmenter

LESS_MEMORY = "out of memory; choose a smaller --size, fewer labels or --device cpu"
# Pixels of the pictures that are segmented together, and of the results that wait to be drawn: a
# folder of photographs shall not fill the memory.
TOGETHER = 20_000_000
WAITING = 40_000_000


class Read(NamedTuple):
    """A picture that was read, or why it cannot be."""

    job: Job
    picture: Picture | None
    error: DisaError | None


def segment_files(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    queries: Mapping[str, Query],
    saving: Saving,
    workers: int,
    reading: Reading,
) -> Iterator[tuple[Job, DisaError | None, Sequence[str]]]:
    """Segment pictures by each of the queries; yield every picture, why it failed, and notes on it.

    `queries` are by the folder of their results. While the model computes, a thread reads the next
    pictures and `workers` processes draw and write the last ones; with 0 of them this process does
    it. A picture that was yielded may still be drawn: all are when the iterator ends. Raises
    `DisaError` if a result cannot be written.
    """
    drawing: AbstractContextManager[Executor | None] = nullcontext()
    if workers:
        drawing = process_pool(workers, "try fewer with --workers")
    with drawing as pool, ThreadPoolExecutor(1) as reader:
        writer = Writer(saving, pool)
        for group in _read_ahead(reader, jobs, reading):
            for read, outcome in zip(group, _segmented(segmenter, group, queries), strict=True):
                notes = read.picture.notes if read.picture else ()
                if isinstance(outcome, DisaError):
                    yield read.job, outcome, notes
                    continue
                for folder, result in outcome.items():
                    named = replace(result, source=read.job.source)
                    writer.write(folder, read.job.name, named)
                yield read.job, None, notes
        writer.finish()


class Writer:
    """Hands results to processes, as many as memory should hold."""

    def __init__(self, saving: Saving, pool: Executor | None) -> None:
        self.saving = saving
        self.pool = pool
        self.pending: deque[tuple[Future[None], int]] = deque()  # with the pixels of each

    def write(self, folder: str, name: str, result: Segmentation) -> None:
        """Write a result, now or soon. Raises `DisaError` if this or an earlier one fails."""
        if self.pool is None:
            self.saving(folder, name, result)
            return
        self._wait(WAITING - result.labels.size)
        written = self.pool.submit(self.saving, folder, name, result)
        self.pending.append((written, result.labels.size))

    def finish(self) -> None:
        """Wait until all are written. Raises `DisaError` if one fails."""
        self._wait(0)

    def _wait(self, pixels: int) -> None:
        """Wait until no more than so many pixels are pending, the oldest first."""
        while self.pending and sum(size for _, size in self.pending) > pixels:
            written, _ = self.pending.popleft()
            written.result()


def _read_ahead(
    reader: Executor, jobs: Sequence[Job], reading: Reading
) -> Iterator[tuple[Read, ...]]:
    """Yield groups of pictures; the next one is read meanwhile."""
    done = 0
    coming = reader.submit(_read_group, jobs[:BATCH], reading)
    while done < len(jobs):
        group = coming.result()
        done += len(group)
        coming = reader.submit(_read_group, jobs[done : done + BATCH], reading)
        yield group


def _read_group(jobs: Sequence[Job], reading: Reading) -> tuple[Read, ...]:
    """Return the first pictures, up to the one that makes them large enough together."""
    group = []
    pixels = 0
    for job in jobs:
        group.append(_read(job, reading))
        picture = group[-1].picture
        pixels += 0 if picture is None else picture.pixels[..., 0].size
        if pixels >= TOGETHER:
            break
    return tuple(group)


def _read(job: Job, reading: Reading) -> Read:
    try:
        source: Source = job.file if job.content is None else job.content
        if source == STDIN:
            source = io.BytesIO(sys.stdin.buffer.read())
        return Read(job, read_picture(source, reading), None)
    except DisaError as error:
        return Read(job, None, error)


def _segmented(
    segmenter: Segmenter, group: Sequence[Read], queries: Mapping[str, Query]
) -> list[dict[str, Segmentation] | DisaError]:
    """Return each picture's results by folder, or why it has none."""
    pictures = [read.picture.pixels for read in group if read.picture is not None]
    if len(queries) == 1 and len(pictures) > 1:
        (folder, query), *_ = queries.items()
        try:
            with memory_errors_as(LESS_MEMORY):
                results = iter(segmenter(pictures, query))
            return [read.error or {folder: next(results)} for read in group]
        except DisaError:
            pass  # one by one they show which of them is to blame
    return [_alone(segmenter, read, queries) for read in group]


def _alone(
    segmenter: Segmenter, read: Read, queries: Mapping[str, Query]
) -> dict[str, Segmentation] | DisaError:
    """Return one picture's results; it is looked at once for all queries."""
    if read.error is not None or read.picture is None:
        return read.error or DisaError(f"{read.job.source}: holds no picture")
    picture = read.picture.pixels
    try:
        with memory_errors_as(LESS_MEMORY):
            if len(queries) == 1:
                return {name: segmenter(picture, query) for name, query in queries.items()}
            protocol = next(iter(queries.values())).protocol
            session = segmenter.open(picture, protocol=protocol)
            return {name: session(query) for name, query in queries.items()}
    except DisaError as error:
        return DisaError(f"{read.job.source}: {error}")
