"""The drawn world of picturebook as a data set like any other; nothing of it is on disk."""

from collections.abc import Sequence

import numpy as np

from disa.data.images import Pixels
from disa.data.masks import Labels
from disa.data.vocabulary import Category, Kind, Vocabulary, vocabulary_of
from disa.errors import DisaError
from disa.picturebook import NOUNS, SIZE, SYNONYMS, TEST_SEED, THINGS, TRAIN_SEED, Scene, render

PICTUREBOOK = "picturebook"
# In the benchmark: the first ones of the held-out world.
SCENES = 500
SEEDS = {"val": TEST_SEED, "train": TRAIN_SEED}


class DrawnDataset:
    """The first scenes of a world, drawn when they are asked for."""

    def __init__(self, split: str = "val", scenes: int = SCENES, size: int = SIZE) -> None:
        """Open the held-out scenes (`val`) or those of training, `size` pixels a side.

        Raises `DisaError` for another split.
        """
        if split not in SEEDS:
            raise DisaError(f'{PICTUREBOOK} has no split "{split}"; use {" or ".join(SEEDS)}')
        self.name = PICTUREBOOK
        self.vocabulary = drawn_vocabulary()
        self.ignored = 255
        self.ids: Sequence[str] = tuple(f"scene-{index:05d}" for index in range(scenes))
        self.seed = SEEDS[split]
        self.size = size

    def scene(self, index: int) -> Scene:
        """Return a scene with its picture, label map and caption."""
        return render(self.seed, index, self.size)

    def image(self, index: int) -> Pixels:
        """Return the picture, uint8 (H, W, 3)."""
        return self.scene(index).image

    def labels(self, index: int) -> Labels:
        """Return the label map (H, W); every pixel has a label."""
        return self.scene(index).labels.astype(np.uint8)

    def image_content(self, index: int) -> str:
        """Return what a scene depends on; whoever draws it gets the same one."""
        return f"{self.seed}:{index}:{self.size}"

    def mask_content(self, index: int) -> str:
        """Return the same: a scene's mask is drawn with it."""
        return self.image_content(index)


def drawn_vocabulary() -> Vocabulary:
    """Return the nouns of the drawn world, things and stuff; a noun's index is its label."""
    categories = []
    for index, noun in enumerate(NOUNS):
        kind: Kind = "thing" if noun in THINGS else "stuff"
        categories.append(Category(noun, SYNONYMS.get(noun, ()), kind, source_id=index))
    return vocabulary_of(PICTUREBOOK, categories)
