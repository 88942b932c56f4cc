"""COCO-Stuff with its 171 categories: `coco-stuff/{images,annotations}/{train2017,val2017}`."""

from pathlib import Path

import numpy as np

from disa.data.benchmark_record import Benchmark
from disa.data.masks import Values, read_indices
from disa.data.pairs import Pair, pair_folders

FOLDERS = {"train": "train2017", "val": "val2017"}
# Official ids of things that were announced, but never annotated.
DROPPED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
# As `read_stuffthing` gives it.
UNLABELLED = 256
REMEDY = (
    "unpack train2017.zip, val2017.zip into coco-stuff/images and stuffthingmaps_trainval2017.zip "
    "into coco-stuff/annotations (`disa data list coco-stuff`)"
)
TREE = """\
coco-stuff/
  images/
    train2017/000000000009.jpg ...   from train2017.zip
    val2017/000000000139.jpg ...     from val2017.zip
  annotations/                       from stuffthingmaps_trainval2017.zip
    train2017/000000000009.png ...
    val2017/000000000139.png ..."""


def find_pairs(root: Path, split: str) -> list[Pair]:
    """Return the images of a split. Raises `DisaError` for a tree that is not whole."""
    folder = root / "coco-stuff"
    name = FOLDERS[split]
    return pair_folders(folder / "images" / name, folder / "annotations" / name, REMEDY)


def read_stuffthing(path: Path) -> Values:
    """Return the official ids (H, W) in a stuffthingmap: 1 to 182, and 256 for unlabelled.

    The file holds one less, in 8 bits, with 255 for unlabelled. Raises `DisaError`.
    """
    # Widened first: 255 + 1 must not become 0
    return read_indices(path).astype(np.uint32) + 1


COCO_STUFF = Benchmark(
    name="coco-stuff",
    title="COCO-Stuff, 171 categories (80 things, 91 kinds of stuff)",
    images={"train": 118_287, "val": 5_000},
    page="https://github.com/nightrome/cocostuff (masks), https://cocodataset.org (pictures)",
    terms="masks: CC BY 4.0; pictures from Flickr, under Flickr's terms of use",
    tree=TREE,
    disk="20 GB (val alone: 1 GB)",
    find_pairs=find_pairs,
    read_mask=read_stuffthing,
    unlabelled=(*DROPPED, UNLABELLED),
)
