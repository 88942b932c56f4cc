import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from refusals import refused

from disa.data.images import Reading, read_image
from disa.data.picture_paths import expand
from disa.errors import DisaError

PIXELS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims any size and holds hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@given(PIXELS)
def test_one_picture_in_every_form_gives_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray
):
    path = tmp_path_factory.getbasetemp() / "form.png"
    Image.fromarray(pixels).save(path)
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [
        path,
        str(path),
        Image.fromarray(pixels),
        pixels,
        pixels.astype(np.int64),
        pixels.astype(np.float32),
    ]
    forms += [channels_first, channels_first.float(), channels_first.double().requires_grad_()]
    for form in forms[:5] + forms[6:7]:
        np.testing.assert_array_equal(read_image(form), pixels)
    if pixels.max() > 1:  # otherwise floats mean 0..1
        for form in (forms[5], *forms[7:]):
            np.testing.assert_array_equal(read_image(form), pixels)
    if pixels.shape[0] not in (
        1,
        3,
        4,
    ):  # otherwise a tensor's first axis is taken for the channels
        np.testing.assert_array_equal(read_image(torch.from_numpy(pixels)), pixels)


@given(PIXELS)
def test_floats_up_to_one_are_scaled(pixels: np.ndarray):
    np.testing.assert_array_equal(read_image(pixels / 255), pixels)
    np.testing.assert_array_equal(
        read_image(torch.from_numpy(pixels / 255).permute(2, 0, 1)), pixels
    )


def test_grey_becomes_three_equal_channels(tmp_path: Path):
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    expected = np.stack([grey] * 3, axis=-1)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for form in (
        grey,
        grey[..., None],
        tmp_path / "grey.png",
        torch.from_numpy(grey),
        torch.from_numpy(grey)[None],
    ):
        np.testing.assert_array_equal(read_image(form), expected)


def test_sixteen_bits_keep_their_range(tmp_path: Path):
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for form in (deep, tmp_path / "deep.png"):
        np.testing.assert_array_equal(read_image(form)[0, :, 0], [0, 100, 255])


def test_transparency_lies_over_white(tmp_path: Path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    expected = [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    for form in (
        rgba,
        tmp_path / "clear.png",
        Image.fromarray(rgba),
        torch.from_numpy(rgba).permute(2, 0, 1),
    ):
        np.testing.assert_array_equal(read_image(form), expected)


def test_pictures_taken_sideways_are_turned_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(pixels).save(tmp_path / "side.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "side.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), "(2, 4, 4, 3)"),
        (np.zeros((4, 4, 2), np.uint8), "(4, 4, 2)"),
        (np.zeros(5, np.uint8), "(5,)"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf, np.float32), "infinite"),
        (np.full((4, 4, 3), -1.0), "-1"),
        (np.full((4, 4, 3), 300, np.int32), "300"),
        (np.zeros((4, 4, 3), complex), "complex128"),
        (np.full((4, 4), "x"), "dtype"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: np.ndarray, reason: str):
    with refused("array", reason):
        read_image(array)


def test_what_is_no_image_at_all_is_refused():
    with refused("int"):
        read_image(3)
    with refused("list"):
        read_image([[1, 2], [3, 4]])


def test_tensors_without_plain_values_are_refused():
    for tensor in (torch.zeros(8, 8).to_sparse(), torch.zeros(3, 8, 8, device="meta")):
        with refused("tensor"):
            read_image(tensor)


def test_pil_images_that_cannot_be_decoded_any_more_are_refused(tmp_path: Path):
    path = tmp_path / "half.jpg"
    path.write_bytes(whole_jpeg()[:-500])
    with (
        Image.open(path) as image,
        refused("PIL image"),
    ):
        read_image(image)
    image = Image.new("RGB", (4, 4))
    image.close()
    with refused("PIL image"):
        read_image(image)


def whole_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"this is only text", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "damaged|not an image"),
        (whole_jpeg()[:700], "damaged or truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (png_header(60_000, 60_000), "60000 x 60000"),
        (png_header(40, 40), "damaged or truncated"),
    ],
)
def test_files_that_are_no_picture_are_refused_in_one_line(
    tmp_path: Path, content: bytes, reason: str
):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(DisaError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(cut=st.integers(0, 2000), flip=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, value: int
):
    content = bytearray(whole_jpeg())
    content[flip % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(content[: len(content) - cut])
    try:
        assert read_image(path, Reading(max_pixels=10_000_000)).dtype == np.uint8
    except DisaError as error:
        assert "damaged.jpg" in str(error)


def test_the_limit_of_pixels_can_be_raised_beyond_pillows_own(tmp_path: Path):
    path = tmp_path / "large.png"
    Image.new("1", (20_000, 9_500)).save(path)  # 190 million pixels: Pillow alone refuses
    with refused(path, "--max-pixels"):
        read_image(path)
    before = Image.MAX_IMAGE_PIXELS
    path.write_bytes(png_header(20_000, 9_500))
    with pytest.raises(DisaError, match="truncated"):  # it came as far as decoding
        read_image(path, Reading(max_pixels=200_000_000))
    assert before == Image.MAX_IMAGE_PIXELS


def test_missing_files_and_folders_are_refused(tmp_path: Path):
    for path in (tmp_path / "none.png", tmp_path):
        with refused(path):
            read_image(path)
    with pytest.raises(DisaError):
        read_image("a\0b.png")
    with pytest.raises(DisaError):
        read_image("x" * 5000)
    (tmp_path / "loop.png").symlink_to("loop.png")
    with refused(tmp_path / "loop.png"):
        read_image(tmp_path / "loop.png")


def test_files_folders_and_globs_expand_in_a_stable_order(tmp_path: Path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "deep/c.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    a, b, c = tmp_path / "a.JPG", tmp_path / "b.png", tmp_path / "deep/c.png"
    assert expand([tmp_path]).files == [a, b]
    assert expand([str(tmp_path / "**" / "*.png")]).files == [b, c]
    assert expand([c, tmp_path, str(tmp_path / "*.png")]).files == [c, a, b]
    assert expand([tmp_path / "missing.png"]).files == [
        tmp_path / "missing.png"
    ]  # reading it will say so
    assert expand([Path("x" * 5000)]).files == [Path("x" * 5000)]
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert expand([tmp_path / "loop.png"]).files == [tmp_path / "loop.png"]
    assert expand([tmp_path]).files == [a, b]
    (tmp_path / "odd[1].png").touch()
    assert expand([tmp_path / "odd[1].png"]).files == [tmp_path / "odd[1].png"]
    (tmp_path / "empty").mkdir()
    with refused(tmp_path / "empty"):
        expand([tmp_path / "empty"])
    with refused("*.webp"):
        expand([str(tmp_path / "*.webp")])
    with refused("empty"):
        expand([""])
