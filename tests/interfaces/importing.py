"""Annotations as tools write them, and what an import makes of them."""

import json
from pathlib import Path

import miniatures
import numpy as np
from command_line import Result, invoke

from disa.data.dataset import open_dataset

HEIGHT, WIDTH = SIZE = (12, 20)
VOID = 255
# Two squares that overlap in 2 x 2 pixels: (left, top, right, bottom).
LARGE = (2, 2, 10, 10)
SMALL = (8, 8, 13, 11)


def box(place: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = place
    region = np.zeros(SIZE, bool)
    region[top:bottom, left:right] = True
    return region


def corners(place: tuple[int, int, int, int]) -> list[list[int]]:
    left, top, right, bottom = place
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def drawn(*regions: tuple[int, np.ndarray], empty: int = VOID) -> np.ndarray:
    """Return the label map in which later regions lie over earlier ones."""
    labels = np.full(SIZE, empty, np.uint8)
    for label, region in regions:
        labels[region] = label
    return labels


def picture(path: Path, seed: int = 0) -> Path:
    miniatures.photograph(path, HEIGHT, WIDTH, seed)
    return path


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def imported(source: Path, out: Path, *options: object, code: int = 0) -> Result:
    done = invoke("data", "import", source, out, *options)
    assert done.exit_code == code, done.output
    check = invoke("data", "check", "folder", out, "--workers", 1)
    assert check.exit_code == 0, check.output
    return done


def holds(out: Path, expected: dict[str, np.ndarray], names: list[str]) -> None:
    """Check that a folder has exactly these label maps and categories."""
    dataset = open_dataset("folder", out)
    assert [category.name for category in dataset.vocabulary.categories] == names
    assert sorted(dataset.ids) == sorted(expected)
    for index, name in enumerate(dataset.ids):
        np.testing.assert_array_equal(dataset.labels(index), expected[name])


def coco(images: list[str], annotations: list[dict], categories: list[dict] | None = None) -> dict:
    return {
        "images": [
            {"id": 10 + number, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for number, name in enumerate(images)
        ],
        "categories": categories or [{"id": 7, "name": "boat"}, {"id": 3, "name": "sea"}],
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations)],
    }


def annotation(category: int, segmentation: object, image: int = 10) -> dict:
    return {"image_id": image, "category_id": category, "segmentation": segmentation}


def flat(place: tuple[int, int, int, int]) -> list[int]:
    return [number for corner in corners(place) for number in corner]


def shape(label: str, points: object, kind: str = "polygon", **more: object) -> dict:
    return {"label": label, "points": points, "shape_type": kind, **more}


def labelme(path: Path, shapes: list[dict], **more: object) -> Path:
    data = {"version": "5.5.0", "shapes": shapes, "imagePath": f"..\\images\\{path.stem}.jpg"}
    return write(path, data | {"imageHeight": HEIGHT, "imageWidth": WIDTH, **more})


def cvat(root: Path) -> None:
    """Write what CVAT exports as segmentation masks, with void borders and a colour too many."""
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[box(LARGE)] = (10, 200, 30)
    colours[0] = (224, 224, 192)
    colours[11, 0] = (1, 2, 3)
    miniatures.save_png(root / "SegmentationClass" / "a.png", colours)
    miniatures.save_png(root / "SegmentationObject" / "a.png", colours)
    lines = ["# label:color_rgb:parts:actions", "boat:10,200,30::", "background:0,0,0::"]
    (root / "labelmap.txt").write_text("\n".join(lines))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "default.txt").write_text("a\n")
