"""The seven published data sets: where each comes from, how it lies on disk, how many images it has, how it is opened.

Facts that people need before they have the data; `disa data list` prints them. Sizes are approximate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from disa.data.ade20k import open_a150, open_a847
from disa.data.coco_stuff import open_coco_stuff
from disa.data.pairs import PairedDataset
from disa.data.pascal_context import open_pc59, open_pc459
from disa.data.pascal_voc import open_pas20, open_pas20b
from disa.errors import DisaError

PREPARED = "disa-prepared"  # the folder in DIR for everything that `disa data prepare` writes


@dataclass(frozen=True)
class Benchmark:
    """One published data set. `open` reads the official files as they are, from (DIR, split)."""

    name: str
    title: str
    open: Callable[[Path, str], PairedDataset]
    images: Mapping[str, int]
    """Published number of images per split."""
    page: str
    terms: str
    tree: str
    """The files that are read, below DIR."""
    disk: str
    pictures: str | None = None
    """Where the pictures of a prepared data set are, below DIR; None if the official files are read directly."""

    @property
    def prepared(self) -> bool:
        """Whether `disa data prepare` has to convert it once."""
        return self.pictures is not None

    def check_split(self, split: str) -> None:
        """Raise `DisaError` for a split that it does not have."""
        if split not in self.images:
            raise DisaError(f'{self.name} has no split "{split}"; use {" or ".join(self.images)}')


_VOC2010 = "VOCdevkit/\n  VOC2010/\n    JPEGImages/2008_000002.jpg ...\n"
_VOC_TERMS = "pictures from Flickr, under Flickr's terms of use"
_VOC2012_TREE = (
    "VOCdevkit/\n  VOC2012/\n    JPEGImages/2007_000033.jpg ...\n    SegmentationClassAug/2007_000033.png ...\n"
    "    ImageSets/Segmentation/val.txt"
)
_ADE_TERMS = "non-commercial research and education; see the page's terms of use"

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "coco-stuff",
            "COCO-Stuff, 171 categories (80 things, 91 kinds of stuff)",
            open_coco_stuff,
            {"train": 118_287, "val": 5_000},
            "https://github.com/nightrome/cocostuff (masks), https://cocodataset.org (pictures)",
            "masks: CC BY 4.0; pictures from Flickr, under Flickr's terms of use",
            "coco-stuff/\n"
            "  images/\n    train2017/000000000009.jpg ...   from train2017.zip\n"
            "    val2017/000000000139.jpg ...     from val2017.zip\n"
            "  annotations/                       from stuffthingmaps_trainval2017.zip\n"
            "    train2017/000000000009.png ...\n    val2017/000000000139.png ...",
            "20 GB (val alone: 1 GB)",
        ),
        Benchmark(
            "a150",
            "ADE20K, scene parsing benchmark of 2016, 150 categories",
            open_a150,
            {"train": 20_210, "val": 2_000},
            "http://sceneparsing.csail.mit.edu",
            _ADE_TERMS,
            "ADEChallengeData2016/               from ADEChallengeData2016.zip\n"
            "  images/\n    validation/ADE_val_00000001.jpg ...\n"
            "  annotations/\n    validation/ADE_val_00000001.png ...",
            "1 GB",
        ),
        Benchmark(
            "a847",
            "ADE20K, full annotation of 2021, its 847 most frequent categories",
            open_a847,
            {"train": 25_574, "val": 2_000},
            "https://groups.csail.mit.edu/vision/datasets/ADE20K",
            f"registration; {_ADE_TERMS}",
            "ADE20K_2021_17_01/                  from ADE20K_2021_17_01.zip\n"
            "  images/\n    ADE/\n      validation/SCENE/PLACE/ADE_val_00000001.jpg, ADE_val_00000001_seg.png ...",
            "5 GB, prepared val: 0.2 GB",
            PREPARED + "/a847/{split}/images",
        ),
        Benchmark(
            "pc59",
            "PASCAL-Context, its 59 most frequent categories",
            open_pc59,
            {"val": 5_104},
            "https://cs.stanford.edu/~roozbeh/pascal-context (masks), "
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2010 (pictures)",
            f"masks: none stated, for research; {_VOC_TERMS}",
            _VOC2010
            + "    trainval_merged.json            the annotation as merged by the PASCAL in Detail challenge\n"
            "    pascalcontext_val.txt           optional: the ids come with disa",
            "2 GB, prepared: 0.1 GB",
            "VOCdevkit/VOC2010/JPEGImages",
        ),
        Benchmark(
            "pc459",
            "PASCAL-Context, full annotation of 459 categories",
            open_pc459,
            {"val": 5_104},
            "https://cs.stanford.edu/~roozbeh/pascal-context (masks), "
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2010 (pictures)",
            f"masks: none stated, for research; {_VOC_TERMS}",
            _VOC2010 + "    trainval/2008_000002.mat ...    from PASCAL-Context's trainval.tar.gz\n"
            "    pascalcontext_val.txt           optional: the ids come with disa",
            "1.5 GB, prepared: 0.1 GB",
            "VOCdevkit/VOC2010/JPEGImages",
        ),
        Benchmark(
            "pas20",
            "PASCAL VOC 2012, 20 categories of things; background is ignored",
            open_pas20,
            {"val": 1_449},
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012; SegmentationClassAug: the augmented masks of SBD, as "
            "packed for DeepLab (https://github.com/kazuto1011/deeplab-pytorch)",
            _VOC_TERMS,
            _VOC2012_TREE,
            "2 GB",
        ),
        Benchmark(
            "pas20b",
            "PASCAL VOC 2012, the same with background as a category; 59 words are prompted",
            open_pas20b,
            {"val": 1_449},
            "as pas20",
            _VOC_TERMS,
            _VOC2012_TREE,
            "the same files as pas20",
        ),
    )
}


def find_benchmark(name: str) -> Benchmark:
    """Return a data set by its name. Raises `DisaError` that lists them for any other."""
    if name not in BENCHMARKS:
        raise DisaError(
            f'unknown data set "{name}"; use {", ".join(BENCHMARKS)}, or "folder" for your own'
        )
    return BENCHMARKS[name]
