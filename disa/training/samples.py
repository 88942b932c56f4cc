"""Photographs with masks as training samples, each a function of (seed, sample index) and of nothing else.

Signature: (Dataset, settings, index) -> pixels `3 S S` uint8, target `S S` (index into the labels, or 255: ignored).
The augmentation is the baseline's [B] (quirk 3), with one stream of random numbers per sample (decision D80).
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as Samples

from disa.data.dataset import Dataset, open_dataset
from disa.data.images import Pixels
from disa.errors import DisaError
from disa.model.losses import IGNORED
from disa.training.scenes import LABELS, TrainingScenes
from disa.training.settings import TrainConfig

PADDING = 128  # grey level right of and below a picture that is smaller than the crop [B]
CROPS = 10  # tries to find a crop in which no category has too large a share
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32, 0.5, 0.5, 36  # largest changes: grey levels, shares, shares, degrees [B]

Sample = tuple[Tensor, Tensor]


class Source(NamedTuple):
    """What a run is trained on. `facts` tell one source from another; a run goes on only with its own."""

    name: str
    labels: tuple[str, ...]  # what is prompted, in the order of the targets
    samples: Callable[[TrainConfig, int], Samples[Sample]]  # (settings, pixels a side)
    facts: dict[str, Any]


PICTUREBOOK = Source("picturebook", LABELS, TrainingScenes, {"name": "picturebook"})


def dataset_source(name: str, root: str | Path, split: str = "train") -> Source:
    """Return a data set (`disa data list`) or a folder of one's own as a source.

    Raises `DisaError` for one that cannot be opened, holds no images, or has more categories than a target can tell.
    """
    dataset = open_dataset(name, root, split)
    labels = dataset.vocabulary.prompts()
    if not dataset.ids:
        raise DisaError(f"{root}: {name} holds no images of the split {split}; see disa data check")
    if len(labels) > IGNORED:
        raise DisaError(
            f"{name} has {len(labels)} categories; training knows {IGNORED} at most, such as coco-stuff's 171"
        )
    if len(labels) != len(dataset.vocabulary.categories):
        raise DisaError(f"{name} prompts other words than it scores, so it is no data set to train on; use pas20")
    ids = hashlib.sha256("\n".join(dataset.ids).encode()).hexdigest()
    facts = {"name": name, "split": split, "images": len(dataset.ids), "ids": ids, "labels": list(labels)}
    return Source(dataset.name, labels, partial(TrainingImages, dataset), facts)


class TrainingImages(Samples[Sample]):
    """Crops of a data set's images without end: every epoch in an order of its own."""

    def __init__(self, dataset: Dataset, settings: TrainConfig, size: int) -> None:
        """Yield crops of `size` pixels a side."""
        self.dataset, self.settings, self.size = dataset, settings, size

    def __getitem__(self, index: int) -> Sample:
        """Return one sample. Raises `DisaError` for an image that cannot be read."""
        seed, count = self.settings.seed, len(self.dataset.ids)
        position = int(_order(seed, index // count, count)[index % count])
        draw = np.random.default_rng((seed, index))
        image, target = self.dataset.image(position), self._target(position)
        scale = 1 + draw.uniform(0, self.settings.scale_jitter)
        image, target = resize_short_side(image, target, round(self.size * scale))
        image, target = crop(image, target, self.size, self.settings.largest_share, draw)
        if self.settings.colour_jitter:
            image = jitter_colours(image, draw)
        if self.settings.flip and draw.random() < 0.5:
            image, target = image[:, ::-1], target[:, ::-1]
        image, target = pad(image, target, self.size)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return pixels, torch.from_numpy(target.astype(np.int64))

    def _target(self, position: int) -> NDArray[np.uint8]:
        labels = self.dataset.labels(position)
        return np.where(labels == self.dataset.ignored, IGNORED, labels).astype(np.uint8)


def resize_short_side(image: Pixels, target: NDArray[np.uint8], short: int) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return both with a short side of `short` pixels: the image bilinearly, the target by nearest pixel [B]."""
    height, width = target.shape
    scale = short / min(height, width)
    size = max(short, int(width * scale + 0.5)), max(short, int(height * scale + 0.5))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    labels = Image.fromarray(target).resize(size, Image.Resampling.NEAREST)
    return np.asarray(resized), np.asarray(labels)


def crop(
    image: Pixels, target: NDArray[np.uint8], size: int, largest_share: float, draw: np.random.Generator
) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return the same random part of both, at most `size` a side.

    Of ten tries the first in which no category has more than `largest_share` of the labelled pixels, else the last [B].
    """
    height, width = target.shape
    for _ in range(CROPS):
        top = int(draw.integers(0, max(0, height - size) + 1))
        left = int(draw.integers(0, max(0, width - size) + 1))
        window = np.s_[top : top + size, left : left + size]
        part = target[window]
        counts = np.bincount(part[part != IGNORED], minlength=1)
        if largest_share >= 1 or (counts.sum() > 0 and counts.max() <= largest_share * counts.sum()):
            break
    return image[window], part


def pad(image: Pixels, target: NDArray[np.uint8], size: int) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return both filled up to `size` x `size` to the right and below: grey, and ignored [B]."""
    below, right = size - target.shape[0], size - target.shape[1]
    if not below and not right:
        return image, target
    return (
        np.pad(image, ((0, below), (0, right), (0, 0)), constant_values=PADDING),
        np.pad(target, ((0, below), (0, right)), constant_values=IGNORED),
    )


def jitter_colours(image: Pixels, draw: np.random.Generator) -> Pixels:
    """Return the image with brightness, contrast, saturation and hue each changed in half of the cases, as SSD [B].

    Contrast comes before saturation and hue or after them, at random. Values are rounded, where the baseline cuts.
    """
    values, chances, first = image.astype(np.float32), draw.random(4) < 0.5, draw.random() < 0.5
    brightness, contrast, saturation, hue = draw.uniform(-1, 1, 4)
    factor = np.float32(1 + CONTRAST * contrast if chances[1] else 1)
    changed = _bytes(values + np.float32(BRIGHTNESS * brightness)) if chances[0] else image
    changed = _bytes(changed * factor) if first else changed
    if chances[2] or chances[3]:
        hsv = np.array(Image.fromarray(changed).convert("HSV"))
        if chances[2]:
            hsv[..., 1] = _bytes(hsv[..., 1] * np.float32(1 + SATURATION * saturation))
        if chances[3]:
            hsv[..., 0] += np.uint8(round(HUE * hue * 256 / 360) % 256)  # hue is a circle, and bytes wrap
        changed = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    return changed if first else _bytes(changed * factor)


def _bytes(values: NDArray[np.float32]) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of the images in an epoch."""
    return np.random.default_rng((seed, epoch, count)).permutation(count)
