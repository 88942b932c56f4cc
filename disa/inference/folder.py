"""Many pictures at once: reading, the model and drawing overlap (decision D111)."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

from disa.data.images import Pixels, read_file
from disa.data.parallel import process_pool
from disa.errors import DisaError, memory_errors_as
from disa.inference.request import Job, Query
from disa.inference.segmentation import Saving, Segmentation
from disa.inference.segmenter import BATCH, Segmenter

LESS_MEMORY = "out of memory; choose a smaller --size, fewer labels or --device cpu"
WAITING = 4  # results per process that may wait to be drawn: each holds a picture


class Read(NamedTuple):
    """A picture that was read, or why it cannot be."""

    job: Job
    picture: Pixels | None
    error: DisaError | None


def segment_files(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    queries: Mapping[str, Query],
    saving: Saving,
    workers: int,
) -> Iterator[tuple[Job, DisaError | None]]:
    """Segment pictures by each of the queries; yield every picture, and why it failed if it did.

    `queries` are by the folder of their results. While the model computes, a thread reads the next
    pictures and `workers` processes draw and write the last ones; with 0 of them this process does
    it. A picture that was yielded may still be drawn: all are when the iterator ends. Raises
    `DisaError` if a result cannot be written.
    """
    drawing: AbstractContextManager[Executor | None] = nullcontext()
    if workers:
        drawing = process_pool(workers, "try fewer with --workers")
    with drawing as pool, ThreadPoolExecutor(1) as reader:
        writer = Writer(saving, pool, workers)
        for group in _read_ahead(reader, jobs, next(iter(queries.values())).max_pixels):
            for read, outcome in zip(group, _segmented(segmenter, group, queries), strict=True):
                if isinstance(outcome, DisaError):
                    yield read.job, outcome
                    continue
                for folder, result in outcome.items():
                    source = replace(result, source=str(read.job.file))
                    writer.write(folder, read.job.name, source)
                yield read.job, None
        writer.finish()


class Writer:
    """Hands results to processes, as many as memory should hold."""

    def __init__(self, saving: Saving, pool: Executor | None, workers: int) -> None:
        self.saving = saving
        self.pool = pool
        self.most = WAITING * workers
        self.pending: deque[Future[None]] = deque()

    def write(self, folder: str, name: str, result: Segmentation) -> None:
        """Write a result, now or soon. Raises `DisaError` if this or an earlier one fails."""
        if self.pool is None:
            self.saving(folder, name, result)
            return
        while len(self.pending) >= self.most:
            self.pending.popleft().result()
        self.pending.append(self.pool.submit(self.saving, folder, name, result))

    def finish(self) -> None:
        """Wait until all are written."""
        while self.pending:
            self.pending.popleft().result()


def _read_ahead(
    reader: Executor, jobs: Sequence[Job], max_pixels: int
) -> Iterator[tuple[Read, ...]]:
    """Yield groups of pictures; the next one is read meanwhile."""

    def read_group(first: int) -> tuple[Read, ...]:
        return tuple(_read(job, max_pixels) for job in jobs[first : first + BATCH])

    coming: Future[tuple[Read, ...]] | None = None
    for first in range(0, len(jobs), BATCH):
        begun = reader.submit(read_group, first)
        if coming is not None:
            yield coming.result()
        coming = begun
    if coming is not None:
        yield coming.result()


def _read(job: Job, max_pixels: int) -> Read:
    try:
        return Read(job, read_file(job.file, max_pixels), None)
    except DisaError as error:
        return Read(job, None, error)


def _segmented(
    segmenter: Segmenter, group: Sequence[Read], queries: Mapping[str, Query]
) -> list[dict[str, Segmentation] | DisaError]:
    """Return each picture's results by folder, or why it has none."""
    pictures = [read.picture for read in group if read.picture is not None]
    if len(queries) == 1 and len(pictures) > 1:
        (folder, query), *_ = queries.items()
        try:
            with memory_errors_as(LESS_MEMORY):
                results = iter(segmenter(pictures, query))
            return [read.error or {folder: next(results)} for read in group]
        except DisaError:
            pass  # one by one they show which of them is to blame
    return [read.error or _alone(segmenter, read, queries) for read in group]


def _alone(
    segmenter: Segmenter, read: Read, queries: Mapping[str, Query]
) -> dict[str, Segmentation] | DisaError:
    """Return one picture's results; it is looked at once for all queries."""
    try:
        with memory_errors_as(LESS_MEMORY):
            if len(queries) == 1:
                return {name: segmenter(read.picture, query) for name, query in queries.items()}
            protocol = next(iter(queries.values())).protocol
            session = segmenter.open(read.picture, protocol=protocol)
            return {name: session(query) for name, query in queries.items()}
    except DisaError as error:
        return DisaError(f"{read.job.file}: {error}")
