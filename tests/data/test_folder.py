"""A data set of your own: every form of mask, lists of a split, and what people get wrong."""

import json
from pathlib import Path

import miniatures
import numpy as np
import pytest
from PIL import Image

from disa.data.dataset import Dataset, open_dataset
from disa.errors import DisaError

CLASSES = ["sky", "sea", "boat|ship"]
COLOURS = [(0, 128, 255), (0, 0, 120), (200, 10, 10)]
LABELS = np.array([[0, 0, 1, 1], [2, 2, 1, 255], [2, 0, 1, 255]], np.uint8)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three pictures of several suffixes with index masks."""
    root = tmp_path / "own"
    for number, suffix in enumerate((".jpg", ".PNG", ".webp")):
        miniatures.photograph(root / "images" / f"p{number}{suffix}", 3, 4, number)
        miniatures.save_png(root / "masks" / f"p{number}.png", np.roll(LABELS, number, 0))
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def fails(root: Path, message: str, split: str = "val") -> None:
    """Opening or reading it raises one line that says this."""
    with pytest.raises(DisaError, match=message) as raised:
        dataset = open_dataset("folder", root, split)
        for index in range(len(dataset.ids)):
            dataset.labels(index)
    assert "\n" not in str(raised.value)
    assert str(root) in str(raised.value)


def check_labels(dataset: Dataset) -> None:
    for number, name in enumerate(dataset.ids):
        np.testing.assert_array_equal(dataset.labels(number), np.roll(LABELS, int(name[1]), 0))


def test_index_masks(own: Path):
    dataset = open_dataset("folder", own)
    assert dataset.name == "own"
    assert list(dataset.ids) == ["p0", "p1", "p2"]
    assert dataset.ignored == 255
    assert dataset.vocabulary.prompts() == ("sky", "sea", "boat")
    assert dataset.vocabulary.prompts(synonyms=True)[2] == "boat|ship"
    assert dataset.image(1).shape == (3, 4, 3)
    check_labels(dataset)


def test_palette_masks(own: Path):
    for number in range(3):
        miniatures.save_png(
            own / "masks" / f"p{number}.png", np.roll(LABELS, number, 0), palette=True
        )
    check_labels(open_dataset("folder", own))


def test_colour_masks(own: Path):
    table = np.zeros((256, 3), np.uint8)
    table[:3] = COLOURS
    for number in range(3):
        miniatures.save_png(own / "masks" / f"p{number}.png", table[np.roll(LABELS, number, 0)])
    entries = [
        {"name": name, "color": colour} for name, colour in zip(CLASSES, COLOURS, strict=True)
    ]
    (own / "classes.json").write_text(json.dumps({"categories": entries, "ignored": [[0, 0, 0]]}))
    check_labels(open_dataset("folder", own))
    (own / "classes.json").write_text(json.dumps({"categories": entries}))
    fails(
        own,
        r'p0.png: holds \(0, 0, 0\), which no category has; add it to the classes, or to "ignored"',
    )


def test_own_ids_and_ignored_values(own: Path):
    ids = {0: 10, 1: 300, 2: 255, 255: 0}
    for number in range(3):
        mask = np.vectorize(ids.get)(np.roll(LABELS, number, 0)).astype(np.uint16)
        miniatures.save_png(own / "masks" / f"p{number}.png", mask)
    entries = [
        {"name": name, "id": ids[index], "kind": "thing"} for index, name in enumerate(CLASSES)
    ]
    (own / "classes.json").write_text(json.dumps({"categories": entries, "ignored": [0]}))
    dataset = open_dataset("folder", own)
    assert dataset.vocabulary.categories[0].kind == "thing"
    check_labels(dataset)


def test_more_than_255_categories_have_16_bits(own: Path):
    (own / "classes.txt").write_text("\n".join(f"c{number}" for number in range(300)))
    mask = np.array([[0, 255, 299, 65535]] * 3, np.uint16)
    for number in range(3):
        miniatures.save_png(own / "masks" / f"p{number}.png", mask)
    dataset = open_dataset("folder", own)
    assert dataset.ignored == 65535
    np.testing.assert_array_equal(dataset.labels(0), mask)  # 255 is a category here


def test_lists_of_a_split(own: Path):
    (own / "val.txt").write_text("p2\np0.jpg\n")
    assert list(open_dataset("folder", own).ids) == ["p2", "p0"]
    fails(
        own,
        r"train.txt: no such file; write an id of the split a line \(there is val.txt\)",
        split="train",
    )
    (own / "train.txt").write_text("p1")
    assert list(open_dataset("folder", own, "train").ids) == ["p1"]
    for content, message in (
        ("p0\np9\n", r'val.txt: "p9" is not in .*images; add the picture or remove the line'),
        ("p0\np1\np0\n", "val.txt: lists p0 twice"),
        ("\n", "val.txt: lists no image"),
    ):
        (own / "val.txt").write_text(content)
        fails(own, message)


def test_what_is_missing_is_named(own: Path, tmp_path: Path):
    (own / "masks" / "p1.png").unlink()
    fails(own, r"masks/p1.png: no such mask; a data set of your own is a folder with")
    (own / "val.txt").write_text("p0\np1\n")
    fails(own, r"masks/p1.png: no such mask; draw it, or remove p1 from val.txt")
    (own / "val.txt").unlink()
    (own / "images" / "p1.PNG").unlink()
    (own / "images" / "p2.webp").unlink()
    fails(own, r"images/p2.jpg: no such picture for p2.png")
    (own / "images" / "p0.jpg").unlink()
    fails(own, r"images: holds no picture")
    (own / "classes.txt").unlink()
    fails(own, r"classes.txt: no such file; name a category a line")
    fails(tmp_path / "elsewhere", "no such folder; a data set of your own")


def test_two_pictures_of_one_name(own: Path):
    miniatures.photograph(own / "images" / "p1.jpg", 3, 4, 9)
    fails(
        own,
        "p1.jpg: p1.PNG has the same name; remove one|p1.PNG: p1.jpg has the same name; remove one",
    )


def test_a_value_that_no_category_has(own: Path):
    miniatures.save_png(
        own / "masks" / "p1.png", np.array([[0, 3, 4, 9], [10, 11, 12, 13], [1, 1, 1, 1]], np.uint8)
    )
    fails(own, r"p1.png: holds 3, 4, 9, 10, 11 and 2 more, which no category has")


def test_masks_that_do_not_fit(own: Path):
    miniatures.save_png(own / "masks" / "p1.png", LABELS.T.copy())
    fails(own, r"p1.png: is 3 x 4 pixels, its picture .*p1.PNG is 4 x 3")
    miniatures.save_png(own / "masks" / "p1.png", np.zeros((3, 4, 3), np.uint8))
    fails(
        own,
        r"p1.png: has 3 channels \(RGB\) where a mask of indices is expected; .*colours in classes.json",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [{"name": "a", "color": [1, 2, 3]}, "b"],
            r'"b" has no "color", others have; give all of them one, or none',
        ),
        (
            {"categories": ["a", "b", "c"], "ignored": 255},
            r'"ignored" is 255; write a list of whole numbers',
        ),
        (
            {"categories": [{"name": "a", "color": [1, 2, 3]}], "ignored": [0]},
            r".*write a list of colours \[red, green, blue\]",
        ),
    ],
)
def test_classes_that_contradict_themselves(own: Path, content: object, message: str):
    (own / "classes.json").write_text(json.dumps(content))
    fails(own, rf"classes.json: {message}")


def test_pictures_turned_by_a_camera_have_upright_masks(own: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 4)).save(own / "images" / "p0.jpg", exif=exif)
    dataset = open_dataset("folder", own)
    assert dataset.image(0).shape[:2] == dataset.labels(0).shape == (3, 4)
