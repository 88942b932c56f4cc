"""Batches of training samples, prepared ahead by other processes, and the labels of a step."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from disa.config import IGNORED
from disa.data.images import Pixels
from disa.data.parallel import process_pool
from disa.running.processes import ALONE, Processes
from disa.training.augment import Target
from disa.training.settings import TrainConfig
from disa.training.training_data import Samples, share, stacked, stacked_shared

BATCHES_AHEAD = 4  # per process that prepares them
REMEDY = "run the same command again to continue; with --workers 0 no such processes are needed"


class Batch(NamedTuple):
    """Pictures and, for every pixel, a label's index or `IGNORED`."""

    pixels: UInt8[Tensor, "b 3 H W"]
    target: Int[Tensor, "b H W"]


@contextmanager
def training_batches(
    samples: Samples, settings: TrainConfig, start: int, processes: Processes = ALONE
) -> Iterator[Iterator[Batch]]:
    """Open this process's share of the batches from step `start` on.

    The process of rank r has the r-th part of every batch, so that together they have the batch of
    one alone. Raises `DisaError` for a sample that cannot be read, and if a process that prepares
    samples dies.
    """
    # Sample `step * batch + i` is the i-th of its batch. It depends on this index alone, so any
    # process can prepare any sample, and a resumed run starts anywhere.
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
    # More than a few would only fill the memory.
    waiting: deque[Future[tuple[Pixels, Target]]] = deque()
    for indices in shares:
        waiting.append(pool.submit(stacked_shared, indices))
        if len(waiting) > count:
            yield _tensors(*waiting.popleft().result())
    while waiting:
        yield _tensors(*waiting.popleft().result())


def _tensors(pixels: Pixels, target: Target) -> Batch:
    # Mirrored arrays have negative strides, which torch cannot take.
    return Batch(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(target))


def choose_labels(
    present: Bool[Tensor, " t"], most: int, step: int, seed: int
) -> Int[Tensor, " m"]:
    """Return the indices of a step's labels, ascending: all present ones, then random absent ones.

    There are `most` of them, more where more are present, and all `t` if `most` is 0: to train all
    labels of a large vocabulary at once takes too much memory.
    """
    if most == 0 or most >= len(present):
        return torch.arange(len(present))
    present = present.cpu()
    shown = present.nonzero().flatten()
    absent = (~present).nonzero().flatten()

    # The draw depends on seed and step alone, so that a resumed run draws the same.
    entropy = np.random.SeedSequence((seed, step)).generate_state(1)[0]
    draw = torch.Generator().manual_seed(int(entropy))
    order = torch.randperm(len(absent), generator=draw)
    added = absent[order[: max(0, most - len(shown))]]
    return torch.cat([shown, added]).sort().values


def relabel(target: Int[Tensor, "b H W"], chosen: Int[Tensor, " m"]) -> Int[Tensor, "b H W"]:
    """Return the target with indices into `chosen`, which ascends.

    Pixels of labels that are not chosen become `IGNORED`.
    """
    # A search gives any place for a label that is not there; the comparison finds out.
    chosen = chosen.to(target.device)
    places = torch.searchsorted(chosen, target).clamp(max=len(chosen) - 1)
    return torch.where(chosen[places] == target, places, IGNORED)
