"""labelme: a JSON file a picture, with polygons, rectangles, circles and masks."""

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from disa.data.imports.annotations import (
    AnnotatedPicture,
    Annotations,
    Canvas,
    Categories,
    Pictures,
    Region,
    declared_size,
)
from disa.data.imports.regions import ellipse, polygon
from disa.data.picture_files import opened
from disa.errors import DisaError
from disa.running.reading import MOST_ANNOTATION_BYTES, read_json

ORDER = "later shapes lie over earlier ones"
REMEDY = "save it again in labelme"
# labelme's own names for pixels that do not count, and for those around all shapes.
IGNORE = "__ignore__"
BACKGROUND = "_background_"
# What shapes of any content raise.
DAMAGE = (KeyError, TypeError, ValueError, DisaError)


class Shapes(TypedDict):
    """What a file holds at least."""

    shapes: list[Any]


def read_labelme(paths: Sequence[Path], folder: Path) -> Annotations:
    """Return what labelme's JSON files hold; pictures lie below `folder`, or in the files.

    Raises `DisaError` for a file that cannot be read.
    """
    pictures = Pictures(folder)
    names: set[str] = set()
    found = Annotations("labelme JSON", ORDER)
    for path in paths:
        data = _read(path)
        shapes = [shape for shape in data["shapes"] if isinstance(shape, dict)]
        name = str(data.get("imagePath") or f"{path.stem}.jpg").replace("\\", "/")
        labels = {str(shape.get("label") or "") for shape in shapes}
        names |= labels - {"", IGNORE, BACKGROUND}
        if BACKGROUND in labels:
            names.add("background")

        picture: Path | Callable[[], bytes] | None = pictures.find(name, path.parent)
        if picture is None and data.get("imageData"):
            picture = partial(_embedded, path)
        draw = partial(_draw, path=path, categories=found.categories)
        size = declared_size(data.get("imageHeight"), data.get("imageWidth"))
        found.pictures.append(AnnotatedPicture(name, picture, draw, size))
    found.categories.add_sorted(names)
    return found


def _read(path: Path) -> Any:
    return read_json(path, REMEDY, Shapes, MOST_ANNOTATION_BYTES)


def _embedded(path: Path) -> bytes:
    """Return the picture within a file. Raises `DisaError` if it is damaged."""
    try:
        return base64.b64decode(_read(path)["imageData"], validate=True)
    except (TypeError, ValueError):
        raise DisaError(f"{path}: its imageData is damaged; put the picture beside it") from None


def _draw(canvas: Canvas, path: Path, categories: Categories) -> None:
    # Read once more: the pictures within these files would fill the memory.
    for shape in _read(path)["shapes"]:
        if not isinstance(shape, dict) or not str(shape.get("label") or "").strip():
            canvas.leave_out("without a label")
            continue
        kind = shape.get("shape_type") or "polygon"
        if kind not in ("polygon", "rectangle", "circle", "mask"):
            canvas.leave_out(f"of the type {kind}, which has no area")
            continue
        try:
            region = _region(kind, shape, canvas.size)
        except DAMAGE:
            canvas.leave_out(f"with a damaged {kind}")
            continue
        label = str(shape["label"])
        if label == BACKGROUND:
            label = "background"
        canvas.paint(None if label == IGNORE else categories.add(label), region)


def _region(kind: str, shape: dict[str, Any], size: tuple[int, int]) -> Region:
    points = np.asarray(shape["points"], np.float64)
    if kind == "polygon":
        return polygon(points, size)
    (x0, y0), (x1, y1) = points
    if kind == "circle":
        radius = float(np.hypot(x1 - x0, y1 - y0))
        return ellipse((x0, y0), (radius, radius), 0.0, size)
    if kind == "rectangle":
        return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], size)

    # A mask of the box alone, as PNG in base64.
    content = io.BytesIO(base64.b64decode(shape["mask"]))
    with opened(content, max_pixels=size[0] * size[1]) as image:
        part = np.asarray(image.convert("L")) > 0
    top = round(y0)
    left = round(x0)
    region = np.zeros(size, np.bool_)
    place = region[top : top + part.shape[0], left : left + part.shape[1]]
    if min(top, left) < 0 or place.shape != part.shape:
        raise ValueError("the mask is not within the picture")
    place[:] = part
    return region
