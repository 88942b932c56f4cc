"""TIFF: bands that are no colours, packings, floats, tags."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from refusals import refused

from disa.data import tiff
from disa.data.images import Reading, parse_reading, read_image, read_picture, read_size

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
ORIENTATION = 274


def test_a_fourth_band_is_transparency_only_where_it_is_a_mask(tmp_path: Path):
    infrared = (PIXELS[..., 0] // 4 + 20).astype(np.uint8)
    mask = np.where(np.arange(30) < 15, 255, 0) * np.ones((20, 1), int)
    for name, band in (("infrared", infrared), ("mask", mask.astype(np.uint8))):
        stacked = np.dstack([PIXELS, band])
        tifffile.imwrite(
            tmp_path / f"{name}.tif", stacked, photometric="rgb", extrasamples=["unassalpha"]
        )
    seen = read_picture(tmp_path / "infrared.tif")
    np.testing.assert_array_equal(seen.pixels, PIXELS)
    assert len(seen.notes) == 1
    seen = read_picture(tmp_path / "mask.tif")
    np.testing.assert_array_equal(seen.pixels[:, :15], PIXELS[:, :15])
    assert (seen.pixels[:, 15:] == 255).all()
    assert seen.notes == ()


def test_bands_are_chosen_or_their_number_is_named(tmp_path: Path):
    path = tmp_path / "bands.tif"
    stacked = np.dstack([PIXELS, PIXELS[..., :2]])
    tifffile.imwrite(path, stacked, photometric="minisblack", planarconfig="contig")
    with refused(path, "5 bands", "--bands"):
        read_image(path)
    for bands in ((3, 2, 5), (4,)):
        seen = read_image(path, Reading(bands=bands))
        chosen = stacked[..., [band - 1 for band in bands]]
        np.testing.assert_array_equal(seen, np.broadcast_to(chosen, PIXELS.shape))
    with refused(path, "no band 6"):
        read_image(path, Reading(bands=(6, 1, 1)))
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with refused("a.png", "bands"):
        read_image(tmp_path / "a.png", Reading(bands=(1, 2, 3)))
    for text in ("1,2", "0,1,2", "red", "", (1, 2), (0, 1, 2)):
        with refused("bands"):
            parse_reading(bands=text)


def repacked(path: Path, image: NDArray[Any], **tags: int) -> Path:
    """A TIFF that says of itself what is not so."""
    tifffile.imwrite(path, image, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in tags.items():
            file.pages.first.tags[name].overwrite(value)
    return path


@pytest.mark.parametrize(("packing", "name"), [(34887, "LERC"), (5, "LZW"), (50002, "JPEG XL")])
@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="it unpacks them")
def test_a_tiff_that_cannot_be_unpacked_is_named_and_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: int, name: str
):
    path = repacked(tmp_path / "a.tif", PIXELS.astype(np.float32), Compression=packing)
    with refused(path, name, "pip install imagecodecs") as error:
        read_image(path)
    assert "damaged" not in str(error.value)
    monkeypatch.setattr(tiff, "find_spec", lambda name: None)
    with refused(path, name, "disa-seg[tiff]", "imagecodecs"):
        read_image(path)


def test_a_tiff_packed_in_no_known_way_is_no_damage(tmp_path: Path):
    path = repacked(tmp_path / "a.tif", PIXELS, Compression=65123)
    with refused(path, "65123") as error:
        read_image(path)
    assert "damaged" not in str(error.value)


def test_numbers_of_a_tiff_that_are_no_colours_are_refused(tmp_path: Path):
    half = (PIXELS[..., 0] / 255).astype(np.float16)
    tifffile.imwrite(tmp_path / "a.tif", half, photometric="miniswhite")
    with refused("a.tif", "no colours"):
        read_image(tmp_path / "a.tif")


def test_many_bands_print_nothing_of_pillows_own(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    stacked = np.dstack([PIXELS, PIXELS, PIXELS])
    tifffile.imwrite(tmp_path / "a.tif", stacked, photometric="minisblack", planarconfig="contig")
    with refused("9 bands"):
        read_image(tmp_path / "a.tif")
    assert caplog.records == []


def test_a_number_in_place_of_a_tiffs_text_refuses_nothing(tmp_path: Path):
    tags = [(700, 4, 1, 8, True), (ORIENTATION, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", extratags=tags)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.rot90(PIXELS, -1))


def test_float_bands_are_read_and_without_tifffile_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "float.tif"
    tifffile.imwrite(path, (PIXELS / 255).astype(">f4"), photometric="rgb", byteorder=">")
    np.testing.assert_array_equal(read_image(path), PIXELS)
    assert read_size(path) == PIXELS.shape[:2]
    half = (PIXELS[..., 0] / 255).astype(np.float16)
    tifffile.imwrite(tmp_path / "half.tif", half, photometric="minisblack")
    grey = read_image(tmp_path / "half.tif")[..., 0]
    assert np.abs(grey.astype(int) - PIXELS[..., 0]).max() <= 1
    monkeypatch.setattr(tiff, "find_spec", lambda name: None)
    with refused(path, "3 bands", "32-bit floats", "disa-seg[tiff]"):
        read_image(path)


@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bits_in_sixteen_are_noted_and_stretched(tmp_path: Path, channels: int):
    deep = PIXELS[..., :channels].astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / "a.tif", deep.squeeze())
    picture = read_picture(tmp_path / "a.tif")
    assert picture.pixels.max() <= 16
    assert len(picture.notes) == 1
    stretched = read_picture(tmp_path / "a.tif", Reading(stretch=True))
    assert (stretched.pixels.min(), stretched.pixels.max()) == (0, 255)
    assert stretched.notes == ()
