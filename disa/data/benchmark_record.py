"""The record of a published data set: what people must know of it, and how it is read."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disa.data.masks import Values
from disa.data.pairs import Pair, PairedDataset
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError

PREPARED = "disa-prepared"  # the folder in DIR for everything that `disa data prepare` writes


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One published data set; its categories are in `vocabularies/NAME.json`.

    DIR is the folder that holds the unpacked archives of all data sets side by side.
    """

    # What people need to know before they have it, as `disa data list` prints it.
    name: str
    title: str
    # Published number of images per split.
    images: Mapping[str, int]
    page: str
    terms: str
    # The files that are read, below DIR.
    tree: str
    # Space that they take, roughly.
    disk: str

    # How the official files are read: finds the images from DIR and a split,
    find_pairs: Callable[[Path, str], Sequence[Pair]]
    # and turns what a pair has as its mask into source ids (H, W).
    read_mask: Callable[[Any], Values]
    # Values in masks that rightly stand for no category.
    unlabelled: Container[int]
    # Value of pixels in label maps that do not count; 65535 with more than 255 categories.
    ignored: int = 255
    dataset_type: type[PairedDataset] = PairedDataset

    # Where the pictures of a prepared data set are, below DIR.
    # None: nothing is prepared, the official files are read directly.
    pictures: str | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether `disa data prepare` has to convert it once (decision D65)."""
        return self.pictures is not None

    @property
    def converts_pictures(self) -> bool:
        """Whether it is prepared with its pictures, not with its label maps alone."""
        return self.pictures is not None and self.pictures.startswith(PREPARED)

    def check_split(self, split: str) -> None:
        """Raise `DisaError` for a split that it does not have."""
        if split not in self.images:
            raise DisaError(f'{self.name} has no split "{split}"; use {" or ".join(self.images)}')

    def open_official(self, root: Path, split: str) -> PairedDataset:
        """Open the official files below DIR (`root`), even if they are slow to read.

        Raises `DisaError` for a split that does not exist, and for a tree that lacks a file.
        """
        self.check_split(split)
        return self.dataset_type(
            self.name,
            load_vocabulary(self.name),
            self.find_pairs(root, split),
            self.read_mask,
            self.ignored,
            self.unlabelled,
        )
