"""Requests in order: a bounded number of places, and one thread that the model computes in."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from disa.inference.passes import BATCH
from disa.serving.problems import Problem

Work = Callable[[Sequence[Any]], Sequence[Any]]
NEWEST = 0.1  # weight of the last request in the mean


class Places:
    """How many requests are worked on or wait; one more than the limit is refused (D150)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._mean = 1.0  # seconds of a request

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for this block. Raises `Problem` with 429 if none is free."""
        if self.taken >= self.limit:
            # After the time of a request, those of now have given way to others.
            seconds = math.ceil(self._mean)
            raise Problem(
                429,
                f"{self.taken} requests are at work or wait; try again in {seconds} s",
                {"Retry-After": str(seconds)},
            )
        self.taken += 1
        begun = time.monotonic()
        try:
            yield
        finally:
            self.taken -= 1
            self._mean += NEWEST * (time.monotonic() - begun - self._mean)


@dataclass(eq=False)
class Job:
    """One item of work; those with the same work and key can be done together."""

    work: Work
    key: Hashable
    item: Any
    done: "Future[Any]" = field(default_factory=Future)


class Worker:
    """A thread that does jobs in the order of their arrival, those that fit together at once.

    PyTorch uses all cores for one job, so that several threads would only take turns (D148).
    """

    def __init__(self, report: Callable[[int], Any]) -> None:
        """Start the thread; `report` is told how many jobs are done together."""
        self._report = report
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    async def do(self, work: Work, key: Hashable, item: Any) -> Any:
        """Return what `work` gives for this item, or raise what it raises."""
        job = Job(work, key, item)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        # Whoever no longer waits takes the job back, unless it has begun.
        return await asyncio.wrap_future(job.done)

    def close(self) -> None:
        """Finish the jobs that are there, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            begun = [job for job in jobs if job.done.set_running_or_notify_cancel()]
            if begun:
                self._report(len(begun))
                _finish(begun)

    def _next(self) -> list[Job]:
        """Wait for a job; return it with those that can be done together, none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            if not self._jobs:
                return []
            first = self._jobs[0]
            alike = [job for job in self._jobs if (job.work, job.key) == (first.work, first.key)]
            together = alike[:BATCH]
            self._jobs = deque(job for job in self._jobs if job not in together)
            return together


def _finish(jobs: Sequence[Job]) -> None:
    """Do jobs together; if that fails, each alone, so that one spoils no other."""
    try:
        results = jobs[0].work([job.item for job in jobs])
    except Exception as error:
        if len(jobs) == 1:
            jobs[0].done.set_exception(error)
        else:
            for job in jobs:
                _finish([job])
        return
    for job, result in zip(jobs, results, strict=True):
        job.done.set_result(result)
