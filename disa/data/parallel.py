"""Work shared out to processes: (function, data set) -> one result per part, as they are done.

`function` gets a part of the data set and must be importable by name; an interruption stops after the parts at work.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from threading import Thread, current_thread, main_thread
from typing import TypeVar

from disa.data.pairs import PairedDataset
from disa.errors import DisaError

Result = TypeVar("Result")
PART = 4  # images that one process takes at a time; few, so that an interruption is answered soon


def each_part(
    function: Callable[[PairedDataset], Result],
    dataset: PairedDataset,
    indices: Sequence[int],
    workers: int | None,
) -> Iterator[tuple[int, Result]]:
    """Yield (number of images, result) of every part in any order; `workers` processes, by default one per core.

    Raises what `function` raises, and `DisaError` if a process dies.
    """
    parts = [indices[start : start + PART] for start in range(0, len(indices), PART)]
    workers = min(workers or os.cpu_count() or 1, len(parts))
    if workers <= 1:
        yield from ((len(part), function(dataset.part(part))) for part in parts)
        return
    with process_pool(workers, "try fewer with --workers") as pool:
        waiting = {pool.submit(function, dataset.part(part)): len(part) for part in parts}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


@contextmanager
def process_pool(
    workers: int, remedy: str, prepare: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Open a pool that leaves Ctrl-C to its parent, and stops after the work in hand when that leaves the block.

    Its processes are fresh ones: a forked copy of a process in which torch has started threads can hang.
    `prepare` runs in each before its first work. Raises `DisaError`, with the remedy, if one of them dies.
    """
    pool = ProcessPoolExecutor(workers, _Context(), _begin, (prepare,))
    try:
        yield pool
    except BrokenProcessPool:
        raise DisaError(f"a process died, perhaps for lack of memory; {remedy}") from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Process(SpawnProcess):
    """A process that is deaf to Ctrl-C from its first moment; one that only just starts would print a traceback."""

    def start(self) -> None:
        with _interruption_put_off():
            super().start()


class _Context(SpawnContext):
    """Makes such processes; the pool starts each when there is work for it, not all at first."""

    Process = _Process


def _begin(prepare: Callable[[], None] | None) -> None:
    _end_with_the_parent()
    if prepare is not None:
        prepare()


def _end_with_the_parent() -> None:
    """Make this process end when its parent is killed, or it would wait for work for ever."""

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


@contextmanager
def _interruption_put_off() -> Iterator[None]:
    """Let Ctrl-C wait until the end of this block; a process that is started in it never gets one."""
    if current_thread() is not main_thread() or not hasattr(
        signal, "pthread_sigmask"
    ):  # the latter: Windows
        yield
        return
    ensure_running()  # multiprocessing's tracker, whose start would lift the mask
    asked: list[int] = []
    before = signal.signal(
        signal.SIGINT, lambda number, frame: asked.append(number)
    )  # other threads may get it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if asked:
        signal.raise_signal(signal.SIGINT)
