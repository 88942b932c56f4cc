"""`disa data import` as a user types it, whatever the tool."""

import shutil
from pathlib import Path

import miniatures
import numpy as np
import pytest
from command_line import invoke
from filelock import FileLock
from importing import (
    HEIGHT,
    LARGE,
    SIZE,
    SMALL,
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
from disa.data.imports import writing


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
