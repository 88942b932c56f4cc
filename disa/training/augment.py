"""What is done to a picture and its label map before they are a training sample: the baseline's augmentation [B].

Signature: (picture, label map, seen at another size) -> a crop of at most `S x S` -> colours -> padded to `S x S`.
Each takes a numpy generator where something is drawn (quirk 3).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disa.data.images import Pixels
from disa.data.masks import Labels
from disa.model.losses import IGNORED

PADDING = 128  # grey level right of and below a picture that is smaller than the crop [B]
CROPS = 10  # tries to find a crop in which no category has too large a share
BRIGHTNESS, CONTRAST, SATURATION, HUE = (
    32,
    0.5,
    0.5,
    36,
)  # largest changes: grey levels, shares, shares, degrees [B]

Target = NDArray[np.int64]  # (H, W), a category's index or `IGNORED`


@dataclass(frozen=True)
class Scaled:
    """A picture and its label map as they are at another size, of which only the window asked for is computed.

    `ignored` is the label map's own value of pixels that do not count; in a target they are `IGNORED`.
    """

    image: Pixels
    labels: Labels
    ignored: int
    height: int
    width: int

    def pixels(self, top: int, left: int, size: int) -> Pixels:
        """Return a window of the picture, at most `size` a side: bilinear, blurred where it shrinks (Pillow's) [B]."""
        old, new = self.labels.shape, (self.height, self.width)
        ends = min(top + size, self.height), min(left + size, self.width)
        if old == new:
            return self.image[top : ends[0], left : ends[1]]
        upper, lower = (min(edge * old[0] / new[0], old[0]) for edge in (top, ends[0]))
        before, after = (min(edge * old[1] / new[1], old[1]) for edge in (left, ends[1]))
        shape, box = (ends[1] - left, ends[0] - top), (before, upper, after, lower)
        return np.asarray(Image.fromarray(self.image).resize(shape, Image.Resampling.BILINEAR, box))

    def target(self, top: int, left: int, size: int) -> Target:
        """Return the same window of the target: the label below each pixel's centre [B]."""
        rows = _centres(top, min(top + size, self.height), self.labels.shape[0], self.height)
        columns = _centres(left, min(left + size, self.width), self.labels.shape[1], self.width)
        labels = self.labels[rows[:, None], columns].astype(np.int64)
        return np.where(labels == self.ignored, IGNORED, labels)


def scaled_to(image: Pixels, labels: Labels, ignored: int, short: int) -> Scaled:
    """Return both with a short side of `short` pixels."""
    height, width = labels.shape
    scale = short / min(height, width)
    return Scaled(
        image,
        labels,
        ignored,
        max(short, int(height * scale + 0.5)),
        max(short, int(width * scale + 0.5)),
    )


def crop(
    scaled: Scaled, size: int, largest_share: float, draw: np.random.Generator
) -> tuple[Pixels, Target]:
    """Return the same random part of picture and target, at most `size` a side.

    Of ten tries the first in which no category has more than `largest_share` of the labelled pixels, else the last [B].
    """
    for _ in range(CROPS):
        top = int(draw.integers(0, max(0, scaled.height - size) + 1))
        left = int(draw.integers(0, max(0, scaled.width - size) + 1))
        target = scaled.target(top, left, size)
        counts = np.bincount(target[target != IGNORED], minlength=1)
        if largest_share >= 1 or (
            counts.sum() > 0 and counts.max() <= largest_share * counts.sum()
        ):
            break
    return scaled.pixels(top, left, size), target


def pad(image: Pixels, target: Target, size: int) -> tuple[Pixels, Target]:
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
            hsv[..., 0] += np.uint8(
                round(HUE * hue * 256 / 360) % 256
            )  # hue is a circle, and bytes wrap
        changed = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    return changed if first else _bytes(changed * factor)


def _bytes(values: NDArray[np.float32]) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _centres(first: int, end: int, old: int, new: int) -> NDArray[np.int64]:
    """Return the index among `old` pixels below the centre of each of the pixels `first` to `end` of `new`."""
    return (2 * np.arange(first, end) + 1) * old // (2 * new)
