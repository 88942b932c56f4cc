"""`disa data import` as a user types it: what each tool writes becomes a folder data set."""

import base64
import io
import json
import shutil
from itertools import groupby
from pathlib import Path

import miniatures
import numpy as np
import pytest
from command_line import Result, invoke
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from disa.data.dataset import open_dataset
from disa.data.imports import writing
from disa.data.imports.label_studio import unpack_brush

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


def test_coco_in_parts_and_with_what_cannot_be_drawn(tmp_path: Path):
    root = tmp_path / "coco"
    for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        picture(root / name, number)
    two = [flat((0, 0, 3, 3)), flat((10, 2, 12, 12))]
    broken = {"counts": [5], "size": list(SIZE)}
    data = coco(
        ["train/a.jpg", "b.jpg", "c.jpg", "lost.jpg"],
        [
            annotation(7, two),
            annotation(7, [], 11),
            annotation(7, [[1, 2, 3, 4]], 11),
            annotation(7, broken, 11),
            annotation(99, two, 11),
            annotation(3, [flat((-9, -9, -5, -5))], 11),
            annotation(3, {"counts": [12], "size": [3, 4]}, 11),
            annotation(3, two, 77),
            annotation(3, two, 13),
        ],
    )
    write(root / "a.json", data)
    done = imported(root, tmp_path / "out", code=1)
    region = box((0, 0, 3, 3)) | box((10, 2, 12, 12))
    holds(tmp_path / "out", {"a": drawn((0, region))}, ["boat", "sea"])
    lines = done.stderr.splitlines()
    left_out = {
        "1 annotation without a segmentation": "b.jpg",
        "2 annotations with a damaged segmentation": "b.jpg, b.jpg",
        "1 annotation of a category": "b.jpg",
        "1 annotation without a pixel": "b.jpg",
        "1 annotation of another size": "b.jpg",
        "1 annotation of an image": "77",
        "1 picture of which no annotation": "b.jpg",
        "1 picture without an annotation": "c.jpg",
        "1 picture that are not among": "lost.jpg",
    }
    for what, where in left_out.items():
        (line,) = (line for line in lines if what in line)
        assert line.startswith("left out: ") and line.endswith(where)
    assert len(lines) == len(left_out)


def test_a_picture_that_nobody_annotated_is_no_failure(tmp_path: Path):
    root = tmp_path / "labelme"
    picture(root / "a.jpg")
    picture(root / "b.jpg", 1)
    labelme(root / "a.json", [shape("sea", corners(LARGE))], imagePath="a.jpg")
    labelme(root / "b.json", [], imagePath="b.jpg")
    done = imported(root, tmp_path / "out")
    holds(tmp_path / "out", {"a": drawn((0, box(LARGE)))}, ["sea"])
    assert "1 picture without an annotation" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["a.jpg"]


def test_pixels_without_an_annotation_become_a_category_if_asked(tmp_path: Path):
    root = tmp_path / "coco"
    for number, name in enumerate(("a.jpg", "b.jpg")):
        picture(root / name, number)
    write(root / "a.json", coco(["a.jpg", "b.jpg"], [annotation(3, [flat(LARGE)])]))
    imported(root, tmp_path / "out", "--background", "Background")
    expected = {"a": drawn((1, box(LARGE)), empty=2), "b": drawn(empty=2)}
    holds(tmp_path / "out", expected, ["boat", "sea", "Background"])
    imported(root, tmp_path / "again", "--background", "SEA")
    holds(tmp_path / "again", dict.fromkeys("ab", drawn(empty=1)), ["boat", "sea"])


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


def test_equal_names_are_one_category_and_many_take_16_bits(tmp_path: Path):
    root = tmp_path / "coco"
    picture(root / "a.jpg")
    categories = [{"id": number, "name": f"c{number}"} for number in range(300)]
    categories += [{"id": 300, "name": "C7"}, {"id": 301, "name": "caf\u00e9"}]
    categories += [{"id": 302, "name": "cafe\u0301"}]
    shapes = [annotation(300, [flat(LARGE)]), annotation(302, [flat(SMALL)])]
    write(root / "a.json", coco(["a.jpg"], shapes, categories))
    imported(root, tmp_path / "out")
    dataset = open_dataset("folder", tmp_path / "out")
    assert len(dataset.vocabulary.categories) == 301
    labels = dataset.labels(0)
    assert labels[2, 2] == 7 and labels[8, 8] == 300 and labels[0, 0] == 65535


def shape(label: str, points: object, kind: str = "polygon", **more: object) -> dict:
    return {"label": label, "points": points, "shape_type": kind, **more}


def labelme(path: Path, shapes: list[dict], **more: object) -> Path:
    data = {"version": "5.5.0", "shapes": shapes, "imagePath": f"..\\images\\{path.stem}.jpg"}
    return write(path, data | {"imageHeight": HEIGHT, "imageWidth": WIDTH, **more})


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


def test_pictures_of_one_name_in_two_folders_stay_two(tmp_path: Path):
    root = tmp_path / "coco"
    for number, site in enumerate(("one", "two")):
        picture(root / site / "a.jpg", number)
    shapes = [annotation(3, [flat(LARGE)]), annotation(3, [flat(SMALL)], 11)]
    write(root / "a.json", coco(["one/a.jpg", "two/a.jpg"], shapes))
    imported(root, tmp_path / "out")
    expected = {"one_a_jpg": drawn((1, box(LARGE))), "two_a_jpg": drawn((1, box(SMALL)))}
    holds(tmp_path / "out", expected, ["boat", "sea"])


def test_a_picture_that_was_turned_is_left_out(tmp_path: Path):
    root = tmp_path / "coco"
    root.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "a.jpg", exif=exif)
    picture(root / "b.jpg")
    shapes = [annotation(3, [flat(LARGE)]), annotation(3, [flat(LARGE)], 11)]
    data = coco(["a.jpg", "b.jpg"], shapes)
    write(root / "a.json", data)
    done = imported(root, tmp_path / "out", code=1)
    assert "1 picture of another size" in done.stderr and "EXIF): a.jpg" in done.stderr
    holds(tmp_path / "out", {"b": drawn((1, box(LARGE)))}, ["boat", "sea"])

    # Run lengths have a size of their own, where the file names none.
    runs = {"counts": miniatures.run_lengths(box(LARGE).astype(int)), "size": list(SIZE)}
    for entry, shape_of in zip(data["images"], data["annotations"], strict=True):
        del entry["width"]
        shape_of["segmentation"] = runs
    write(root / "a.json", data)
    shutil.rmtree(tmp_path / "out")
    done = imported(root, tmp_path / "out", code=1)
    assert f"of another size ({WIDTH} x {HEIGHT}) than the picture: a.jpg" in done.stderr
    holds(tmp_path / "out", {"b": drawn((1, box(LARGE)))}, ["boat", "sea"])


def test_what_cannot_be_imported_is_refused(tmp_path: Path):
    out = tmp_path / "out"
    invoke("data", "import", tmp_path / "nowhere", out).fails("nowhere", "COCO")
    write(tmp_path / "other.json", {"a": 1})
    invoke("data", "import", tmp_path / "other.json", out).fails("other.json", "COCO")
    write(tmp_path / "coco" / "bad.json", {"images": [{}], "categories": [], "annotations": []})
    invoke("data", "import", tmp_path / "coco", out).fails("bad.json", "file_name")
    write(tmp_path / "coco" / "two.json", coco(["a.jpg"], []))
    invoke("data", "import", tmp_path / "coco", out).fails("bad.json", "two.json")
    assert not out.exists()
    write(out / "mine.json", 1)
    source = tmp_path / "coco" / "two.json"
    invoke("data", "import", source, out).fails(out, "not empty")
    invoke("data", "import", source, tmp_path / "new", "--background", " ").fails("--background")
    assert [path.name for path in out.iterdir()] == ["mine.json"]


@pytest.mark.parametrize("moment", ["write_png", "write_json"])
def test_an_interrupted_import_is_made_anew_by_the_same_command_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    names = ["a.jpg", "b.jpg"]
    for number, name in enumerate(names):
        picture(tmp_path / "in" / name, number)
    shapes = [annotation(3, [flat(LARGE)], image) for image in (10, 11)]
    source = write(tmp_path / "in" / "a.json", coco(names, shapes))
    out = tmp_path / "out"

    before = getattr(writing, moment)

    def interrupted(path: Path, *content: object) -> None:
        if path.name in ("b.png", "classes.json"):
            raise KeyboardInterrupt
        before(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr(writing, moment, interrupted)
        assert invoke("data", "import", source, out).exit_code == 130
    # What is no part of the first picture's import any more goes, too.
    (out / "masks" / "a.png").rename(out / "masks" / "old.png")
    other = write(tmp_path / "in2" / "a.json", coco(names, shapes))
    kept = sorted(out.rglob("*"))
    invoke("data", "import", other, out).fails(out, "unfinished")
    assert sorted(out.rglob("*")) == kept

    done = imported(source, out)
    assert str(out) in done.stderr
    holds(out, {name: drawn((1, box(LARGE))) for name in "ab"}, ["boat", "sea"])
    assert sorted(path.name for path in out.iterdir()) == ["classes.json", "images", "masks"]
    invoke("data", "import", source, out).fails(out, "not empty")


def test_two_imports_do_not_write_one_folder(tmp_path: Path):
    picture(tmp_path / "in" / "a.jpg")
    source = write(tmp_path / "in" / "a.json", coco(["a.jpg"], [annotation(3, [flat(LARGE)])]))
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / writing.LOCK):
        invoke("data", "import", source, out).fails(out, "another import")
    imported(source, out)


@pytest.mark.parametrize("tool", ["coco", "labelme", "studio", "cvat", "PNG a label"])
def test_check_names_the_command_for_what_it_cannot_read(tmp_path: Path, tool: str):
    root = tmp_path / "own data"
    picture(root / "images" / "a.jpg")
    if tool == "coco":
        write(root / "instances.json", coco(["a.jpg"], []))
    elif tool == "labelme":
        labelme(root / "images" / "a.json", [])
    elif tool == "studio":
        write(root / "export.json", [{"data": {"image": "a.jpg"}, "annotations": []}])
    elif tool == "cvat":
        cvat(root)
    else:
        name = "task-1-annotation-2-by-1-tag-boat-0.png"
        miniatures.save_png(root / "masks" / name, box(LARGE).astype(np.uint8))
    command = "disa data import FILE.json OUT"
    if tool != "PNG a label":
        command = f"disa data import '{root}' OUT"
    invoke("data", "check", "folder", root).fails(command)
    shutil.rmtree(root)
    root.mkdir()
    assert "import" not in invoke("data", "check", "folder", root).stderr
