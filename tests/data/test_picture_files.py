"""Whole pictures that decoders stumble over: tags, texts, profiles, transparency, bands, pages."""

import io
import multiprocessing
import struct
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin
from refusals import refused

from disa.data import picture_files, tiff
from disa.data.folder import FolderDataset
from disa.data.images import Reading, parse_reading, read_image, read_picture, read_size
from disa.data.masks import read_indices
from disa.data.pairs import Pair, PairedDataset
from disa.data.vocabulary import Category, vocabulary_of

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
ORIENTATION = 274
# How numpy turns the stored pixels, by EXIF orientation.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


def jpeg_with_tags(*entries: tuple[int, int, int, int]) -> bytes:
    """A JPEG with hand-made EXIF entries (tag, type, count, value)."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG")
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    directory = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4)
    block = b"Exif\0\0" + directory
    jpeg = buffer.getvalue()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "bands.tiff"])
@pytest.mark.parametrize("turn", UPRIGHT)
def test_every_orientation_is_applied_once(tmp_path: Path, kind: str, turn: int):
    path = tmp_path / f"a.{kind}"
    if kind == "bands.tiff":
        tags = [(ORIENTATION, 3, 1, turn, True)]
        tifffile.imwrite(path, PIXELS.astype(np.float32), photometric="rgb", extratags=tags)
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = turn
        options = {"lossless": True} if kind == "webp" else {}
        Image.fromarray(PIXELS).save(path, exif=exif, **options)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels, UPRIGHT[turn](PIXELS))
    assert picture.is_turned == (turn > 1)
    assert read_size(path) == picture.pixels.shape[:2]


@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from([ORIENTATION, 256, 282, 34665, 40961]),
            st.integers(0, 14),
            st.sampled_from([0, 1, 2, 2**31]),
            st.integers(0, 2**32 - 1),
        ),
        max_size=4,
    )
)
def test_no_tag_refuses_a_good_picture(entries: list[tuple[int, int, int, int]]):
    pixels = read_image(jpeg_with_tags(*entries))
    assert sorted(pixels.shape) == [3, 20, 30]


def test_a_damaged_tag_does_not_hide_the_orientation():
    damaged = (256, 9, 1, 2**32 - 1)
    assert read_image(jpeg_with_tags((ORIENTATION, 3, 1, 6), damaged)).shape == (30, 20, 3)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["add_itxt", "add_text"])
def test_texts_of_any_size_are_harmless_and_the_orientation_is_kept(
    tmp_path: Path, packed: bool, kind: str
):
    texts = PngImagePlugin.PngInfo()
    getattr(texts, kind)("Comment", "y" * 70_000_000, zip=packed)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=texts, exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(PIXELS, -1))


def other_profile(space: str) -> bytes:
    profile = ImageCms.createProfile(space)
    return ImageCms.ImageCmsProfile(profile).tobytes()


def swapped_profile() -> bytes:
    """sRGB with its red and blue exchanged, and without its name."""
    content = bytearray(other_profile("sRGB"))
    red, blue = content.index(b"rXYZ"), content.index(b"bXYZ")
    content[red : red + 4], content[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(content).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("transparent", [True, False])
def test_profiles_are_honoured(tmp_path: Path, transparent: bool):
    pixels = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    picture = Image.fromarray(pixels if transparent else PIXELS)
    picture.save(tmp_path / "a.png", icc_profile=swapped_profile())
    seen = read_image(tmp_path / "a.png").astype(int)
    assert np.abs(seen - PIXELS[..., ::-1]).max() <= 2


@pytest.mark.parametrize("kind", [PairedDataset, FolderDataset])
def test_benchmarks_ignore_profiles_as_published_numbers_do(tmp_path: Path, kind: type):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=swapped_profile())
    pairs = [Pair("a", tmp_path / "a.png", None)]
    dataset = kind(
        "words", vocabulary_of("words", [Category("sea", source_id=0)]), pairs, read_indices
    )
    seen = dataset.image(0)
    expected = PIXELS if kind is PairedDataset else read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(seen, expected)
    assert not np.array_equal(PIXELS, read_image(tmp_path / "a.png"))


@pytest.mark.parametrize("profile", [b"nonsense", other_profile("LAB")])
def test_a_profile_of_no_use_is_ignored_with_a_note(tmp_path: Path, profile: bytes):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=profile)
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert len(picture.notes) == 1
    assert "a.png" in picture.notes[0]


def test_a_picture_that_is_nowhere_visible_is_shown(tmp_path: Path):
    Image.fromarray(np.dstack([PIXELS, np.zeros((20, 30), np.uint8)])).save(tmp_path / "a.tga")
    picture = read_picture(tmp_path / "a.tga")
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert len(picture.notes) == 1


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


def test_bands_of_arrays_and_tensors_are_chosen():
    stacked = np.dstack([PIXELS, PIXELS[..., :2]])
    reading = parse_reading(bands="3,2,5")
    seen = stacked[..., [2, 1, 4]]
    tensor = torch.from_numpy(stacked)
    for source in (stacked, tensor, tensor.movedim(-1, 0)):
        np.testing.assert_array_equal(read_image(source, reading), seen)
    grey = read_image(stacked[..., 0], Reading(bands=(1,)))
    np.testing.assert_array_equal(grey[..., 2], stacked[..., 0])

    with refused("the array", "bands first"):
        read_image(np.moveaxis(stacked, -1, 0), reading)
    with refused("the array", "no band 6"):
        read_image(stacked, Reading(bands=(6,)))
    with refused("the array", "bands="):
        read_image(stacked)
    with refused("the PIL image", "path"):
        read_image(Image.fromarray(PIXELS), reading)


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


@pytest.mark.parametrize(("kind", "word"), [("tiff", "3 pages"), ("gif", "3 frames")])
def test_pages_that_are_not_read_are_counted(tmp_path: Path, kind: str, word: str):
    frames = [Image.fromarray(np.roll(PIXELS, shift, 1)) for shift in range(3)]
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:])
    (note,) = read_picture(tmp_path / f"a.{kind}").notes
    assert word in note


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


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f8", ">f4"])
def test_the_order_of_bytes_makes_no_difference(dtype: str):
    scale = 257 if dtype == ">u2" else 1
    other = (PIXELS.astype(int) * scale).astype(dtype)
    np.testing.assert_array_equal(read_image(other), PIXELS)


@pytest.mark.parametrize("error", [1e-7, -1e-7, 1e-3, -1e-3])
def test_rounding_errors_do_not_change_what_a_float_means(error: float):
    image = PIXELS / 255
    image[0, 0, 0] = error if error < 0 else 1 + error
    expected = PIXELS.copy()
    expected[0, 0, 0] = 0 if error < 0 else 255
    np.testing.assert_array_equal(read_image(image), expected)


@pytest.mark.parametrize("value", [1.2, 7.5, 200.0, -0.5])
def test_a_few_values_out_of_range_refuse_a_picture_of_floats(value: float):
    image = PIXELS / 255
    image[0, 0, 0] = value
    with refused("the array", f"{value:g}"):
        read_image(image)


def test_bytes_and_file_objects_are_pictures_and_addresses_are_not(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    for source in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        np.testing.assert_array_equal(read_image(source), PIXELS)
    with path.open("rb") as file:
        np.testing.assert_array_equal(read_image(file), PIXELS)
    for damaged in (b"", b"text", content[:60]):
        with refused("the file object"):
            read_image(damaged)
    with path.open(encoding="latin-1") as file, refused('"rb"'):
        read_image(file)
    with refused("https://example.org/a.png"):
        read_image("https://example.org/a.png")


def test_heic_is_read_or_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    heif = pillow_heif.from_pillow(Image.fromarray(PIXELS))
    heif.save(tmp_path / "a.heic", quality=-1, chroma=444, exif=exif.tobytes())
    seen = read_image(tmp_path / "a.heic")
    assert read_size(tmp_path / "a.heic") == seen.shape[:2]
    with Image.open(tmp_path / "a.heic") as reference:  # which applies what the file itself says
        np.testing.assert_array_equal(seen, np.asarray(reference.convert("RGB")))
    monkeypatch.setattr(picture_files, "find_spec", lambda name: None)
    with refused("a.heic", "HEIF", "disa-seg[heif]"):
        read_image(tmp_path / "a.heic")


def test_pictures_are_read_beside_another_programs_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)
    assert Image.MAX_IMAGE_PIXELS == 10


def read_in_child(path: Path, answers: "multiprocessing.Queue[tuple[int, ...]]") -> None:
    answers.put(read_image(path).shape)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_process_forked_while_a_thread_reads_can_read(tmp_path: Path):
    large, small = tmp_path / "large.jpg", tmp_path / "small.png"
    Image.effect_noise((2000, 2000), 50).save(large)
    Image.fromarray(PIXELS).save(small)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            read_image(large)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(3):
            answers = context.Queue()
            child = context.Process(target=read_in_child, args=(small, answers))
            child.start()
            assert answers.get(timeout=60) == PIXELS.shape
            child.join()
    finally:
        stop.set()
        thread.join()
