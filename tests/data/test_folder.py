"""A data set of your own: every form of mask, lists of a split, and what people get wrong."""

import json
import unicodedata
from pathlib import Path

import miniatures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from refusals import refused

from disa.data.dataset import Dataset, open_dataset
from disa.data.folder import FolderDataset

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


def fails(root: Path, *facts: str, split: str = "val") -> None:
    """Opening or reading it raises an error with these facts."""
    with refused(root, *facts):
        dataset = open_dataset("folder", root, split)
        for index in range(len(dataset.ids)):
            dataset.labels(index)


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
    fails(own, "p0.png", "(0, 0, 0)", '"ignored"')


def test_cvat_s_labelmap_gives_colours(own: Path):
    (own / "classes.txt").unlink()
    table = np.zeros((256, 3), np.uint8)
    table[:3] = COLOURS
    table[255] = 255
    for number in range(3):
        miniatures.save_png(own / "masks" / f"p{number}.png", table[np.roll(LABELS, number, 0)])
    lines = [
        f"{name}:{','.join(map(str, colour))}::"
        for name, colour in zip(CLASSES, COLOURS, strict=True)
    ]
    text = "# label:color_rgb:parts:actions\n" + "\n".join(lines)
    (own / "labelmap.txt").write_text(text)
    fails(own, "p0.png", "(255, 255, 255)")
    table[255] = COLOURS[0]
    for number in range(3):
        miniatures.save_png(own / "masks" / f"p{number}.png", table[np.roll(LABELS, number, 0)])
    sky = np.where(LABELS == 255, 0, LABELS)
    np.testing.assert_array_equal(open_dataset("folder", own).labels(0), sky)


def test_grey_masks_may_be_colours(own: Path):
    entries = [{"name": name, "color": [index] * 3} for index, name in enumerate(CLASSES)]
    content = {"categories": entries, "ignored": [[255, 255, 255]]}
    (own / "classes.json").write_text(json.dumps(content))
    check_labels(open_dataset("folder", own))


@pytest.mark.parametrize("again", ["SEA", " sea ", "\uff53\uff45\uff41", "sea|lake"])
def test_a_name_given_twice_is_refused(own: Path, again: str):
    (own / "classes.txt").write_text(f"sky\nsea\n{again}\n")
    fails(own, "classes.txt", '"sea"')


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
    fails(own, "train.txt", "val.txt", split="train")
    (own / "train.txt").write_text("p1")
    assert list(open_dataset("folder", own, "train").ids) == ["p1"]
    for content, fact in (("p0\np9\n", '"p9"'), ("p0\np1\np0\n", "p0"), ("\n", "no image")):
        (own / "val.txt").write_text(content)
        fails(own, "val.txt", fact)


NAMES = ["p0", "my photo 1", "my photo", "lake.v2", "caf\u00e9 #2", "a, b"]
LINES = {
    "as it is": "{0}",
    "with its suffix": "{0}.png",
    "with another suffix": "{0}.JPG",
    "with its folder": "./images/{0}.png",
    "of Windows": "images\\{0}.png",
    "of another machine": "/data/site one/images/{0}.jpg",
    "a pair": "images/{0}.png masks/{0}.png",
    "a pair with a comma": "{0}.png, {0}.png",
    "a pair with a tab": "images\\{0}.png\tmasks\\{0}.png",
    "a pair in quotes": '"{0}.png","{0}.png"',
    "decomposed": "",
}


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odd")
    for number, name in enumerate(NAMES):
        miniatures.photograph(root / "images" / f"{name}.png", 3, 4, number)
        # As macOS would write it.
        mask = unicodedata.normalize("NFD", name)
        miniatures.save_png(root / "masks" / f"{mask}.png", LABELS)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.mark.parametrize("form", LINES)
@given(names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True), windows=st.booleans())
def test_a_list_names_images_in_any_form(
    odd_names: Path, form: str, names: list[str], windows: bool
):
    if form == "decomposed":
        lines = [unicodedata.normalize("NFD", name) for name in names]
    else:
        lines = [LINES[form].format(name) for name in names]
    end = "\r\n" if windows else "\n"
    text = end.join(["# of the first flight", *lines, ""])
    (odd_names / "val.txt").write_bytes(text.encode())
    dataset = open_dataset("folder", odd_names)
    assert list(dataset.ids) == names
    assert isinstance(dataset, FolderDataset)
    for pair in dataset.pairs:
        assert pair.image.stem == pair.id
        assert unicodedata.normalize("NFC", pair.mask.stem) == pair.id


def test_a_pair_may_have_two_names(own: Path):
    (own / "masks" / "p1.png").rename(own / "masks" / "p_road_1.png")
    (own / "val.txt").write_text("images/p1.png masks/p_road_1.png\n")
    dataset = open_dataset("folder", own)
    assert list(dataset.ids) == ["p1"]
    check_labels(dataset)


@pytest.mark.parametrize("again", ["p0.jpg", "images/p0.jpg", "images\\p0.jpg masks\\p0.png"])
def test_an_image_listed_twice_in_two_forms_is_refused(own: Path, again: str):
    (own / "val.txt").write_text(f"p0\np1\n{again}\n")
    fails(own, "val.txt", "p0", "twice")


@pytest.mark.parametrize("line", ["p0 1", "p0 -1", "p0.v2", "p0 p1 p2", "p0.jpg masks/p9.png"])
def test_what_is_no_image_in_a_list_is_named(own: Path, line: str):
    (own / "val.txt").write_text(f"p1\n{line}\n")
    fails(own, "val.txt", f'"{line}"')


def test_what_is_missing_is_named(own: Path, tmp_path: Path):
    (own / "masks" / "p1.png").unlink()
    fails(own, "masks/p1.png")
    (own / "val.txt").write_text("p0\np1\n")
    fails(own, "masks/p1.png", "val.txt")
    (own / "val.txt").unlink()
    (own / "images" / "p1.PNG").unlink()
    (own / "images" / "p2.webp").unlink()
    fails(own, "images/p2.jpg", "p2.png")
    (own / "images" / "p0.jpg").unlink()
    fails(own, "images", "picture")
    (own / "classes.txt").unlink()
    fails(own, "classes.txt")
    fails(tmp_path / "elsewhere", "images/", "masks/", "classes.txt")


def test_two_pictures_of_one_name(own: Path):
    miniatures.photograph(own / "images" / "p1.jpg", 3, 4, 9)
    fails(own, "p1.jpg", "p1.PNG")


def test_a_value_that_no_category_has(own: Path):
    miniatures.save_png(
        own / "masks" / "p1.png", np.array([[0, 3, 4, 9], [10, 11, 12, 13], [1, 1, 1, 1]], np.uint8)
    )
    fails(own, "p1.png", "3, 4, 9, 10, 11 and 2 more")


def test_masks_that_do_not_fit(own: Path):
    miniatures.save_png(own / "masks" / "p1.png", LABELS.T.copy())
    fails(own, "p1.png", "3 x 4", "p1.PNG", "4 x 3")
    miniatures.save_png(own / "masks" / "p1.png", np.zeros((3, 4, 3), np.uint8))
    fails(own, "p1.png", "RGB", "classes.json")


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ([{"name": "a", "color": [1, 2, 3]}, "b"], ['"b"', '"color"']),
        ({"categories": ["a", "b", "c"], "ignored": 255}, ['"ignored"', "255"]),
        (
            {"categories": [{"name": "a", "color": [1, 2, 3]}], "ignored": [0]},
            ["ignored[0]", "[red, green, blue]"],
        ),
    ],
)
def test_classes_that_contradict_themselves(own: Path, content: object, facts: list[str]):
    (own / "classes.json").write_text(json.dumps(content))
    fails(own, "classes.json", *facts)


def test_pictures_turned_by_a_camera_have_upright_masks(own: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 4)).save(own / "images" / "p0.jpg", exif=exif)
    dataset = open_dataset("folder", own)
    assert dataset.image(0).shape[:2] == dataset.labels(0).shape == (3, 4)
