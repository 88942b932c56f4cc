"""Polygons of label maps fill exactly what they are of, by an even-odd rule that is not theirs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from disa.data.imports.regions import polygon as filled

shapely = pytest.importorskip("shapely")
pytest.importorskip("rasterio")

from disa.formats.polygons import corners, outlines, without_holes  # noqa: E402

LABEL_MAPS = arrays(
    np.int32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1, 3)
)


@given(LABEL_MAPS)
def test_polygons_without_holes_fill_the_label_map(labels: np.ndarray):
    painted = np.full(labels.shape, -1)
    for label, polygon in outlines(labels, 0):
        for part in without_holes(polygon):
            assert not part.interiors
            region = filled(corners(part), labels.shape)
            assert (painted[region] == -1).all()  # no pixel is in two parts
            painted[region] = label
    np.testing.assert_array_equal(painted, labels)


@given(LABEL_MAPS, st.floats(0.1, 5))
def test_simplified_neighbours_still_share_their_borders(labels: np.ndarray, tolerance: float):
    exact = outlines(labels, 0)
    simple = outlines(labels, tolerance)
    assert [outline.label for outline in simple] == [outline.label for outline in exact]
    polygons = np.array([outline.polygon for outline in simple], dtype=object)
    assert shapely.is_valid(polygons).all()
    assert (shapely.area(polygons) > 0).all()
    assert shapely.coverage_is_valid(polygons)


def test_a_tolerance_leaves_out_the_steps_of_a_slope():
    rows, columns = np.ogrid[:60, :60]
    disc = ((rows - 30) ** 2 + (columns - 30) ** 2 < 25**2).astype(np.int32) - 1
    (exact,) = outlines(disc, 0)
    (simple,) = outlines(disc, 1)
    assert len(simple.polygon.exterior.coords) < 0.5 * len(exact.polygon.exterior.coords)
    both = shapely.intersection(exact.polygon, simple.polygon).area
    assert both / shapely.union(exact.polygon, simple.polygon).area > 0.95
