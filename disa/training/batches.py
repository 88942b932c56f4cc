"""Batches of training samples, prepared ahead of the steps by other processes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from disa.data.images import Pixels
from disa.data.parallel import process_pool
from disa.running.processes import ALONE, Processes
from disa.training.augment import Target
from disa.training.samples import Samples, share, stacked, stacked_shared
from disa.training.settings import TrainConfig

Batch = tuple[UInt8[Tensor, "b 3 H W"], Int[Tensor, "b H W"]]

BATCHES_AHEAD = 4  # per process that prepares them
REMEDY = "run the same command again to continue; with --workers 0 no such processes are needed"


@contextmanager
def training_batches(
    samples: Samples, settings: TrainConfig, start: int, processes: Processes = ALONE
) -> Iterator[Iterator[Batch]]:
    """Open this process's share of the batches from step `start` on.

    The process of rank r has the r-th part of every batch, so that together they have the batch of
    one alone. Raises `DisaError` for a sample that cannot be read, and if a process that prepares
    samples dies.
    """
    # A sample depends on its index alone, so any process can prepare any of them.
    share_of_batch = settings.batch // processes.count
    firsts = [
        step * settings.batch + processes.rank * share_of_batch
        for step in range(start, settings.steps)
    ]
    shares = [range(first, first + share_of_batch) for first in firsts]
    if settings.workers == 0:
        yield (_tensors(*stacked(samples, indices)) for indices in shares)
        return
    with process_pool(settings.workers, REMEDY, partial(share, samples)) as pool:
        yield _made_ahead(pool, shares, BATCHES_AHEAD * settings.workers)


def _made_ahead(pool: ProcessPoolExecutor, shares: Iterable[range], count: int) -> Iterator[Batch]:
    """Yield the batches in order while the next `count` are being prepared."""
    waiting: deque[Future[tuple[Pixels, Target]]] = deque()
    for indices in shares:
        waiting.append(pool.submit(stacked_shared, indices))
        if len(waiting) > count:
            yield _tensors(*waiting.popleft().result())
    while waiting:
        yield _tensors(*waiting.popleft().result())


def _tensors(pixels: Pixels, target: Target) -> Batch:
    # Mirrored arrays have negative strides, which torch cannot take.
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(target)
