"""Whole pictures that decoders stumble over: tags, texts, profiles, transparency, pages."""

import io
import multiprocessing
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from refusals import refused

from disa.data import picture_files
from disa.data.folder import FolderDataset
from disa.data.images import read_image, read_picture, read_size
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


@pytest.mark.parametrize(("kind", "word"), [("tiff", "3 pages"), ("gif", "3 frames")])
def test_pages_that_are_not_read_are_counted(tmp_path: Path, kind: str, word: str):
    frames = [Image.fromarray(np.roll(PIXELS, shift, 1)) for shift in range(3)]
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:])
    (note,) = read_picture(tmp_path / f"a.{kind}").notes
    assert word in note


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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise there")
def test_transparency_takes_no_third_copy_of_a_picture(tmp_path: Path):
    pixels = np.full((4000, 4000, 4), 99, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
    program = (
        "import resource, sys; from pathlib import Path; from disa.data.images import read_image\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); read_image(Path(sys.argv[1])); print(peak() - before)"
    )
    command = [sys.executable, "-c", program, tmp_path / "a.png"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert int(done.stdout) < 2.4 * pixels.nbytes


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
