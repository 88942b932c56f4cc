"""Crops of a data set's images as training samples: the baseline's augmentation [B].

Pictures are uint8 (H, W, 3), label maps (H, W). Whatever is random comes from a numpy generator
that belongs to the sample (decision D80).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disa.config import IGNORED
from disa.data.dataset import Dataset
from disa.data.images import Pixels
from disa.data.masks import Labels
from disa.training.settings import TrainConfig

# Largest changes of colour [B].
BRIGHTNESS = 32  # grey levels
CONTRAST = 0.5  # share
SATURATION = 0.5  # share
HUE = 36  # degrees

Target = NDArray[np.int64]  # (H, W), a label's index or `IGNORED`
Sample = tuple[Pixels, Target]  # (size, size, 3) and (size, size)


@dataclass(frozen=True)
class CroppedImages:
    """Crops of a data set's images, augmented as in the baseline [B]; each epoch has its own order.

    A sample has its own stream of random numbers (decision D80), so that neither the number of
    processes nor a resumed run changes it.
    """

    dataset: Dataset
    settings: TrainConfig
    size: int  # pixels of a crop's side

    def __getitem__(self, index: int) -> Sample:
        """Return one sample. Raises `DisaError` for an image that cannot be read."""
        settings = self.settings
        # Every epoch shows each image once, in its own order.
        count = len(self.dataset.ids)
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
        if settings.flip and draw.random() < 0.5:
            return image[:, ::-1], target[:, ::-1]
        return image, target


@dataclass(frozen=True)
class Scaled:
    """A picture and its label map at another size; only the windows asked for are computed.

    `ignored` is the label map's value of pixels that do not count; in a target they are `IGNORED`.
    """

    image: Pixels
    labels: Labels
    ignored: int
    height: int
    width: int

    def pixels(self, top: int, left: int, size: int) -> Pixels:
        """Return a square window of the picture.

        Resized bilinearly, and smoothed where the picture shrinks, as Pillow does it [B].
        """
        old_height, old_width = self.labels.shape
        if (old_height, old_width) == (self.height, self.width):
            return self.image[top : top + size, left : left + size]

        # The window in pixels of the original: left, top, right, bottom, which may be fractions.
        # Rounding must not push it over the edge.
        box = (
            left * old_width / self.width,
            top * old_height / self.height,
            min((left + size) * old_width / self.width, old_width),
            min((top + size) * old_height / self.height, old_height),
        )
        picture = Image.fromarray(self.image)
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box))

    def target(self, top: int, left: int, size: int) -> Target:
        """Return the same window of the target: the label below each pixel's centre [B]."""
        # Nearest neighbours by integers: floats would miss by a pixel in long pictures.
        old_height, old_width = self.labels.shape
        rows = _centres(top, top + size, old_height, self.height)
        columns = _centres(left, left + size, old_width, self.width)
        labels = self.labels[rows[:, None], columns].astype(np.int64)
        return np.where(labels == self.ignored, IGNORED, labels)


def scaled_to(image: Pixels, labels: Labels, ignored: int, short_side: int) -> Scaled:
    """Return both with a short side of `short_side` pixels."""
    # The long side is rounded half up, as in detectron2 [B].
    height, width = labels.shape
    scale = short_side / min(height, width)
    return Scaled(
        image,
        labels,
        ignored,
        height=max(short_side, int(height * scale + 0.5)),
        width=max(short_side, int(width * scale + 0.5)),
    )


def crop(scaled: Scaled, size: int, draw: np.random.Generator) -> tuple[Pixels, Target]:
    """Return the same random part of picture and target, `size` a side [B]."""
    top = int(draw.integers(0, scaled.height - size + 1))
    left = int(draw.integers(0, scaled.width - size + 1))
    return scaled.pixels(top, left, size), scaled.target(top, left, size)


def jitter_colours(image: Pixels, draw: np.random.Generator) -> Pixels:
    """Return the image with brightness, contrast, saturation and hue changed, as SSD does [B].

    Each of them changes in half of the cases; contrast comes before saturation and hue or after
    them, at random. Values are rounded, where the baseline cuts digits off.
    """
    # Drawn all at once, in a fixed order, whichever of them are used.
    is_changed = draw.random(4) < 0.5
    contrast_first = draw.random() < 0.5
    brightness, contrast, saturation, hue = draw.uniform(-1, 1, 4)

    if is_changed[0]:
        image = _bytes(image.astype(np.float32) + np.float32(BRIGHTNESS * brightness))
    factor = np.float32(1 + CONTRAST * contrast if is_changed[1] else 1)
    if contrast_first:
        image = _bytes(image * factor)
    # Saturation and hue share one trip to HSV and back, which costs the most.
    if is_changed[2] or is_changed[3]:
        hsv = np.array(Image.fromarray(image).convert("HSV"))
        if is_changed[2]:
            hsv[..., 1] = _bytes(hsv[..., 1] * np.float32(1 + SATURATION * saturation))
        if is_changed[3]:
            # Hue is a circle, and bytes wrap around.
            hsv[..., 0] += np.uint8(round(HUE * hue * 256 / 360) % 256)
        image = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    if not contrast_first:
        image = _bytes(image * factor)
    return image


def _bytes(values: NDArray[np.float32]) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _centres(first: int, end: int, old: int, new: int) -> NDArray[np.int64]:
    """Return the index among `old` pixels below the centres of pixels first..end of `new`."""
    return (2 * np.arange(first, end) + 1) * old // (2 * new)


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch, count)).permutation(count)
