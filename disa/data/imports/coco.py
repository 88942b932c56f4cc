"""COCO JSON: instances and stuff (polygons, run lengths), and panoptic with its PNG files."""

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from disa.data.imports.annotations import (
    AnnotatedPicture,
    Annotations,
    Canvas,
    Pictures,
    Region,
    declared_size,
)
from disa.data.imports.regions import polygon
from disa.data.masks import packed_values, read_rgb
from disa.data.rle import decode_rle
from disa.errors import DisaError

ORDER = "smaller annotations lie over larger ones"


def read_coco(path: Path, data: dict[str, Any], folder: Path) -> Annotations:
    """Return what a COCO JSON file holds; pictures lie anywhere below `folder`.

    Raises `DisaError` for entries without the fields that make them what they are.
    """
    found = Annotations("COCO JSON", ORDER)
    labels: dict[Any, int] = {}
    maps = path.with_suffix("")  # of panoptic annotations: a PNG each
    pictures = Pictures(folder, without=[maps])
    try:
        for entry in data["categories"]:
            kind = {0: "stuff", 1: "thing"}.get(entry.get("isthing"))
            if not str(entry["name"]).strip():
                raise KeyError("name")
            labels[entry["id"]] = found.categories.add(str(entry["name"]), kind)

        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in data["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
            # What is no id at all fails here, in the file, and not while a picture is drawn.
            for part in (annotation, *annotation.get("segments_info", ())):
                hash((part.get("category_id"), part.get("id")))
        for image in data["images"]:
            name = str(image["file_name"])
            draw = partial(
                _draw, annotations=by_image.pop(image["id"], []), labels=labels, maps=maps
            )
            size = declared_size(image.get("height"), image.get("width"))
            file = pictures.find(name, path.parent)
            found.pictures.append(AnnotatedPicture(name, file, draw, size))
    except (KeyError, TypeError, AttributeError) as error:
        raise DisaError(
            f"{path}: an entry lacks what COCO JSON has ({type(error).__name__}: {error}); "
            "export it again"
        ) from None
    for image_id, orphans in by_image.items():
        found.left_out["of an image that is not listed"] += [f"image {image_id}"] * len(orphans)
    return found


def _draw(
    canvas: Canvas, annotations: Sequence[dict[str, Any]], labels: dict[Any, int], maps: Path
) -> None:
    regions: list[tuple[float, int | None, dict[str, Any]]] = []
    for annotation in annotations:
        if "segments_info" in annotation:
            _draw_panoptic(canvas, annotation, labels, maps)
        elif annotation.get("category_id") not in labels:
            canvas.leave_out("of a category that is not listed")
        elif not annotation.get("segmentation"):
            canvas.leave_out("without a segmentation (a box or points alone)")
        elif _fits(annotation["segmentation"], canvas):
            area = _area(annotation, canvas)
            if area is not None:
                regions.append((area, labels[annotation["category_id"]], annotation))

    # A stable sort: those of one area keep the order of the file.
    for _, label, annotation in sorted(regions, key=lambda each: -each[0]):
        canvas.paint(label, _region(annotation["segmentation"], canvas.size))


def _fits(segmentation: Any, canvas: Canvas) -> bool:
    """Tell whether run lengths have the size of the picture; polygons always fit."""
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    if isinstance(size, list) and len(size) == 2 and all(isinstance(each, int) for each in size):
        return canvas.fits((size[0], size[1]))
    return True


def _area(annotation: dict[str, Any], canvas: Canvas) -> float | None:
    """Return the number of pixels; None for a segmentation that is damaged, which is noted."""
    try:
        return float(_region(annotation["segmentation"], canvas.size).sum())
    except (KeyError, TypeError, ValueError, AttributeError):
        canvas.leave_out("with a damaged segmentation")
        return None


def _region(segmentation: Any, size: tuple[int, int]) -> Region:
    """Return the region of polygons or run lengths. Raises what damaged ones raise."""
    if isinstance(segmentation, dict):
        if segmentation["size"] != list(size):
            raise ValueError("its size is none")
        return decode_rle(segmentation["counts"], size)
    region = np.zeros(size, np.bool_)
    for corners in segmentation:
        region |= polygon(np.reshape(np.asarray(corners, np.float64), (-1, 2)), size)
    return region


def _draw_panoptic(
    canvas: Canvas, annotation: dict[str, Any], labels: dict[Any, int], maps: Path
) -> None:
    name = str(annotation.get("file_name", ""))
    places = [maps / name, maps.parent / name]
    places = [place for place in places if name and os.path.isfile(place)]  # noqa: PTH113
    if not places:
        canvas.leave_out(f"without its PNG in {maps}")
        return
    # The id's lowest byte is red.
    ids = packed_values(read_rgb(places[0])[..., ::-1])
    listed = {0}
    for segment in annotation["segments_info"]:
        listed.add(segment.get("id"))
        if segment.get("category_id") in labels:
            canvas.paint(labels[segment["category_id"]], ids == segment.get("id"))
        else:
            canvas.leave_out("of a category that is not listed")
    for _ in set(np.unique(ids).tolist()) - listed:
        canvas.leave_out("in a panoptic PNG alone, without a category")
