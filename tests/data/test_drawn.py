"""Picturebook as a data set like any other."""

import pickle
from pathlib import Path

import miniatures
import numpy as np
import pytest
from refusals import refused

from disa.data.dataset import Dataset, open_dataset
from disa.picturebook import NOUNS, STUFF, TEST_SEED, THINGS, TRAIN_SEED, render


@pytest.mark.parametrize(("split", "seed"), [("val", TEST_SEED), ("train", TRAIN_SEED)])
def test_images_and_labels_are_the_worlds_own(split: str, seed: int):
    dataset = open_dataset("picturebook", None, split)
    assert isinstance(dataset, Dataset)
    assert (dataset.name, len(dataset.ids)) == ("picturebook", 500)
    assert dataset.ids[3] == "scene-00003"
    for index in (0, 3, 499):
        scene = render(seed, index)
        np.testing.assert_array_equal(dataset.image(index), scene.image)
        np.testing.assert_array_equal(dataset.labels(index), scene.labels)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.labels(1), dataset.labels(1))


def test_its_vocabulary_is_the_worlds():
    vocabulary = open_dataset("picturebook", None).vocabulary
    assert vocabulary.prompts() == NOUNS
    assert "boat|ship" in vocabulary.prompts(synonyms=True)
    kinds = [category.kind for category in vocabulary.categories]
    assert kinds == ["thing"] * len(THINGS) + ["stuff"] * len(STUFF)


def test_scenes_are_told_apart_by_their_content():
    contents = {
        open_dataset("picturebook", None, split).image_content(index)
        for split in ("val", "train")
        for index in range(5)
    }
    assert len(contents) == 10


def test_what_it_does_not_have(tmp_path: Path):
    with refused("picturebook", "test", "val"):
        open_dataset("picturebook", None, "test")
    with refused("--data"):
        open_dataset("picturebook", tmp_path)


def test_scenes_in_files_are_the_same_data_set(tmp_path: Path):
    """A folder of your own with drawn pictures, palette masks and a list of the split."""
    drawn = open_dataset("picturebook", None)
    root = tmp_path / "scenes"
    for index in range(4):
        name = f"{drawn.ids[index]}.png"
        miniatures.save_png(root / "images" / name, drawn.image(index))
        miniatures.save_png(root / "masks" / name, drawn.labels(index), palette=True)
    (root / "classes.txt").write_text("\n".join(NOUNS))
    (root / "val.txt").write_text("\n".join(drawn.ids[1:4]))
    own = open_dataset("folder", root)
    assert list(own.ids) == list(drawn.ids[1:4])
    for index in range(3):
        np.testing.assert_array_equal(own.image(index), drawn.image(index + 1))
        np.testing.assert_array_equal(own.labels(index), drawn.labels(index + 1))
    assert own.image_content(0) != own.image_content(1)


def test_a_corrected_mask_has_another_content(tmp_path: Path):
    root = tmp_path / "own"
    miniatures.photograph(root / "images" / "a.jpg", 3, 4, 0)
    miniatures.save_png(root / "masks" / "a.png", np.zeros((3, 4), np.uint8))
    (root / "classes.txt").write_text("sky\nsea")
    own = open_dataset("folder", root)
    before = own.mask_content(0)
    assert own.mask_content(0) == before
    miniatures.save_png(root / "masks" / "a.png", np.ones((3, 4), np.uint8))
    assert own.mask_content(0) != before
