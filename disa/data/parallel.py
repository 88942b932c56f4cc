"""Work on a data set shared out to processes, and the pool of processes that does it."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar

from disa.data.pairs import PairedDataset
from disa.errors import DisaError
from disa.running.interruption import SIGNALS

Result = TypeVar("Result")
GRACE = 30  # seconds that a process of a pool goes on after SIGTERM
PART = 4  # images that one process takes at a time; few, so that an interruption is answered soon


def each_part(
    function: Callable[[PairedDataset], Result],
    dataset: PairedDataset,
    indices: Sequence[int],
    workers: int | None,
    report: Callable[[int, int], None],
) -> Iterator[Result]:
    """Yield the result of every part of these images, in any order.

    `function` gets a part and must be importable by name. `workers` is the number of processes, by
    default one per core; a single one is this process itself. `report` is told (images done,
    images in all). Raises what `function` raises, and `DisaError` if a process dies.
    """
    # The caller's bar shows how much there is before the first part is done.
    total = len(indices)
    done = 0
    report(done, total)
    parts = [indices[start : start + PART] for start in range(0, len(indices), PART)]
    workers = min(workers or os.cpu_count() or 1, len(parts))
    if workers <= 1:
        for part in parts:
            yield function(dataset.part(part))
            done += len(part)
            report(done, total)
        return
    # All parts are handed in at once; the pool keeps them until a process is free.
    with process_pool(workers, "try fewer with --workers") as pool:
        sizes = {pool.submit(function, dataset.part(part)): len(part) for part in parts}
        for future in as_completed(sizes):
            yield future.result()
            done += sizes[future]
            report(done, total)


@contextmanager
def process_pool(
    workers: int, remedy: str, prepare: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Open a pool that finishes the work in hand, and no more, when its block is left.

    `prepare` runs once in each of its processes, before any work. Signals are answered by this
    process alone. Raises `DisaError`, which ends with `remedy`, if a process of the pool dies.
    """
    # Fresh processes: a forked copy of one in which torch has started threads can hang.
    # `prepare` goes with `_begin`, because a pool has only one initializer.
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    # With the first pool Python starts a process that keeps count of semaphores.
    with _signals_blocked():
        pool = _Pool(workers, context, _begin, (theirs, prepare))
    try:
        yield pool
    except BrokenProcessPool:
        # The pool waits for the others, which this ends at once.
        ours.close()
        raise DisaError(f"a process died, perhaps for lack of memory; {remedy}") from None
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


class _Pool(ProcessPoolExecutor):
    """A pool whose processes are deaf to signals from their first moment on."""

    def submit(self, *call: Any, **options: Any) -> Future[Any]:
        """Start a process, if there are too few, and hand the call over."""
        with _signals_blocked():
            return super().submit(*call, **options)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let processes that start in this block inherit that signals are blocked."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: Connection, prepare: Callable[[], None] | None) -> None:
    """Leave signals to the parent, and end when it does instead of waiting for work forever."""
    # A closed terminal, Ctrl-C and clusters signal every process; only the parent says anything
    # about it, and it may need this one until it has saved.
    if hasattr(signal, "pthread_sigmask"):
        # They are blocked since the start. SIGTERM is also how a pool ends the rest of it after a
        # death, so it works after a while.
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait_for_the_end() -> None:
        # Nothing is ever sent: this ends when the parent closes its side, or is killed.
        parent.poll(None)
        os._exit(1)

    Thread(target=wait_for_the_end, daemon=True).start()
    if prepare is not None:
        prepare()
