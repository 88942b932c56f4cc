import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from disa.data.ade20k import bilinear, nearest, shrunk_size

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(arrays(np.uint16, SIZES), SIZES)
def test_nearest_takes_the_floor_of_the_scaled_position(labels: np.ndarray, size: tuple[int, int]):
    found = nearest(labels, size)
    assert found.shape == size
    for y in range(size[0]):
        for x in range(size[1]):
            # OpenCV's floating-point scale may fall just short of a whole number
            rows = {y * labels.shape[0] // size[0], int(y * (1 / (size[0] / labels.shape[0])))}
            columns = {x * labels.shape[1] // size[1], int(x * (1 / (size[1] / labels.shape[1])))}
            assert found[y, x] in {
                labels[min(r, labels.shape[0] - 1), min(c, labels.shape[1] - 1)]
                for r in rows
                for c in columns
            }


def test_nearest_is_not_pillows():
    labels = np.arange(700, dtype=np.uint16)[None].repeat(3, 0)
    pillow = np.asarray(Image.fromarray(labels).resize((512, 3), Image.Resampling.NEAREST))
    assert nearest(labels, (3, 512))[0].tolist() == [x * 700 // 512 for x in range(512)]
    assert (pillow != nearest(labels, (3, 512))).mean() > 0.3


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), SIZES)
def test_bilinear_against_a_loop(picture: np.ndarray, size: tuple[int, int]):
    found = bilinear(picture, size)
    height, width, _ = picture.shape
    for y in range(size[0]):
        for x in range(size[1]):
            row = min(max((y + 0.5) * height / size[0] - 0.5, 0), height - 1)
            column = min(max((x + 0.5) * width / size[1] - 0.5, 0), width - 1)
            top, left = int(row), int(column)
            expected = 0.0
            for r, share_r in ((top, 1 - (row - top)), (min(top + 1, height - 1), row - top)):
                for c, share_c in (
                    (left, 1 - (column - left)),
                    (min(left + 1, width - 1), column - left),
                ):
                    expected = expected + share_r * share_c * picture[r, c].astype(float)
            assert np.abs(found[y, x] - expected).max() <= 0.501


def test_the_published_sizes():
    assert shrunk_size(512, 9000) == (512, 9000)
    assert shrunk_size(513, 9000) == (512, round(9000 / 513 * 512))
    assert shrunk_size(1650, 2200) == (512, 683)
    assert shrunk_size(2200, 1467) == (768, 512)
    assert shrunk_size(600, 600) == (512, 512)
