"""One training sample: a crop of a picture and its target, drawn by its index and nothing else.

Free of torch, so that processes that prepare samples start quickly.
"""

import signal
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from disa.config import IGNORED
from disa.data.dataset import Dataset
from disa.data.images import Pixels
from disa.errors import DisaError
from disa.picturebook import LARGEST, NOUNS, SEEN, SMALLEST, TRAIN_SEED, render
from disa.training.augment import Target, crop, jitter_colours, scaled_to
from disa.training.settings import TrainConfig

Sample = tuple[Pixels, Target]  # (size, size, 3) and (size, size)

# Picturebook's open-vocabulary protocol: only these of its nouns have masks in training.
TRAINED_WORDS = tuple(word for word in NOUNS if word in SEEN)
SEED_STRIDE = 2**32  # scenes between the streams of two seeds: no run is ever that long


@runtime_checkable
class Samples(Protocol):
    """Samples without end. An instance can be pickled, for other processes."""

    def __getitem__(self, index: int) -> Sample:
        """Return a sample: the picture and, for every pixel, a label's index or `IGNORED`."""
        ...


def stacked(samples: Samples, indices: Sequence[int]) -> tuple[NDArray[np.uint8], Target]:
    """Return several samples as arrays: pixels (b, 3, size, size) and targets (b, size, size)."""
    images, targets = zip(*(samples[index] for index in indices), strict=True)
    return np.stack(images).transpose(0, 3, 1, 2), np.stack(targets)


# Of a process that prepares samples for another one: what it takes them from.
_shared: list[Samples] = []


def share(samples: Samples) -> None:
    """Prepare this process for `stacked_shared`.

    SIGTERM is left to the training process, which saves before it ends this one.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _shared[:] = [samples]


def stacked_shared(indices: Sequence[int]) -> tuple[NDArray[np.uint8], Target]:
    """Return `stacked` samples of what this process was given."""
    return stacked(_shared[0], indices)


class CroppedImages:
    """Crops of a data set's images, augmented as in the baseline [B]; each epoch has its own order.

    A sample has its own stream of random numbers (decision D80), so that neither the number of
    processes nor a resumed run changes it.
    """

    def __init__(self, dataset: Dataset, settings: TrainConfig, size: int) -> None:
        """Make crops of `size` pixels a side."""
        self.dataset = dataset
        self.settings = settings
        self.size = size

    def __getitem__(self, index: int) -> Sample:
        """Return one sample. Raises `DisaError` for an image that cannot be read."""
        settings = self.settings
        count = len(self.dataset.ids)
        # Every epoch shows each image once, in its own order.
        position = int(_epoch_order(settings.seed, index // count, count)[index % count])
        image = self.dataset.image(position)
        labels = self.dataset.labels(position)

        # The order of these draws is part of every recipe's numbers.
        draw = np.random.default_rng((settings.seed, index))
        short_side = round(self.size * (1 + draw.uniform(0, settings.scale_jitter)))
        scaled = scaled_to(image, labels, self.dataset.ignored, short_side)
        image, target = crop(scaled, self.size, draw)
        if settings.colour_jitter:
            image = jitter_colours(image, draw)
        return _mirrored(image, target, settings.flip, draw)


class DrawnScenes:
    """Scenes of picturebook, drawn at the size that they are needed in.

    Words without masks in training are `IGNORED` in the target.
    """

    def __init__(self, settings: TrainConfig, size: int) -> None:
        """Make crops of `size` pixels a side. Raises `DisaError` for sizes that cannot be drawn."""
        largest = size * (1 + settings.scale_jitter)
        if not SMALLEST <= size <= largest <= LARGEST:
            raise DisaError(
                f"scenes of {size} to {largest:.0f} pixels a side (backbone_image_size, "
                f"scale_jitter): {SMALLEST} to {LARGEST} can be drawn"
            )
        self.settings = settings
        self.size = size
        self.target_of_word = np.full(len(NOUNS), IGNORED)
        for index, word in enumerate(TRAINED_WORDS):
            self.target_of_word[NOUNS.index(word)] = index

    def __getitem__(self, index: int) -> Sample:
        """Draw one scene and return a crop of it."""
        settings = self.settings
        draw = np.random.default_rng((settings.seed, index))
        side = round(self.size * (1 + draw.uniform(0, settings.scale_jitter)))
        scene = render(TRAIN_SEED, settings.seed * SEED_STRIDE + index, side)

        # Larger scenes are cropped, with the same window for picture and target.
        top, left = draw.integers(0, side - self.size + 1, size=2)
        window = np.s_[top : top + self.size, left : left + self.size]
        target = self.target_of_word[scene.labels[window]]
        return _mirrored(scene.image[window], target, settings.flip, draw)


def _mirrored(image: Pixels, target: Target, flip: bool, draw: np.random.Generator) -> Sample:
    if flip and draw.random() < 0.5:
        return image[:, ::-1], target[:, ::-1]
    return image, target


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch, count)).permutation(count)
