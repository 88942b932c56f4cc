"""Label Studio's JSON exports (JSON and JSON-MIN): brushes, polygons, rectangles and ellipses."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from disa.data.images import SUFFIXES
from disa.data.imports.annotations import (
    AnnotatedPicture,
    Annotations,
    Canvas,
    Categories,
    Pictures,
    Region,
)
from disa.data.imports.regions import ellipse, polygon, rectangle
from disa.errors import DisaError

ORDER = "later regions lie over earlier ones"
# What Label Studio puts before the name of an uploaded file.
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
PIXELS_FROM_PERCENT = 0.01


def read_label_studio(path: Path, data: Sequence[Any], folder: Path) -> Annotations:
    """Return what an export holds; pictures lie below `folder`.

    Of several annotations of a task the first counts. Raises `DisaError` for what is no task.
    """
    pictures = Pictures(folder)
    labels: set[str] = set()
    found = Annotations("Label Studio JSON", ORDER)
    for number, task in enumerate(data, start=1):
        name = _picture_name(task) if isinstance(task, dict) else ""
        if not name:
            raise DisaError(f"{path}: task {number} names no picture; export it as JSON again")
        first, *others = _annotations(task) or [[]]
        if others:
            found.left_out["of a further annotator"] += [name] * len(others)
        results = [result for result in first if isinstance(result, dict)]
        labels.update(*(_labels(result)[:1] for result in results))

        file = pictures.find(name, path.parent)
        if file is None:
            file = pictures.find(UPLOAD_PREFIX.sub("", name.rpartition("/")[2]), path.parent)
        draw = partial(_draw, results=results, categories=found.categories)
        found.pictures.append(AnnotatedPicture(name, file, draw))
    found.categories.add_sorted(labels)
    return found


def unpack_brush(packed: Sequence[int], count: int) -> NDArray[np.uint8]:
    """Return the `count` values in a packed brush: those of an RGBA picture one by one.

    32 bits are the number of values, 5 the bits of one less 1, and four times 4 the bits of a
    run's length less 1. A run follows another: a bit that says whether one value is repeated, 2
    bits that choose the size of its length, the length less 1, and the value or values. Raises
    `ValueError` for what ends too early or does not fit.
    """
    if not isinstance(packed, list):
        raise ValueError("it is no list of bytes")
    bits = "".join(f"{byte:08b}" for byte in bytes(packed))
    position = 0

    def read(size: int) -> int:
        nonlocal position
        position += size
        if position > len(bits):
            raise ValueError("it ends within a run")
        return int(bits[position - size : position], 2)

    given = read(32)
    word = read(5) + 1
    if given != count or word > 8:
        raise ValueError(f"it has {given} values of {word} bits, not {count} of 8")
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    runs = []
    total = 0
    while total < count:
        is_repeated = read(1)
        length = read(sizes[read(2)]) + 1
        total += length
        if is_repeated:
            values.append(read(word))
            runs.append(length)
        else:
            values += [read(word) for _ in range(length)]
            runs += [1] * length
    if total != count:
        raise ValueError("its runs do not fill the picture")
    return np.repeat(np.array(values, np.uint8), runs)


def _picture_name(task: dict[str, Any]) -> str:
    """Return the name of a task's picture: in the address in its data, or of its upload."""
    data = task.get("data")
    fields = data if isinstance(data, dict) else task
    for text in fields.values():
        if isinstance(text, str):
            # Of local files the path stands behind "?d=".
            try:
                parts = urlsplit(text)
            except ValueError:
                continue
            name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].lstrip("/")
            if Path(name).suffix.lower() in SUFFIXES:
                return name
    return str(task.get("file_upload") or "")


def _annotations(task: dict[str, Any]) -> list[list[Any]]:
    """Return the results of each annotation that was not cancelled."""
    given = task.get("annotations", task.get("completions"))
    if isinstance(given, list):
        return [
            each["result"]
            for each in given
            if isinstance(each, dict)
            and isinstance(each.get("result"), list)
            and not each.get("was_cancelled")
        ]
    # JSON-MIN has the results of one annotation in the task itself.
    lists = [value for value in task.values() if isinstance(value, list)]
    return [[item for value in lists for item in value if _value(item)]]


def _value(result: Any) -> dict[str, Any]:
    """Return what a result says of its region; JSON-MIN has no extra level for it."""
    if not isinstance(result, dict) or "original_width" not in result:
        return {}
    value = result.get("value", result)
    return value if isinstance(value, dict) else {}


def _labels(result: Any) -> list[str]:
    fields = _value(result).items()
    lists = [names for key, names in fields if key.endswith("labels") and isinstance(names, list)]
    return [str(name) for names in lists for name in names if str(name).strip()]


def _draw(canvas: Canvas, results: Sequence[dict[str, Any]], categories: Categories) -> None:
    for result in results:
        labels = _labels(result)
        kind = result.get("type", "unknown")
        if not labels:
            # With a tool for labels alone, a region stands there once more, with its label.
            twins = [other for other in results if other.get("id", "") == result.get("id")]
            if not any(map(_labels, twins)):
                canvas.leave_out(f"of the type {kind}, without a label of a region")
            continue
        for _ in labels[1:]:
            canvas.leave_out("with a second label, of which the first counts")
        try:
            size = (int(result["original_height"]), int(result["original_width"]))
            if not canvas.fits(size):
                continue
            region = _region(_value(result), size)
        except (KeyError, TypeError, ValueError, OverflowError):
            canvas.leave_out(f"of the type {kind}, damaged or without an area")
            continue
        canvas.paint(categories.add(labels[0]), region)


def _region(value: dict[str, Any], size: tuple[int, int]) -> Region:
    """Return the region of a result. Raises what a damaged one raises."""
    if "rle" in value:
        # Alpha says where the brush was.
        return unpack_brush(value["rle"], 4 * size[0] * size[1]).reshape(*size, 4)[..., 3] > 0
    across, down = np.array(size[::-1]) * PIXELS_FROM_PERCENT
    if "points" in value:
        return polygon(np.asarray(value["points"], np.float64) * (across, down), size)
    corner = (value["x"] * across, value["y"] * down)
    degrees = float(value.get("rotation") or 0)
    if "radiusX" in value:
        radii = (value["radiusX"] * across, value["radiusY"] * down)
        return ellipse(corner, radii, degrees, size)
    sides = (value["width"] * across, value["height"] * down)
    return rectangle(corner, sides, degrees, size)
