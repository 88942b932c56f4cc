"""Regions against the geometry itself, a pixel at a time, and against pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disa.data.imports.regions import ellipse, polygon, rectangle

SIZE = (17, 23)
NUMBERS = st.floats(-8, 30, allow_nan=False)
CORNERS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=8)


def crossings_to_the_right(x: float, y: float, corners: list) -> int:
    """Count the edges that a ray from the point meets, by the usual test of inside and outside."""
    count = 0
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (x0 > x) != (x1 > x):
            count += y0 + (x - x0) * (y1 - y0) / (x1 - x0) <= y
    return count


@given(CORNERS)
def test_a_pixel_is_inside_if_its_centre_is(corners: list):
    region = polygon(corners, (7, 9))
    assert region.shape == (7, 9)
    for row in range(7):
        for column in range(9):
            inside = crossings_to_the_right(column + 0.5, row + 0.5, corners) % 2
            edges = zip(corners, [*corners[1:], corners[0]], strict=True)
            # On an edge, rounding decides.
            if region[row, column] != inside:
                assert any(touches(column + 0.5, row + 0.5, *edge) for edge in edges)


def touches(x: float, y: float, start: tuple, end: tuple) -> bool:
    along = np.subtract(end, start)
    across = np.subtract((x, y), start)
    length = np.hypot(*along)
    return length < 1e-9 or abs(np.cross([*along, 0], [*across, 0])[2]) < 1e-6 * max(1, length)


@given(st.lists(st.integers(0, 17), min_size=4, max_size=4))
def test_whole_numbers_cut_between_pixels(sides: list[int]):
    left, right = sorted(sides[:2])
    top, bottom = sorted(sides[2:])
    expected = np.zeros(SIZE, bool)
    expected[top:bottom, left:right] = True
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    np.testing.assert_array_equal(polygon(corners, SIZE), expected)
    np.testing.assert_array_equal(polygon(corners[::-1], SIZE), expected)
    turned = rectangle((left, top), (right - left, bottom - top), 0.0, SIZE)
    np.testing.assert_array_equal(turned, expected)


@given(CORNERS)
def test_neighbours_share_no_pixel_and_leave_none_out(corners: list):
    """A polygon cut in two by a line through two corners."""
    whole = polygon(corners, SIZE)
    middle = len(corners) // 2
    parts = (corners[: middle + 1], [*corners[middle:], corners[0]])
    regions = [polygon(part, SIZE) for part in parts if len(part) > 2]
    np.testing.assert_array_equal(np.logical_xor.reduce(regions), whole)


def distance(x: float, y: float, corners: np.ndarray) -> float:
    """Return how far a point is from the outline of a polygon."""
    edges = np.roll(corners, -1, 0) - corners
    to_point = np.array([x, y]) - corners
    lengths = np.maximum((edges**2).sum(1), 1e-12)
    along = np.clip((edges * to_point).sum(1) / lengths, 0, 1)
    return float(np.hypot(*(to_point - along[:, None] * edges).T).min())


def test_pycocotools_differs_only_on_the_outline():
    """It rounds corners and edges to fifths of a pixel."""
    masks = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for _ in range(200):
        corners = generator.uniform(0, 16, (generator.integers(3, 7), 2))
        packed = masks.frPyObjects([corners.ravel().tolist()], *SIZE)
        theirs = np.array(masks.decode(packed))[..., 0].astype(bool)
        for row, column in np.argwhere(polygon(corners, SIZE) != theirs):
            assert distance(column + 0.5, row + 0.5, corners) < 0.35


@pytest.mark.parametrize(
    "corners", [[], [(1, 2), (3, 4)], [(1, 2, 3)] * 3, [(0, 0), (1, 1), (np.nan, 0)]]
)
def test_what_is_no_polygon_is_refused(corners: list):
    with pytest.raises(ValueError):
        polygon(corners, SIZE)


def test_ellipses():
    radius = 25.5**0.5  # no centre lies on the border
    disc = ellipse((11.5, 8.5), (radius, radius), 33.0, SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    np.testing.assert_array_equal(disc, (rows - 8) ** 2 + (columns - 11) ** 2 <= 25)
    flat = ellipse((8.5, 8.5), (6, 2), 0.0, (17, 17))
    np.testing.assert_array_equal(ellipse((8.5, 8.5), (6, 2), 90.0, (17, 17)), flat.T)
    assert flat[8, 3] and not flat[3, 8]
    with pytest.raises(ValueError):
        ellipse((3, 3), (0, 2), 0.0, SIZE)


def test_a_rectangle_turns_clockwise_about_its_corner():
    turned = rectangle((10, 2), (6, 4), 90.0, SIZE)
    expected = np.zeros(SIZE, bool)
    expected[2:8, 6:10] = True
    np.testing.assert_array_equal(turned, expected)
