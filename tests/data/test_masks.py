from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from refusals import refused
from test_images import png_header

from disa.data.images import read_image, read_size
from disa.data.masks import label_table, read_colours, read_indices, read_rgb, to_labels
from disa.data.vocabulary import Category, packed, vocabulary_of


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_indices_come_back_whatever_the_form(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
):
    folder = tmp_path_factory.getbasetemp()
    for mode in ("L", "P", "I;16", "I"):
        image = Image.fromarray(
            {"I;16": values.astype(np.uint16) * 3, "I": values.astype(np.int32)}.get(mode, values)
        )
        if mode == "P":
            image.putpalette(bytes(range(255, -1, -1)) * 3)
        assert image.mode == mode
        path = folder / ("indices.tif" if mode == "I" else "indices.png")  # PNG has no 32 bits
        image.save(path)
        np.testing.assert_array_equal(
            read_indices(path), values.astype(int) * (3 if mode == "I;16" else 1)
        )


def test_one_bit_masks(tmp_path: Path):
    bits = np.array([[True, False], [False, True]])
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_indices(tmp_path / "bits.png"), bits.astype(int))


def test_a_transparent_colour_of_a_palette_changes_no_index(tmp_path: Path):
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8))
    image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "palette.png", transparency=2)
    assert read_indices(tmp_path / "palette.png").tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_other_modes_are_no_indices(tmp_path: Path, mode: str):
    path = tmp_path / ("mask.tif" if mode == "F" else "mask.png")
    Image.new(mode, (3, 2)).save(path)
    with refused(path, mode):
        read_indices(path)


def test_negative_indices(tmp_path: Path):
    Image.fromarray(np.array([[-3, 4]], np.int32)).save(tmp_path / "mask.tif")
    with refused("mask.tif", "-3"):
        read_indices(tmp_path / "mask.tif")


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_colours_are_packed(tmp_path_factory: pytest.TempPathFactory, colours: np.ndarray):
    path = tmp_path_factory.getbasetemp() / "colours.png"
    Image.fromarray(colours).save(path)
    np.testing.assert_array_equal(read_rgb(path), colours)
    expected = [[packed(pixel.tolist()) for pixel in row] for row in colours]
    np.testing.assert_array_equal(read_colours(path), expected)


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=8, unique=True),
    arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32]),
        (4, 5),
        elements=st.integers(0, 255),
    ),
    st.sampled_from([255, 65535]),
    st.integers(0, 300),
)
def test_labels_are_looked_up(sources: list[int], values: np.ndarray, ignored: int, shift: int):
    vocabulary = vocabulary_of(
        "own", [Category(str(source), source_id=source) for source in sources]
    )
    if values.dtype != np.uint8:
        values = values + np.array(shift, values.dtype)
    labels = to_labels(values, label_table(vocabulary, ignored))
    assert labels.dtype == (np.uint8 if ignored == 255 else np.uint16)
    for value, label in zip(values.ravel().tolist(), labels.ravel().tolist(), strict=True):
        assert label == (sources.index(value) if value in sources else ignored)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_picture(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_size(tmp_path / "turned.jpg") == read_image(tmp_path / "turned.jpg").shape[:2]


def test_masks_are_judged_by_their_header_before_they_are_decoded(tmp_path: Path):
    (tmp_path / "huge.png").write_bytes(png_header(60_000, 60_000))
    for read in (read_indices, read_colours, read_rgb, read_size):
        with refused("huge.png", "60000 x 60000"):
            read(tmp_path / "huge.png")
