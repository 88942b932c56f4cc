"""A data set in memory, and a predictor that is right about half of the pixels."""

import numpy as np
import torch
from torch import Tensor

from disa.data.vocabulary import Category, Vocabulary
from disa.errors import DisaError

KINDS = ("thing", "stuff", None)


class Miniature:
    """Blocky label maps of several sizes.

    The picture's red and green channels hold the labels' low and high byte.
    """

    def __init__(
        self, images: int = 7, categories: int = 5, ignored: int = 255, damaged: int | None = None
    ) -> None:
        self.name, self.ignored, self.damaged = "miniature", ignored, damaged
        words = tuple(
            Category(f"word {index}", kind=KINDS[index % 3]) for index in range(categories)
        )
        self.vocabulary = Vocabulary(self.name, words, words, tuple(range(categories)))
        self.ids = [f"picture-{index}" for index in range(images)]
        self.read: list[int] = []

    def labels(self, index: int) -> np.ndarray:
        if index == self.damaged:
            raise DisaError(f"{self.ids[index]}: damaged")
        draw = np.random.default_rng(index)
        used = min(len(self.vocabulary.categories) - 1, 400)  # the last category is in no image
        blocks = draw.integers(0, used, (4, 5)).astype(np.int64)
        blocks[draw.random((4, 5)) < 0.2] = self.ignored
        maps = blocks.repeat(6 + index % 3, 0).repeat(7, 1)
        return maps.astype(np.uint16 if self.ignored > 255 else np.uint8)

    def image(self, index: int) -> np.ndarray:
        self.read.append(index)
        labels = self.labels(index).astype(np.uint16)
        return np.stack([labels & 255, labels >> 8, np.full_like(labels, index)], 2).astype(
            np.uint8
        )

    def image_content(self, index: int) -> str:
        return f"image {index}"

    def mask_content(self, index: int) -> str:
        return f"mask {index}"

    def predict(self, picture: np.ndarray) -> Tensor:
        """Shift the truth by a few pixels, so that most is right.

        Where it is ignored, say the last category.
        """
        truth = torch.from_numpy(
            picture[..., 0].astype(np.int64) + 256 * picture[..., 1].astype(np.int64)
        )
        truth[truth == self.ignored] = len(self.vocabulary.categories) - 1
        return truth.roll(int(picture[0, 0, 2]) % 4 + 2, 1)
