"""Every published data set from its official files to label maps, on known miniatures."""

import pickle
from pathlib import Path

import miniatures
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from disa.data.ade20k import bilinear
from disa.data.benchmarks import BENCHMARKS, PAPER, find_benchmark
from disa.data.dataset import Dataset, open_dataset
from disa.data.images import read_image
from disa.data.pascal_context import PUBLISHED_LIST, val_ids
from disa.data.prepared import prepare
from disa.data.vocabulary import VOCABULARIES, load_vocabulary
from disa.running.files import file_sha256

PREPARED = ("a847", "pc59", "pc459")
# sha256 of pascalcontext_val.txt as published
PUBLISHED_VAL = "903abb826516974fc79730ae21495d8a577d4293b5fd517d738cfd21b6bd1969"
DIRECT = tuple(name for name in VOCABULARIES if name not in PREPARED)
SPLITS = [(name, "val") for name in VOCABULARIES] + [
    ("coco-stuff", "train"),
    ("a150", "train"),
    ("a847", "train"),
]


def open_prepared_or_not(name: str, root: Path, split: str = "val") -> Dataset:
    """Prepare if need be, in this process, and open."""
    if name in PREPARED:
        assert prepare(find_benchmark(name), root, split, 1, lambda done, total: None)[1] == []
    return open_dataset(name, root, split)


def test_the_seven_data_sets_are_those_of_the_vocabularies():
    assert sorted(BENCHMARKS) == sorted(VOCABULARIES)
    prepared = tuple(name for name, benchmark in BENCHMARKS.items() if benchmark.is_prepared)
    assert prepared == PREPARED
    assert set(PAPER) == set(BENCHMARKS) - {"coco-stuff"}


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_labels_are_those_known_by_construction(tmp_path: Path, name: str, split: str):
    expected = miniatures.build(name, tmp_path, split)
    dataset = open_prepared_or_not(name, tmp_path, split)
    assert dataset.name == name
    assert list(dataset.ids) == list(expected)
    assert dataset.ignored == (65535 if name in ("a847", "pc459") else 255)
    assert dataset.vocabulary == load_vocabulary(name)
    for index, labels in enumerate(expected.values()):
        found = dataset.labels(index)
        assert found.dtype == labels.dtype
        np.testing.assert_array_equal(found, labels)
        assert dataset.image(index).shape == (*labels.shape, 3)
        assert dataset.pairs[index].image.is_file()


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_data_set_goes_to_other_processes(tmp_path: Path, name: str):
    miniatures.build(name, tmp_path)
    dataset = open_prepared_or_not(name, tmp_path)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.labels(1), dataset.labels(1))


@pytest.mark.parametrize("name", DIRECT)
def test_pictures_are_the_official_files(tmp_path: Path, name: str):
    miniatures.build(name, tmp_path)
    dataset = open_dataset(name, tmp_path)
    np.testing.assert_array_equal(dataset.image(2), read_image(dataset.pairs[2].image))


def test_a847_pictures_are_shrunk_as_published_and_saved_as_jpeg(tmp_path: Path):
    miniatures.build("a847", tmp_path)
    dataset = open_prepared_or_not("a847", tmp_path)
    official = find_benchmark("a847").open_official(tmp_path, "val")
    for index, size in enumerate(((13, 20), (512, 602), (676, 512))):
        shrunk = bilinear(read_image(official.pairs[index].image), size)
        Image.fromarray(shrunk).save(tmp_path / "again.jpg")
        np.testing.assert_array_equal(official.image(index), shrunk)
        np.testing.assert_array_equal(dataset.image(index), read_image(tmp_path / "again.jpg"))


def test_the_pickled_index_of_ade20k_is_never_opened(tmp_path: Path):
    miniatures.build("a847", tmp_path)
    open_prepared_or_not("a847", tmp_path)
    assert not (tmp_path / "unpickled").exists()
    pickle.loads((tmp_path / "ADE20K_2021_17_01" / "index_ade20k.pkl").read_bytes())
    assert (tmp_path / "unpickled").exists()  # the trap works


def test_pascal_context_val_is_the_published_list(tmp_path: Path):
    ids = val_ids(tmp_path)
    assert len(ids) == len(set(ids)) == 5104 == find_benchmark("pc59").images["val"]
    assert ids[:3] == ["2008_000002", "2008_000003", "2008_000007"]
    assert file_sha256(PUBLISHED_LIST) == PUBLISHED_VAL


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_missing_folder_is_one_clear_error(tmp_path: Path, name: str):
    with refused(tmp_path, f"disa data list {name.removesuffix('b')}"):
        find_benchmark(name).open_official(tmp_path, "val")


@pytest.mark.parametrize("name", PREPARED)
def test_unprepared_data_name_the_command(tmp_path: Path, name: str):
    with refused(f"disa data prepare {name} {tmp_path}"):
        open_dataset(name, tmp_path)


def test_unknown_names_and_splits_are_told_the_known_ones(tmp_path: Path):
    with refused("ade", *BENCHMARKS, "picturebook", "folder"):
        open_dataset("ade", tmp_path)
    with refused("pas20", "train", "val"):
        open_dataset("pas20", tmp_path, "train")


def lose(path: Path) -> None:
    assert path.is_file()
    path.unlink()


LOST = {
    "coco-stuff": (
        "coco-stuff/annotations/val2017/000000000139.png",
        "coco-stuff/images/val2017/000000000000.jpg",
    ),
    "a150": (
        "ADEChallengeData2016/annotations/validation/ADE_val_00000002.png",
        "ADEChallengeData2016/images/validation/ADE_val_00000003.jpg",
    ),
    "a847": (
        "ADE20K_2021_17_01/images/ADE/validation/urban/street/ADE_val_00000001_seg.png",
        "ADE20K_2021_17_01/images/ADE/validation/urban/street/ADE_val_00000001.jpg",
    ),
    "pc59": (
        "VOCdevkit/VOC2010/JPEGImages/2008_000003.jpg",
        "VOCdevkit/VOC2010/trainval_merged.json",
    ),
    "pc459": (
        "VOCdevkit/VOC2010/trainval/2009_000001.mat",
        "VOCdevkit/VOC2010/JPEGImages/2009_000001.jpg",
    ),
    "pas20": (
        "VOCdevkit/VOC2012/SegmentationClassAug/2007_000042.png",
        "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt",
    ),
}


@pytest.mark.parametrize(
    ("name", "lost"), [(name, file) for name, files in LOST.items() for file in files]
)
def test_half_an_archive_is_named_with_its_first_missing_file(tmp_path: Path, name: str, lost: str):
    miniatures.build(name, tmp_path)
    lose(tmp_path / lost)
    with refused(tmp_path / lost, "unpack", f"`disa data list {name}`"):
        find_benchmark(name).open_official(tmp_path, "val")


def test_an_emptied_folder_is_an_error_and_not_zero_images(tmp_path: Path):
    miniatures.build("a150", tmp_path)
    for file in (tmp_path / "ADEChallengeData2016" / "images" / "validation").iterdir():
        file.unlink()
    with refused(".jpg", "ADEChallengeData2016.zip"):
        open_dataset("a150", tmp_path)


def test_a_mask_of_another_size_names_both_files(tmp_path: Path):
    miniatures.build("a150", tmp_path)
    mask = tmp_path / "ADEChallengeData2016" / "annotations" / "validation" / "ADE_val_00000002.png"
    miniatures.save_png(mask, np.zeros((4, 5), np.uint8))
    with refused(mask, "5 x 4", "00002.jpg", "23 x 12"):
        open_dataset("a150", tmp_path).labels(1)


def test_a_mask_of_colours_where_indices_are_expected(tmp_path: Path):
    miniatures.build("pas20", tmp_path)
    mask = tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClassAug" / "2007_000042.png"
    miniatures.save_png(mask, np.zeros((10, 15, 3), np.uint8))
    with refused(mask, "3 channels", "RGB"):
        open_dataset("pas20", tmp_path).labels(1)


def test_an_index_where_colours_are_expected(tmp_path: Path):
    miniatures.build("a847", tmp_path)
    mask = tmp_path / LOST["a847"][0]
    miniatures.save_png(mask, np.zeros((13, 20), np.uint8))
    with refused(mask, "mode L"):
        find_benchmark("a847").open_official(tmp_path, "val").labels(0)


def test_damaged_masks_are_named(tmp_path: Path):
    miniatures.build("pc459", tmp_path)
    (tmp_path / LOST["pc459"][0]).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with refused("2009_000001.mat"):
        find_benchmark("pc459").open_official(tmp_path, "val").labels(1)
