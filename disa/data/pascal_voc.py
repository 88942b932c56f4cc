"""PASCAL VOC 2012 val: `pas20`, and `pas20b` with background as a category."""

from dataclasses import replace
from pathlib import Path

from disa.data.benchmark_record import Benchmark
from disa.data.masks import read_indices
from disa.data.pairs import Pair, listed_pairs, read_list

REMEDY = "unpack VOCtrainval_11-May-2012.tar and SegmentationClassAug.zip (`disa data list pas20`)"
TERMS = "pictures from Flickr, under Flickr's terms of use"
TREE = """\
VOCdevkit/
  VOC2012/
    JPEGImages/2007_000033.jpg ...
    SegmentationClassAug/2007_000033.png ...
    ImageSets/Segmentation/val.txt"""
UNLABELLED = (0, 255)  # background, where it is no category (decision D61), and void


def find_pairs(root: Path, split: str) -> list[Pair]:
    """Return the images that `val.txt` lists. Raises `DisaError` for a tree that is not whole."""
    folder = root / "VOCdevkit" / "VOC2012"
    ids = read_list(folder / "ImageSets" / "Segmentation" / "val.txt", REMEDY)
    masks = folder / "SegmentationClassAug"
    return listed_pairs(ids, folder / "JPEGImages", masks, ".png", REMEDY)


PAS20 = Benchmark(
    name="pas20",
    title="PASCAL VOC 2012, 20 categories of things; background is ignored",
    images={"val": 1_449},
    page="http://host.robots.ox.ac.uk/pascal/VOC/voc2012; SegmentationClassAug: the augmented "
    "masks of SBD, as packed for DeepLab (https://github.com/kazuto1011/deeplab-pytorch)",
    terms=TERMS,
    tree=TREE,
    disk="2 GB",
    find_pairs=find_pairs,
    read_mask=read_indices,
    unlabelled=UNLABELLED,
)

PAS20B = replace(
    PAS20,
    name="pas20b",
    title="PASCAL VOC 2012, the same with background as a category; 59 labels are prompted",
    page="as pas20",
    disk="the same files as pas20",
)
