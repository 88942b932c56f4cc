"""ADE20K twice: the scene parsing benchmark (`a150`) and the full data set (`a847`) -> pairs.

The full data set's pictures are shrunk to a short side of 512 as the published results' were (D64). Its pickled index
is never opened: the tree holds the same files (D63).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from disa.data.images import Pixels
from disa.data.masks import Labels, Values, read_indices, read_rgb
from disa.data.pairs import Pair, PairedDataset, pair_folders
from disa.data.resize import bilinear, nearest
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError

FOLDERS = {"train": "training", "val": "validation"}
SHORT_SIDE = 512
OBJECT_IDS = (
    26 * 256
)  # what a `_seg.png` can express; most objects of the data set are none of the 847
REMEDY_150 = "unpack ADEChallengeData2016.zip (`disa data list a150`)"
REMEDY_847 = "unpack ADE20K_2021_17_01.zip (`disa data list a847`)"


def open_a150(root: Path, split: str) -> PairedDataset:
    """Open the benchmark's 150 categories. Raises `DisaError` for a tree that is not whole."""
    folder, part = root / "ADEChallengeData2016", FOLDERS[split]
    pairs = pair_folders(folder / "images" / part, folder / "annotations" / part, REMEDY_150)
    return PairedDataset("a150", load_vocabulary("a150"), pairs, read_indices, unlabelled=(0,))


def open_a847(root: Path, split: str) -> PairedDataset:
    """Open the full data set's 847 categories, in 16 bits. Raises `DisaError` for a tree that is not whole."""
    folder = root / "ADE20K_2021_17_01" / "images" / "ADE" / FOLDERS[split]
    if not folder.is_dir():
        raise DisaError(f"{folder}: no such folder; {REMEDY_847}")
    pairs = sorted(_full_pairs(folder), key=lambda pair: pair.id)
    if not pairs:
        raise DisaError(f"{folder}: holds no .jpg file with its _seg.png; {REMEDY_847}")
    return ShrunkDataset(
        "a847",
        load_vocabulary("a847"),
        pairs,
        read_object_ids,
        ignored=65535,
        unlabelled=range(OBJECT_IDS),
    )


class ShrunkDataset(PairedDataset):
    """Pictures and labels with a short side of at most 512 pixels."""

    def image(self, index: int) -> Pixels:
        """Return the picture, shrunk bilinearly. Raises `DisaError`."""
        picture = super().image(index)
        return bilinear(picture, shrunk_size(*picture.shape[:2]))

    def labels(self, index: int) -> Labels:
        """Return the label map, shrunk by OpenCV's nearest rule. Raises `DisaError`."""
        labels = super().labels(index)
        return nearest(labels, shrunk_size(*labels.shape))


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """Return the (H, W) to which the benchmark shrinks a picture whose short side is above 512."""
    short = min(height, width)
    if short <= SHORT_SIDE:
        return height, width
    return round(height / short * SHORT_SIDE), round(width / short * SHORT_SIDE)


def read_object_ids(path: Path) -> Values:
    """Return the object ids of a `_seg.png`: tens of red times 256, plus green (blue tells instances apart)."""
    red, green = np.moveaxis(read_rgb(path)[..., :2].astype(np.uint16), -1, 0)
    return red // 10 * 256 + green


def _full_pairs(folder: Path) -> Iterator[Pair]:
    """Yield the pictures below a folder with their masks. An image's folder of instance masks is not entered."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("ADE_"))
        there = set(names)
        for name in names:
            picture = name.replace("_seg.png", ".jpg")
            if picture not in there and picture != name:
                raise DisaError(f"{Path(place, picture)}: no such picture for {name}; {REMEDY_847}")
            if name.endswith(".jpg"):
                mask = f"{name.removesuffix('.jpg')}_seg.png"
                if mask not in there:
                    raise DisaError(f"{Path(place, mask)}: no such mask; {REMEDY_847}")
                yield Pair(name.removesuffix(".jpg"), Path(place, name), Path(place, mask))
