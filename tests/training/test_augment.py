"""Crops against the whole picture scaled by Pillow; labels against a loop over pixels."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from disa.config import IGNORED
from disa.training.augment import Scaled, crop, jitter_colours, scaled_to

# of labels 0, 1, 2, none
COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [128] * 3], np.uint8)


def telling(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture whose colours tell the labels, and the labels; 255 is ignored."""
    labels = np.random.default_rng(seed).choice([0, 1, 2, 255], (height, width)).astype(np.uint8)
    return COLOURS[np.minimum(labels, 3)], labels


def unscaled(labels: np.ndarray) -> Scaled:
    return Scaled(COLOURS[np.minimum(labels, 3)], labels, 255, *labels.shape)


@given(
    *(st.integers(1, 40), st.integers(1, 40)),
    *(st.integers(1, 60), st.integers(1, 60)),
    *(st.integers(1, 70), st.integers(0, 9), st.data()),
)
def test_a_window_is_that_of_the_whole_scaled_picture(
    old_height: int,
    old_width: int,
    height: int,
    width: int,
    size: int,
    seed: int,
    data: st.DataObject,
):
    image, labels = telling(old_height, old_width, seed)
    size = min(size, height, width)
    top, left = data.draw(st.integers(0, height - size)), data.draw(st.integers(0, width - size))
    scaled = Scaled(image, labels, 255, height, width)
    window = np.s_[top : top + size, left : left + size]
    whole = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))[
        window
    ]
    found = scaled.pixels(top, left, size)
    assert found.shape == whole.shape
    # Columns and rows are rounded one after the other, and each may differ by one.
    assert np.abs(found.astype(int) - whole).max() <= 2
    expected = [
        [
            int(labels[int((y + 0.5) * old_height / height), int((x + 0.5) * old_width / width)])
            for x in range(left, left + size)
        ]
        for y in range(top, top + size)
    ]
    assert np.array_equal(
        scaled.target(top, left, size), np.where(np.array(expected) == 255, IGNORED, expected)
    )


@settings(max_examples=40)
@given(st.integers(32, 70), st.integers(32, 70), st.integers(0, 10_000))
def test_labels_follow_their_pixels(height: int, width: int, seed: int):
    scaled = unscaled(telling(height, width, seed)[1])
    image, target = crop(scaled, 32, np.random.default_rng(seed))
    assert image.shape == (32, 32, 3)
    assert target.shape == (32, 32)
    np.testing.assert_array_equal(image, COLOURS[target])  # -1 is the last colour


@settings(max_examples=20)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(1, 64))
def test_the_short_side_gets_its_length_and_the_long_one_its_share(
    height: int, width: int, short: int
):
    scaled = scaled_to(*telling(height, width), 255, short)
    assert min(scaled.height, scaled.width) == short
    assert (
        abs(max(scaled.height, scaled.width) - max(height, width) * short / min(height, width)) <= 1
    )
    assert (scaled.height >= scaled.width) == (height >= width) or scaled.height == scaled.width


@pytest.mark.parametrize("place", [0, 383_616, 767_616])
def test_a_very_long_picture_is_exact_everywhere(place: int):
    """Far from the origin nothing is rounded away: a label is 1 of 20,000 columns."""
    columns = np.arange(20_000)
    labels = np.broadcast_to((columns % 251).astype(np.uint8), (10, 20_000)).copy()
    image = np.repeat(labels[..., None], 3, -1)
    scaled = scaled_to(image, labels, 255, 384)
    assert (scaled.height, scaled.width) == (384, 768_000)
    target = scaled.target(0, place, 384)
    source = ((place + np.arange(384) + 0.5) / 38.4).astype(int)
    assert np.array_equal(target, np.broadcast_to(source % 251, (384, 384)))
    centre = (
        np.interp((place + np.arange(384) + 0.5) / 38.4 - 0.5, columns, columns.astype(float)) % 251
    )
    inner = (centre > 2) & (centre < 248)  # not where the count starts again
    assert np.abs(scaled.pixels(0, place, 384)[5, :, 0] - centre)[inner].max() <= 1


def test_a_very_long_picture_takes_little_memory():
    """The whole picture would be 384 x 768,000 pixels: 885 MB, and 295 MB of labels."""
    resource = pytest.importorskip("resource")
    labels = np.random.default_rng(0).integers(0, 3, (10, 20_000)).astype(np.uint8)
    scaled = scaled_to(COLOURS[labels], labels, 255, 384)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(5):
        image, target = crop(scaled, 384, np.random.default_rng(seed))
        assert image.shape == (384, 384, 3) and target.shape == (384, 384)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown / (2**20 if sys.platform == "darwin" else 2**10) < 60  # MB


def test_colours_change_and_places_do_not():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    changed = [jitter_colours(image, np.random.default_rng(seed)) for seed in range(200)]
    assert all(each.shape == image.shape and each.dtype == np.uint8 for each in changed)
    assert 0 < sum(np.array_equal(each, image) for each in changed) < 50
    flat = np.full((8, 8, 3), 90, np.uint8)
    for seed in range(20):  # one colour stays one colour, whatever it becomes
        assert (
            len(np.unique(jitter_colours(flat, np.random.default_rng(seed)).reshape(-1, 3), axis=0))
            == 1
        )


def test_contrast_multiplies_and_hue_turns_by_at_most_36_degrees():
    """A grey and a red pixel tell the operations apart: grey has no hue and no saturation."""
    image = np.array([[[100, 100, 100], [200, 20, 20]]], np.uint8)
    greys, hues = [], []
    for seed in range(2000):
        changed = jitter_colours(image, np.random.default_rng(seed))
        assert len(set(changed[0, 0].tolist())) == 1
        greys.append(int(changed[0, 0, 0]))
        hues.append(int(np.array(Image.fromarray(changed).convert("HSV"))[0, 1, 0]))
    # Brightness +-32, then a factor of 0.5 to 1.5: a pull towards the mean would leave grey
    # near itself.
    assert 34 <= min(greys) < 45 and 180 < max(greys) <= 198
    degrees = [(hue if hue < 128 else hue - 256) * 360 / 256 for hue in hues]
    assert -40 < min(degrees) < -30 and 30 < max(degrees) < 40
