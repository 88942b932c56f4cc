"""Annotations of benchmarks, and data sets that other tools wrote."""

from collections.abc import Callable
from pathlib import Path

import miniatures
import numpy as np
from reader import HEIGHT, SIZE, WIDTH, Reader, pixels, write_json

from disa.data import pascal_context
from disa.data.dataset import open_dataset
from disa.data.imports.sources import read_annotations
from disa.data.imports.writing import write_folder


def read_pc59(folder: Path, file: Path) -> None:
    root = folder / "VOCdevkit" / "VOC2010"
    ids = pascal_context.val_ids(root)
    for annotations in pascal_context.read_annotations(file, ids).values():
        pascal_context.decode(annotations)


def read_pc459(folder: Path, file: Path) -> None:
    pascal_context.read_label_map(file)


CORNERS = [[2, 2], [10, 2], [10, 10], [2, 10]]


def write_coco(folder: Path) -> None:
    runs = miniatures.run_lengths((pixels(1) > 99).astype(int))
    shapes = [
        [[number for corner in CORNERS for number in corner]],
        {"counts": runs, "size": list(SIZE)},
        {"counts": miniatures.compressed(runs), "size": list(SIZE)},
    ]
    annotations = [
        {"id": number, "image_id": 10, "category_id": 7, "segmentation": shape}
        for number, shape in enumerate(shapes)
    ]
    image = {"id": 10, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    categories = [{"id": 7, "name": "boat"}, {"id": 3, "name": "sea", "isthing": 0}]
    data = {"images": [image], "categories": categories, "annotations": annotations}
    write_json(folder / "a.json", data)


def write_panoptic(folder: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[2:9, 3:9, 0] = 5
    miniatures.save_png(folder / "a" / "a.png", colours)
    segments = [{"id": 5, "category_id": 7}]
    data = {
        "images": [{"id": 10, "file_name": "a.jpg"}],
        "categories": [{"id": 7, "name": "boat", "isthing": 1}],
        "annotations": [{"image_id": 10, "file_name": "a.png", "segments_info": segments}],
    }
    write_json(folder / "a.json", data)


def write_labelme(folder: Path) -> None:
    shapes = [
        {"label": "sea", "points": CORNERS, "shape_type": "polygon"},
        {"label": "sun", "points": [[16, 4], [16, 6]], "shape_type": "circle"},
        {"label": "sky", "points": [[1, 1], [4, 3]], "shape_type": "rectangle"},
        {
            "label": "boat",
            "points": [[1, 9], [4, 11]],
            "shape_type": "mask",
            "mask": "iVBORw0KGgo=",
        },
    ]
    write_json(folder / "a.json", {"shapes": shapes, "imagePath": "a.jpg", "imageData": None})


def write_label_studio(folder: Path) -> None:
    def region(kind: str, label: str, **value: object) -> dict:
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        return {"type": f"{kind}labels", **size, "value": {**value, f"{kind}labels": [label]}}

    # 4 x 240 values of 8 bits in one run, whose length has 16 bits.
    values = 4 * HEIGHT * WIDTH
    bits = f"{values:032b}{7:05b}{15:04b}{15:04b}{15:04b}{15:04b}100{values - 1:016b}{255:08b}"
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]
    results = [
        region("brush", "sea", format="rle", rle=packed),
        region("rectangle", "boat", x=40, y=50, width=25, height=25, rotation=10),
        region("polygon", "boat", points=[[0, 0], [15, 0], [15, 8], [0, 8]]),
        region("ellipse", "sun", x=80, y=30, radiusX=10, radiusY=17),
    ]
    done = [{"result": results, "was_cancelled": False}]
    write_json(folder / "a.json", [{"data": {"image": "/data/a.jpg"}, "annotations": done}])


def write_voc(folder: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[2:9, 3:9] = (10, 200, 30)
    miniatures.save_png(folder / "SegmentationClass" / "a.png", colours)
    (folder / "labelmap.txt").write_text("boat:10,200,30::\nsea:0,0,0::\n")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\n")


def with_picture(write: Callable[[Path], object]) -> Callable[[Path], object]:
    def both(folder: Path) -> None:
        write(folder)
        miniatures.photograph(folder / "a.jpg", HEIGHT, WIDTH, 0)

    return both


def read_imported(folder: Path, file: Path) -> None:
    out = folder.with_name("imported")
    out.mkdir(exist_ok=True)
    for written in sorted(out.rglob("*"), reverse=True):
        written.rmdir() if written.is_dir() else written.unlink()
    write_folder(read_annotations(folder), folder, out, None, lambda done, total: None)
    open_dataset("folder", out).labels(0)


READERS = (
    Reader("pc59", lambda folder: miniatures.pc59(folder, "val"), read_pc59, ("*/*/*.json",)),
    Reader("pc459", lambda folder: miniatures.pc459(folder, "val"), read_pc459, ("**/*.mat",)),
    Reader("coco", with_picture(write_coco), read_imported, ("*.json",)),
    Reader("panoptic", with_picture(write_panoptic), read_imported, ("*.json", "a/a.png")),
    Reader("labelme", with_picture(write_labelme), read_imported, ("*.json",)),
    Reader("label-studio", with_picture(write_label_studio), read_imported, ("*.json",)),
    Reader("voc", with_picture(write_voc), read_imported, ("*/*.png", "*.txt", "*/*/*.txt")),
)
