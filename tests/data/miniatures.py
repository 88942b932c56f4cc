"""Every published data set in small: its official layout, with a handful of images.

`build(name, root)` returns the label map of every image, known by construction: the rules are
written out here once more, a pixel at a time, from the data sets' own descriptions. Nothing of
`disa` is used.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Expected = dict[str, np.ndarray]

# pixels of a stuffthingmap that stand for things which were never annotated
COCO_DROPPED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
# object ids of the full ADE20K and their place among the 847; 1 and 600 are objects that are none
# of them
ADE_OBJECTS = {
    2978: 0,
    312: 1,
    2420: 2,
    1831: 11,
    2826: 845,
    3148: 846,
    1: 65535,
    600: 65535,
    0: 65535,
}
PC59_IDS = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113),
    *(115, 144, 158),
    *(159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349),
    *(354, 355, 360, 366),
    *(368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)


def build(name: str, root: Path, split: str = "val") -> Expected:
    """Write a data set's files below `root` and return the label maps by image id."""
    return BUILDERS[name](root, split)


def photograph(path: Path, height: int, width: int, seed: int) -> None:
    """Write a small JPEG of coloured noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8
    )
    Image.fromarray(coarse).resize((width, height)).save(path, quality=95)


def save_png(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(
            [value for index in range(256) for value in (index * 7 % 256, index * 13 % 256, index)]
        )
    image.save(path)


def each_pixel(
    values: np.ndarray, rule: Callable[[int], int], dtype: type = np.uint8
) -> np.ndarray:
    """Apply a rule to every pixel, one by one."""
    return np.array([[rule(int(value)) for value in row] for row in values], dtype)


def coco_stuff(root: Path, split: str) -> Expected:
    """Every byte occurs: categories, dropped ones, unlabelled, and values beyond the last."""
    folder, expected = root / "coco-stuff", {}
    for number in range(3):
        name, (height, width) = f"{number * 139:012d}", (11 + number, 24)
        values = np.resize(np.roll(np.arange(256), number * 100), (height, width)).astype(np.uint8)
        photograph(folder / "images" / f"{split}2017" / f"{name}.jpg", height, width, number)
        save_png(folder / "annotations" / f"{split}2017" / f"{name}.png", values)
        expected[name] = each_pixel(values, _coco_rule)
    return expected


def _coco_rule(value: int) -> int:
    if value > 181 or value in COCO_DROPPED:
        return 255
    return value - sum(dropped < value for dropped in COCO_DROPPED)


def a150(root: Path, split: str) -> Expected:
    folder, expected = root / "ADEChallengeData2016", {}
    part, short = {"val": ("validation", "val"), "train": ("training", "train")}[split]
    for number in range(3):
        name, (height, width) = f"ADE_{short}_{number + 1:08d}", (12, 22 + number)
        values = np.resize(np.roll(np.arange(256), number * 90), (height, width)).astype(np.uint8)
        photograph(folder / "images" / part / f"{name}.jpg", height, width, number)
        save_png(folder / "annotations" / part / f"{name}.png", values)
        expected[name] = each_pixel(values, lambda value: value - 1 if 1 <= value <= 150 else 255)
    return expected


class Malicious:
    """Unpickled blindly, it makes a file; the data set's index must never be."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def a847(root: Path, split: str) -> Expected:
    """A small image, and one whose short side of 520 is shrunk to 512.

    Scenes in folders, parts and instances, too.
    """
    import pickle

    folder, expected = root / "ADE20K_2021_17_01", {}
    part, short = {"val": ("validation", "val"), "train": ("training", "train")}[split]
    sizes = {
        "urban/street": (13, 20),
        "nature_landscape/coast": (520, 611),
        "home_or_hotel/bed": (700, 530),
    }
    for number, (scene, (height, width)) in enumerate(sizes.items()):
        name = f"ADE_{short}_{number + 1:08d}"
        place = folder / "images" / "ADE" / part / scene
        rng = np.random.default_rng(number)
        ids = np.repeat(
            np.repeat(rng.choice(list(ADE_OBJECTS), (height // 3 + 1, width // 2 + 1)), 3, 0), 2, 1
        )
        ids = ids[:height, :width]
        photograph(place / f"{name}.jpg", height, width, number)
        # red: tens; the ones of red are free; blue counts instances
        coded = np.stack(
            [
                ids // 256 * 10 + rng.integers(0, 6, ids.shape),
                ids % 256,
                rng.integers(0, 256, ids.shape),
            ]
        )
        save_png(place / f"{name}_seg.png", np.moveaxis(coded, 0, -1).astype(np.uint8))
        save_png(place / f"{name}_parts_1.png", np.zeros((height, width, 3), np.uint8))
        save_png(place / name / f"instance_000_{name}.png", np.zeros((height, width), np.uint8))
        (place / f"{name}.json").write_text("{}")
        expected[name] = _shrunk(each_pixel(ids, ADE_OBJECTS.__getitem__, np.uint16))
    (folder / "index_ade20k.pkl").write_bytes(pickle.dumps(Malicious(root / "unpickled")))
    return expected


def _shrunk(labels: np.ndarray) -> np.ndarray:
    """Shrink to a short side of 512: pixel (y, x) comes from the floor of its scaled position."""
    height, width = labels.shape
    if min(height, width) <= 512:
        return labels
    new = (
        (512, round(width / height * 512)) if height < width else (round(height / width * 512), 512)
    )
    rows = [y * height // new[0] for y in range(new[0])]
    columns = [x * width // new[1] for x in range(new[1])]
    return np.array([[labels[y, x] for x in columns] for y in rows], labels.dtype)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return COCO's uncompressed RLE: lengths of runs down the columns, zeros first."""
    runs, value, length = [], 0, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return [*runs, length]


def compressed(runs: list[int]) -> str:
    """Return COCO's text form: from the fourth run on differences to two before, in 5 bits."""
    text = ""
    for place, run in enumerate(runs):
        left = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits = left & 31
            left >>= 5
            more = left != (-1 if bits & 16 else 0)
            text += chr(bits + (32 if more else 0) + 48)
    return text


def pc59(root: Path, split: str) -> Expected:
    """Overlapping masks, categories beyond the 59, an image without masks, and one not listed."""
    folder, expected = root / "VOCdevkit" / "VOC2010", {}
    images, annotations = [], []
    boxes = {
        "2008_000002": [
            (2, 0, 9, 0, 9),
            (284, 3, 9, 2, 12),
            (458, 5, 7, 0, 12),
        ],  # later over earlier
        "2008_000003": [
            (1, 0, 4, 0, 5),
            (2, 2, 4, 1, 3),
            (459, 2, 3, 0, 9),
        ],  # 1 and 459 are none of the 59
        "2008_000007": [],
        "2010_006000": None,
    }
    for number, (name, drawn) in enumerate(boxes.items()):
        height, width = 9 + number, 12 - number
        photograph(folder / "JPEGImages" / f"{name}.jpg", height, width, number)
        sources = [[0] * width for _ in range(height)]
        for category, top, bottom, left, right in drawn or []:
            mask = np.zeros((height, width), int)
            for y in range(top, min(bottom, height)):
                for x in range(left, min(right, width)):
                    mask[y, x], sources[y][x] = 1, category
            rle = {"size": [height, width], "counts": compressed(run_lengths(mask))}
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number + 7,
                    "category_id": category,
                    "segmentation": rle,
                }
            )
        if drawn is not None:
            file = {
                "file_name": f"{name}.jpg",
                "image_id": number + 7,
                "phase": "val",
                "height": height,
                "width": width,
            }
            images.append(file)
        expected[name] = each_pixel(
            np.array(sources), lambda value: PC59_IDS.index(value) if value in PC59_IDS else 255
        )
    data = {
        "info": {},
        "images": images,
        "annos_segmentation": annotations,
        "categories": [],
        "parts": [],
    }
    (folder / "trainval_merged.json").write_text(json.dumps(data))
    _write_list(folder, expected)
    return expected


def pc459(root: Path, split: str) -> Expected:
    """LabelMaps of 8 and of 16 bits, of which 0 must not wrap around; values beyond 459."""
    folder, expected = root / "VOCdevkit" / "VOC2010", {}
    for number, dtype in enumerate((np.uint8, np.uint16, np.uint16)):
        name, (height, width) = f"2009_00{number:04d}", (20, 23 + number)
        highest = 256 if dtype is np.uint8 else 470
        values = np.resize(np.arange(highest), (height, width)).astype(dtype)
        if number == 2:
            values[0, :2] = 65535, 460
        photograph(folder / "JPEGImages" / f"{name}.jpg", height, width, number)
        (folder / "trainval").mkdir(exist_ok=True)
        savemat(
            folder / "trainval" / f"{name}.mat", {"LabelMap": values}, do_compression=number > 0
        )
        expected[name] = each_pixel(
            values, lambda value: value - 1 if 1 <= value <= 459 else 65535, np.uint16
        )
    _write_list(folder, expected)
    return expected


def _write_list(folder: Path, expected: Expected) -> None:
    (folder / "pascalcontext_val.txt").write_text("\n".join(expected))


def pas20(root: Path, split: str) -> Expected:
    return _voc(root, lambda value: value - 1 if 1 <= value <= 20 else 255)


def pas20b(root: Path, split: str) -> Expected:
    return _voc(root, lambda value: 20 if value == 0 else value - 1 if value <= 20 else 255)


def _voc(root: Path, rule: Callable[[int], int]) -> Expected:
    """Palette masks: one image is all background, one is not listed, one has a wrong value."""
    folder, expected = root / "VOCdevkit" / "VOC2012", {}
    contents = {
        "2007_000033": [*range(21), 255],
        "2007_000042": [0],
        "2011_003276": [3, 0, 255, 21],
    }
    for number, (name, values) in enumerate(contents.items()):
        mask = np.resize(values, (10, 14 + number)).astype(np.uint8)
        photograph(folder / "JPEGImages" / f"{name}.jpg", *mask.shape, seed=number)
        save_png(folder / "SegmentationClassAug" / f"{name}.png", mask, palette=True)
        expected[name] = each_pixel(mask, rule)
    photograph(folder / "JPEGImages" / "2007_000027.jpg", 9, 9, 0)
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(expected) + "\n")
    return expected


BUILDERS: dict[str, Callable[[Path, str], Expected]] = {
    "coco-stuff": coco_stuff,
    "a150": a150,
    "a847": a847,
    "pc59": pc59,
    "pc459": pc459,
    "pas20": pas20,
    "pas20b": pas20b,
}
