"""Reading ahead: pictures and label maps are decoded by threads while the model works on the one before.

Signature: (data set, positions) -> (position, picture, labels) in that order, a few at a time in memory.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from disa.data.dataset import Dataset
from disa.data.images import Pixels
from disa.data.masks import Labels


class Sample(NamedTuple):
    """One image of a data set and its truth."""

    position: int  # in the data set's ids
    picture: Pixels
    labels: Labels


def read_ahead(dataset: Dataset, positions: Sequence[int], workers: int) -> Iterator[Sample]:
    """Yield the samples in order; `workers` threads decode, each at most one sample ahead.

    Raises `DisaError` where reading an image does, when its turn comes.
    """
    waiting: deque[Future[Sample]] = deque()
    pool = ThreadPoolExecutor(workers, "read-ahead")
    try:
        for position in positions:
            waiting.append(pool.submit(_read, dataset, position))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(dataset: Dataset, position: int) -> Sample:
    return Sample(position, dataset.image(position), dataset.labels(position))
