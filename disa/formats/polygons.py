"""Regions of a label map as polygons; rasterio finds them and shapely simplifies them (D124)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import shapely
from rasterio.features import shapes

from disa.formats.results import LabelMap

Polygon = Any  # shapely's


class Outline(NamedTuple):
    """A connected region: the index of its label, and its polygon in pixels, holes included."""

    label: int
    polygon: Polygon  # x to the right, y down, from the corner of the first pixel


def outlines(labels: LabelMap, tolerance: int | float) -> list[Outline]:
    """Return the regions of all labels; neighbours share their borders, without gaps.

    `tolerance` in pixels: corners whose triangle with their neighbours is smaller than its square
    are left out, as long as no region changes its shape altogether; 0 keeps the pixels' outline.
    """
    found = list(shapes(labels.astype(np.int32), mask=labels >= 0, connectivity=4))
    polygons = np.array([shapely.geometry.shape(shape) for shape, _ in found], dtype=object)
    if tolerance > 0 and len(polygons):
        # Corners of neighbours must meet: each pixel's corner becomes one.
        polygons = shapely.coverage_simplify(shapely.segmentize(polygons, 1.0), tolerance)
    indices = (int(value) for _, value in found)
    return [Outline(index, polygon) for index, polygon in zip(indices, polygons, strict=True)]


def without_holes(polygon: Polygon) -> Iterator[Polygon]:
    """Yield parts without holes that fill a polygon: it is cut through its holes, upright."""
    if not polygon.interiors:
        yield polygon
        return
    left, top, right, bottom = polygon.bounds
    hole = polygon.interiors[0].bounds
    cut = (hole[0] + hole[2]) / 2
    for first, last in ((left, cut), (cut, right)):
        half = shapely.intersection(polygon, shapely.box(first, top, last, bottom))
        for part in shapely.get_parts(half):
            if part.geom_type == "Polygon" and part.area > 0:
                yield from without_holes(part)


def corners(polygon: Polygon) -> list[tuple[float, float]]:
    """Return the corners (x, y) of a polygon's outline, each once."""
    return [(float(x), float(y)) for x, y in polygon.exterior.coords[:-1]]
