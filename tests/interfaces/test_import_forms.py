"""`disa data import` of what each tool writes."""

import base64
import io
from itertools import groupby
from pathlib import Path

import miniatures
import numpy as np
import pytest
from command_line import invoke
from hypothesis import given
from hypothesis import strategies as st
from importing import (
    HEIGHT,
    LARGE,
    SIZE,
    SMALL,
    VOID,
    WIDTH,
    annotation,
    box,
    coco,
    corners,
    cvat,
    drawn,
    flat,
    holds,
    imported,
    labelme,
    picture,
    shape,
    write,
)
from PIL import Image

from disa.data.dataset import open_dataset
from disa.data.imports.label_studio import unpack_brush


@pytest.mark.parametrize("form", ["polygons", "run lengths", "compressed run lengths"])
def test_coco_instances_in_every_form(tmp_path: Path, form: str):
    def segmentation(place: tuple[int, int, int, int]) -> object:
        runs = miniatures.run_lengths(box(place).astype(int))
        if form == "polygons":
            return [flat(place)]
        counts = runs if form == "run lengths" else miniatures.compressed(runs)
        return {"counts": counts, "size": list(SIZE)}

    picture(tmp_path / "coco" / "images" / "a.jpg")
    # The small one comes first, and lies over the large one all the same.
    data = coco(["a.jpg"], [annotation(7, segmentation(SMALL)), annotation(3, segmentation(LARGE))])
    source = write(tmp_path / "coco" / "annotations" / "instances.json", data)
    done = imported(source, tmp_path / "out")
    expected = drawn((1, box(LARGE)), (0, box(SMALL)))
    holds(tmp_path / "out", {"a": expected}, ["boat", "sea"])
    assert "4 pixels in 1 picture" in done.stdout
    assert f"disa data check folder {tmp_path / 'out'}" in done.stdout
    assert done.stderr == ""


def test_coco_panoptic(tmp_path: Path):
    root = tmp_path / "coco"
    picture(root / "val" / "a.jpg")
    ids = np.zeros(SIZE, np.uint32)
    ids[box(LARGE)] = 70_000
    ids[box(SMALL)] = 3
    ids[0, :4] = 9
    colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    miniatures.save_png(root / "annotations" / "panoptic_val" / "a.png", colours)
    categories = [
        {"id": 7, "name": "boat", "isthing": 1},
        {"id": 3, "name": "sea", "isthing": 0},
    ]
    segments = [
        {"id": 70_000, "category_id": 3},
        {"id": 3, "category_id": 7},
        {"id": 9, "category_id": 99},
    ]
    data = coco(["a.jpg"], [], categories)
    data["annotations"] = [{"image_id": 10, "file_name": "a.png", "segments_info": segments}]
    source = write(root / "annotations" / "panoptic_val.json", data)
    done = imported(source, tmp_path / "out")
    holds(tmp_path / "out", {"a": drawn((1, box(LARGE)), (0, box(SMALL)))}, ["boat", "sea"])
    categories = open_dataset("folder", tmp_path / "out").vocabulary.categories
    assert [category.kind for category in categories] == ["thing", "stuff"]
    assert "1 annotation of a category" in done.stderr


def test_labelme_shapes(tmp_path: Path):
    root = tmp_path / "labelme"
    picture(root / "images" / "a.jpg")
    part = np.zeros((3, 4), np.uint8)
    part[1:, 2:] = 255
    png = io.BytesIO()
    Image.fromarray(part).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    shapes = [
        shape("sea", corners(LARGE)),
        shape("boat", [[13, 11], [8, 8]], "rectangle"),
        shape("sun", [[16.5, 4.5], [16.5, 6.6]], "circle"),
        shape("Sea", [[1, 9], [4, 11]], "mask", mask=mask),
        shape("__ignore__", corners((2, 2, 4, 4))),
        shape("boat", [[1, 1], [5, 5]], "line"),
        shape("boat", [[1, 1]], "point"),
        shape("boat", [[1, 1], [5, 5]]),
        shape("", corners(LARGE)),
    ]
    labelme(root / "json" / "a.json", shapes)
    done = imported(root, tmp_path / "out")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disc = (rows - 4) ** 2 + (columns - 16) ** 2 <= 2.1**2
    expected = drawn(
        (1, box(LARGE)), (0, box(SMALL)), (2, disc), (1, box((3, 10, 5, 12))),
        (VOID, box((2, 2, 4, 4))),
    )  # fmt: skip
    holds(tmp_path / "out", {"a": expected}, ["boat", "Sea", "sun"])
    for reason in ("the type line", "the type point", "a damaged polygon", "without a label"):
        assert any("1 annotation" in line and reason in line for line in done.stderr.splitlines())
    assert done.stderr.count("\n") == 4


def test_labelme_with_the_picture_inside(tmp_path: Path):
    root = tmp_path / "labelme"
    content = picture(tmp_path / "a.jpg").read_bytes()
    inside = base64.b64encode(content).decode()
    labelme(root / "a.json", [shape("_background_", corners(LARGE))], imageData=inside)
    labelme(root / "b.json", [shape("sea", corners(LARGE))], imageData="?")
    labelme(root / "c.json", [shape("sea", corners(LARGE))])
    done = imported(root, tmp_path / "out", code=1)
    holds(tmp_path / "out", {"a": drawn((0, box(LARGE)))}, ["background", "sea"])
    assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == content
    assert "b.json" in done.stderr and "c.jpg" in done.stderr


def packed(values: list[int]) -> list[int]:
    """Pack values as a brush of Label Studio, in runs of up to 8, every second one spelt out."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (1, 2, 3, 4))
    equal = [list(group) for _, group in groupby(values)]
    runs = [run[start : start + 8] for run in equal for start in range(0, len(run), 8)]
    for number, run in enumerate(runs):
        # The third size, of 3 bits, holds a length of up to 8.
        bits += f"{number % 2}10{len(run) - 1:03b}"
        bits += "".join(f"{value:08b}" for value in (run[:1] if number % 2 else run))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


@given(st.lists(st.sampled_from([0, 0, 0, 255, 255, 7]), max_size=60))
def test_a_brush_is_unpacked(values: list[int]):
    count = len(values)
    assert unpack_brush(packed(values), count).tolist() == values
    for damaged, wanted in ((packed(values), count + 1), (packed(values)[:-2], count)):
        with pytest.raises(ValueError):
            unpack_brush(damaged, wanted)


def region(kind: str, labels: list[str], **value: object) -> dict:
    return {
        "type": f"{kind}labels", "original_width": WIDTH, "original_height": HEIGHT,
        "value": {**value, f"{kind}labels": labels},
    }  # fmt: skip


def percent(x: float, y: float) -> tuple[float, float]:
    return x * 100 / WIDTH, y * 100 / HEIGHT


def results() -> list[dict]:
    brush = np.repeat(box(LARGE).ravel() * 255, 4).tolist()
    x, y = percent(8, 8)
    width, height = percent(5, 3)
    centre_x, centre_y = percent(16.5, 4.5)
    radius_x, radius_y = percent(2.1, 2.1)
    return [
        region("brush", ["sea"], format="rle", rle=packed(brush)),
        region("rectangle", ["boat", "ship"], x=x, y=y, width=width, height=height, rotation=0),
        region("polygon", ["boat"], points=[percent(*each) for each in corners((0, 0, 3, 1))]),
        region("ellipse", ["sun"], x=centre_x, y=centre_y, radiusX=radius_x, radiusY=radius_y),
        region("keypoint", ["sun"], x=3, y=3),
        region("brush", ["sun"], format="rle", rle=[1, 2, 3]),
        {"type": "choices", "value": {"choices": ["day"]}},
    ]


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_label_studio(tmp_path: Path, form: str):
    root = tmp_path / "studio"
    picture(root / "pictures" / "my photo.jpg")
    address = "/data/upload/1/0a1b2c3d-my%20photo.jpg"
    if form == "JSON":
        cancelled = {"result": [region("rectangle", ["no"], x=0, y=0, width=9, height=9)]}
        done = [{**cancelled, "was_cancelled": True}, {"result": results()}, {"result": results()}]
        tasks = [{"id": 1, "data": {"image": address}, "annotations": done}]
    else:
        items = [
            each["value"] | {"original_width": WIDTH, "original_height": HEIGHT}
            for each in results()[:-1]
        ]
        tasks = [{"image": address, "id": 1, "tag": items, "annotator": 1, "annotation_id": 2}]
    write(root / "export.json", tasks)
    done = imported(root, tmp_path / "out")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disc = (rows - 4) ** 2 + (columns - 16) ** 2 <= 2.1**2
    expected = drawn((1, box(LARGE)), (0, box(SMALL)), (0, box((0, 0, 3, 1))), (2, disc))
    (name,) = open_dataset("folder", tmp_path / "out").ids
    holds(tmp_path / "out", {name: expected}, ["boat", "sea", "sun"])
    said = done.stderr
    assert "with a second label" in said
    assert said.count("damaged or without an area") >= 1
    if form == "JSON":
        assert "1 annotation of a further annotator" in said and "choices" in said


def test_cvat_masks_with_pictures_elsewhere(tmp_path: Path):
    cvat(tmp_path / "cvat")
    picture(tmp_path / "photos" / "2024" / "a.JPG")
    options = ["--images", tmp_path / "photos"]
    done = imported(tmp_path / "cvat", tmp_path / "out", *options)
    expected = drawn((0, box(LARGE)), empty=1)
    expected[0] = VOID
    expected[11, 0] = VOID
    holds(tmp_path / "out", {"a": expected}, ["boat", "background"])
    assert "1 annotation of a value that no category has" in done.stderr
    for _ in range(2):
        invoke("data", "import", tmp_path / "cvat", tmp_path / "none").fails("--images", ": a)")


def test_voc_with_its_lists(tmp_path: Path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for number, name in enumerate(("2007_1", "2007_2")):
        picture(root / "JPEGImages" / f"{name}.jpg", number)
        labels = drawn((4, box(LARGE)), (VOID, box(SMALL)), empty=0)
        miniatures.save_png(root / "SegmentationClass" / f"{name}.png", labels, palette=True)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_1\n")
    (lists / "val.txt").write_text("2007_2\n")
    done = invoke("data", "import", tmp_path / "VOCdevkit", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for split, name in (("train", "2007_1"), ("val", "2007_2")):
        dataset = open_dataset("folder", tmp_path / "out", split)
        assert list(dataset.ids) == [name]
        assert dataset.vocabulary.categories[4].name == "boat"
        assert len(dataset.vocabulary.categories) == 21
        np.testing.assert_array_equal(
            dataset.labels(0), drawn((4, box(LARGE)), (VOID, box(SMALL)), empty=0)
        )
