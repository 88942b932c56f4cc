"""ADE20K twice: the scene parsing benchmark (`a150`) and the full data set (`a847`).

Pictures of the full data set are shrunk as those of the published results were (decision D64). Its
pickled index is never opened, because the tree holds the same files (decision D63).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disa.data.benchmark_record import PREPARED, Benchmark
from disa.data.images import Pixels
from disa.data.masks import Labels, Values, read_indices, read_rgb
from disa.data.pairs import Pair, PairedDataset, pair_folders
from disa.errors import DisaError

FOLDERS = {"train": "training", "val": "validation"}
SHORT_SIDE = 512
# A `_seg.png` can express so many object ids; most objects of the data set are none of the 847.
OBJECT_IDS = 26 * 256
REMEDY_150 = "unpack ADEChallengeData2016.zip (`disa data list a150`)"
REMEDY_847 = "unpack ADE20K_2021_17_01.zip (`disa data list a847`)"
TERMS = "non-commercial research and education; see the page's terms of use"
TREE_150 = """\
ADEChallengeData2016/               from ADEChallengeData2016.zip
  images/
    validation/ADE_val_00000001.jpg ...
  annotations/
    validation/ADE_val_00000001.png ..."""
TREE_847 = """\
ADE20K_2021_17_01/                  from ADE20K_2021_17_01.zip
  images/
    ADE/
      validation/SCENE/PLACE/ADE_val_00000001.jpg, ADE_val_00000001_seg.png ..."""


class ShrunkDataset(PairedDataset):
    """Pictures and labels with a short side of at most 512 pixels."""

    def image(self, index: int) -> Pixels:
        """Return the picture (H, W, 3), shrunk bilinearly. Raises `DisaError`."""
        picture = super().image(index)
        height, width, _ = picture.shape
        return bilinear(picture, shrunk_size(height, width))

    def labels(self, index: int) -> Labels:
        """Return the label map (H, W), shrunk by OpenCV's nearest rule. Raises `DisaError`."""
        labels = super().labels(index)
        height, width = labels.shape
        return nearest(labels, shrunk_size(height, width))


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """Return the (H, W) of a picture as the benchmark shrinks it: short side at most 512."""
    short = min(height, width)
    if short <= SHORT_SIDE:
        return height, width
    return round(height / short * SHORT_SIDE), round(width / short * SHORT_SIDE)


def find_pairs_150(root: Path, split: str) -> list[Pair]:
    """Return the images of the benchmark. Raises `DisaError` for a tree that is not whole."""
    folder = root / "ADEChallengeData2016"
    name = FOLDERS[split]
    return pair_folders(folder / "images" / name, folder / "annotations" / name, REMEDY_150)


def find_pairs_847(root: Path, split: str) -> list[Pair]:
    """Return the images of the full data set. Raises `DisaError` for a tree that is not whole."""
    folder = root / "ADE20K_2021_17_01" / "images" / "ADE" / FOLDERS[split]
    if not folder.is_dir():
        raise DisaError(f"{folder}: no such folder; {REMEDY_847}")
    pairs = sorted(_pairs_below(folder), key=lambda pair: pair.id)
    if not pairs:
        raise DisaError(f"{folder}: holds no .jpg file with its _seg.png; {REMEDY_847}")
    return pairs


def read_object_ids(path: Path) -> Values:
    """Return the object ids (H, W) in a `_seg.png`: tens of red times 256, plus green.

    Blue tells the instances of an object apart. Raises `DisaError`.
    """
    colours = read_rgb(path).astype(np.uint16)
    red = colours[..., 0]
    green = colours[..., 1]
    return red // 10 * 256 + green


def _pairs_below(folder: Path) -> Iterator[Pair]:
    """Yield the pictures in a folder and the folders in it, each with its mask."""
    for place, subfolders, names in os.walk(folder):
        # A folder named like an image holds the masks of its instances: it is not entered.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("ADE_"))
        present = set(names)
        for name in names:
            picture = name.replace("_seg.png", ".jpg")
            if name.endswith("_seg.png") and picture not in present:
                raise DisaError(f"{Path(place, picture)}: no such picture for {name}; {REMEDY_847}")
            if name.endswith(".jpg"):
                stem = name.removesuffix(".jpg")
                mask = f"{stem}_seg.png"
                if mask not in present:
                    raise DisaError(f"{Path(place, mask)}: no such mask; {REMEDY_847}")
                yield Pair(stem, Path(place, name), Path(place, mask))


# The two resizings of the published preparation, as OpenCV does them (decision D64). Pillow's rules
# differ: its nearest neighbour changes 11 to 14 % of the pixels of a label map, and its bilinear
# filter blurs first.


def nearest(labels: Labels, size: tuple[int, int]) -> Labels:
    """Return labels (H, W) at another size: the source at floor(position x scale).

    This is OpenCV's INTER_NEAREST.
    """
    height, width = size
    rows = _floors(labels.shape[0], height)
    columns = _floors(labels.shape[1], width)
    return labels[rows[:, None], columns]


def bilinear(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Return a picture (H, W, 3) at another size, mixed from four pixels each without blurring.

    This is OpenCV's INTER_LINEAR, to one grey level.
    """
    if picture.shape[:2] == size:
        return picture
    height, width = size
    top, bottom, down = _neighbours(picture.shape[0], height)
    left, right, across = _neighbours(picture.shape[1], width)
    down = down[:, None, None]
    across = across[None, :, None]

    # first the rows, (H', W, 3), then the columns, (H', W', 3)
    upper = picture[top].astype(np.float32)
    lower = picture[bottom].astype(np.float32)
    mixed = upper + (lower - upper) * down
    mixed = mixed[:, left] * (1 - across) + mixed[:, right] * across
    return np.rint(mixed).astype(np.uint8)


def _floors(old: int, new: int) -> NDArray[np.intp]:
    """Return the source index of each of `new` positions."""
    # Written as OpenCV writes it: another order of divisions rounds some positions differently.
    scale = 1 / (new / old)
    return np.minimum(np.floor(np.arange(new) * scale).astype(np.intp), old - 1)


def _neighbours(
    old: int, new: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the source indices before and after each centre, and the share of the later one."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    before = np.floor(centre).astype(np.intp)
    after = np.minimum(before + 1, old - 1)
    return before, after, (centre - before).astype(np.float32)


A150 = Benchmark(
    name="a150",
    title="ADE20K, scene parsing benchmark of 2016, 150 categories",
    images={"train": 20_210, "val": 2_000},
    page="http://sceneparsing.csail.mit.edu",
    terms=TERMS,
    tree=TREE_150,
    disk="1 GB",
    find_pairs=find_pairs_150,
    read_mask=read_indices,
    unlabelled=(0,),
)

A847 = Benchmark(
    name="a847",
    title="ADE20K, full annotation of 2021, its 847 most frequent categories",
    images={"train": 25_574, "val": 2_000},
    page="https://groups.csail.mit.edu/vision/datasets/ADE20K",
    terms=f"registration; {TERMS}",
    tree=TREE_847,
    disk="5 GB, prepared val: 0.2 GB",
    find_pairs=find_pairs_847,
    read_mask=read_object_ids,
    unlabelled=range(OBJECT_IDS),
    ignored=65535,
    dataset_type=ShrunkDataset,
    pictures=f"{PREPARED}/a847/{{split}}/images",
)
