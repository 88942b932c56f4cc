"""COCO-Stuff (171): `coco-stuff/{images,annotations}/{train2017,val2017}` -> pairs; a pixel is an official id - 1."""

from pathlib import Path

import numpy as np

from disa.data.masks import Values, read_indices
from disa.data.pairs import PairedDataset, pair_folders
from disa.data.vocabulary import load_vocabulary

FOLDERS = {"train": "train2017", "val": "val2017"}
DROPPED = (
    12,
    26,
    29,
    30,
    45,
    66,
    68,
    69,
    71,
    83,
    91,
)  # official ids of things that were never annotated
UNLABELLED = 256  # as `read_stuffthing` gives it
REMEDY = (
    "unpack train2017.zip, val2017.zip into coco-stuff/images and stuffthingmaps_trainval2017.zip into "
    "coco-stuff/annotations (`disa data list coco-stuff`)"
)


def open_coco_stuff(root: Path, split: str) -> PairedDataset:
    """Open the train or val split. Raises `DisaError` for a tree that is not whole."""
    folder, images = root / "coco-stuff", FOLDERS[split]
    pairs = pair_folders(folder / "images" / images, folder / "annotations" / images, REMEDY)
    return PairedDataset(
        "coco-stuff",
        load_vocabulary("coco-stuff"),
        pairs,
        read_stuffthing,
        unlabelled=(*DROPPED, UNLABELLED),
    )


def read_stuffthing(path: Path) -> Values:
    """Return the official ids of a stuffthingmap, 1 to 182; 256 is unlabelled. Widened first: 255 + 1 must not be 0."""
    return read_indices(path).astype(np.uint32) + 1
