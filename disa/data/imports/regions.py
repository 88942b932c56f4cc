"""Shapes become regions: the pixels whose centres lie inside (decision D121)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disa.data.arrays import strips
from disa.data.imports.annotations import Region

FARTHEST = 1e9  # pixels
Numbers = Sequence[Any] | NDArray[Any]


def polygon(points: Numbers, size: tuple[int, int]) -> Region:
    """Return the region (H, W) of a polygon with corners (x, y) in pixels, closed by itself.

    Where its outline crosses itself, a pixel inside of two loops is outside. Raises `ValueError`
    for fewer than three corners and for numbers that lie in no picture.
    """
    corners = np.asarray(points, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise ValueError("a polygon has three corners (x, y) or more")
    if not (np.abs(corners) < FARTHEST).all():
        raise ValueError("a corner is no place near a picture")

    height, width = size
    # Every edge toggles, in each column that it passes, all pixels below it.
    toggles = np.zeros((height + 1, width), np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if x0 > x1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        first = max(0, int(np.ceil(x0 - 0.5)))
        end = min(width, int(np.ceil(x1 - 0.5)))
        columns = np.arange(first, end)
        if not columns.size:
            continue
        crossings = y0 + (columns + 0.5 - x0) * (y1 - y0) / (x1 - x0)
        rows = np.clip(np.ceil(crossings - 0.5), 0, height).astype(np.int64)
        toggles[rows, columns] ^= True
    return np.logical_xor.accumulate(toggles[:-1], axis=0)


def ellipse(centre: Numbers, radii: Numbers, degrees: float, size: tuple[int, int]) -> Region:
    """Return the region (H, W) of an ellipse; centre and radii (x, y) in pixels, turned clockwise.

    Raises `ValueError` for radii that are not positive.
    """
    x, y = np.asarray(centre, np.float64)
    wide, high = np.asarray(radii, np.float64)
    if not min(wide, high) > 0:
        raise ValueError("a radius is not positive")
    height, width = size
    columns = np.arange(width) + 0.5 - x
    angle = np.deg2rad(degrees)
    region = np.zeros(size, np.bool_)
    for strip in strips(height, width):
        rows = np.arange(strip.start, strip.stop)[:, None] + 0.5 - y
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        region[strip] = (along / wide) ** 2 + (across / high) ** 2 <= 1
    return region


def rectangle(corner: Numbers, sides: Numbers, degrees: float, size: tuple[int, int]) -> Region:
    """Return the region (H, W) of a rectangle, turned clockwise about its first corner (x, y)."""
    start = np.asarray(corner, np.float64)
    wide, high = np.asarray(sides, np.float64)
    angle = np.deg2rad(degrees)
    along = np.array([np.cos(angle), np.sin(angle)]) * wide
    down = np.array([-np.sin(angle), np.cos(angle)]) * high
    return polygon([start, start + along, start + along + down, start + down], size)
