"""Work shared out to processes: (function, data set) -> one result per part, as they are done.

`function` gets a part of the data set and must be importable by name; an interruption stops after the parts at work.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread, current_thread, main_thread
from typing import TypeVar

from disa.data.pairs import PairedDataset
from disa.errors import DisaError

Result = TypeVar("Result")
PART = 4  # images that one process takes at a time; few, so that an interruption is answered soon


def each_part(
    function: Callable[[PairedDataset], Result], dataset: PairedDataset, indices: Sequence[int], workers: int | None
) -> Iterator[tuple[int, Result]]:
    """Yield (number of images, result) of every part in any order; `workers` processes, by default one per core.

    Raises what `function` raises, and `DisaError` if a process dies.
    """
    parts = [indices[start : start + PART] for start in range(0, len(indices), PART)]
    workers = min(workers or os.cpu_count() or 1, len(parts))
    if workers <= 1:
        yield from ((len(part), function(dataset.part(part))) for part in parts)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _end_with_the_parent)
    try:
        with _interruption_ignored():  # the first submission starts all processes, and they inherit this
            first = pool.submit(function, dataset.part(parts[0]))
        waiting = {first: len(parts[0])}
        waiting |= {pool.submit(function, dataset.part(part)): len(part) for part in parts[1:]}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool:
        raise DisaError("a process died, perhaps for lack of memory; try fewer with --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_the_parent() -> None:
    """Make this process end when its parent is killed, or it would wait for work for ever."""

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


@contextmanager
def _interruption_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for a moment: it is for the parent to stop, a process that just starts would print a traceback."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
