"""PASCAL VOC 2012 val: `VOCdevkit/VOC2012` -> pairs for `pas20`, and for `pas20b`, in which 0 is a category, too."""

from pathlib import Path

from disa.data.masks import read_indices
from disa.data.pairs import Pair, PairedDataset, listed_files, read_list
from disa.data.vocabulary import load_vocabulary

REMEDY = "unpack VOCtrainval_11-May-2012.tar and SegmentationClassAug.zip (`disa data list pas20`)"


def open_pas20(root: Path, split: str) -> PairedDataset:
    """Open the 20 categories; background (0) and void (255) are ignored. Raises `DisaError`."""
    return _open(root, "pas20")


def open_pas20b(root: Path, split: str) -> PairedDataset:
    """Open the 20 categories and background, which is 0 in the masks and label 20. Raises `DisaError`."""
    return _open(root, "pas20b")


def _open(root: Path, name: str) -> PairedDataset:
    folder = root / "VOCdevkit" / "VOC2012"
    ids = read_list(folder / "ImageSets" / "Segmentation" / "val.txt", REMEDY)
    images = listed_files(ids, folder / "JPEGImages", ".jpg", REMEDY)
    masks = listed_files(ids, folder / "SegmentationClassAug", ".png", REMEDY)
    pairs = [Pair(*each) for each in zip(ids, images, masks, strict=True)]
    return PairedDataset(name, load_vocabulary(name), pairs, read_indices, unlabelled=(0, 255))
