"""What a user may call an image, and how it becomes pixels: uint8 RGB (H, W, 3).

Users' pictures and those of data sets are read here. Free of torch, so that the command line can
refuse bad input before the heavy imports.
"""

import io
import os
import warnings
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disa.data.arrays import Pixels as Pixels
from disa.data.arrays import (
    choose_bands,
    dark_note,
    from_array,
    from_tensor,
    is_tensor,
    over_white,
    strips,
)
from disa.data.colour_profiles import Change, to_srgb
from disa.data.picture_files import (
    BY_A_QUARTER,
    Source,
    name_of,
    orientation,
    turns_itself,
    upright,
)
from disa.data.picture_files import SUFFIXES as SUFFIXES
from disa.data.picture_files import opened as opened
from disa.data.tiff import needs_bands, read_bands
from disa.errors import DisaError, one_line
from disa.running.files import MAX_PIXELS, at_home, write_whole
from disa.running.lists import split_list

TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


class Reading(NamedTuple):
    """How pictures are read from files."""

    max_pixels: int = MAX_PIXELS
    # Of a TIFF's or an array's bands, counted from 1, those that are red, green and blue, or the
    # only one.
    bands: tuple[int, ...] | None = None
    stretch: bool = False  # the darkest value becomes black and the brightest white
    profiles: bool = True  # colours become sRGB by the file's ICC profile


class Picture(NamedTuple):
    """A picture that was read, and what its user should know."""

    pixels: Pixels
    is_turned: bool = False  # by its EXIF orientation
    notes: tuple[str, ...] = ()


def parse_reading(
    max_pixels: int = MAX_PIXELS, bands: str | Sequence[int] | None = None, stretch: bool = False
) -> Reading:
    """Return how to read pictures; `bands` are "4,3,2" or (4, 3, 2). Raises `DisaError`."""
    return Reading(max_pixels, None if bands is None else _parse_bands(bands), stretch)


def read_image(source: object, reading: Reading = Reading()) -> Pixels:  # noqa: B008
    """Return the picture as it is meant to be seen: upright, in sRGB, transparency over white.

    `source` is a path, the bytes of a file, a file object, a PIL image, an array (H, W) or
    (H, W, 1 | 3 | 4), or a tensor, which may also be (1 | 3 | 4, H, W). Floats are in 0..1 or in
    0..255; uint16 is 0..65535, other integers 0..255. The limit of pixels is for files, before they
    are decoded; arrays and tensors may have any number of channels if `reading` chooses bands. What
    a user should know is a Python warning. Raises `DisaError` for everything that is not a whole
    picture.
    """
    if isinstance(source, (Image.Image, np.ndarray)) or is_tensor(source):
        picture = _read_memory(source, reading)
    else:
        picture = read_picture(_file(source), reading)
    for note in picture.notes:
        warnings.warn(note, stacklevel=2)
    return picture.pixels


def _file(source: object) -> Source:
    """Return the file that a path, bytes or a file object mean. Raises `DisaError` for others."""
    if isinstance(source, (str, PathLike)):
        name = fspath(source)
        refuse_address(str(name))
        return at_home(name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        raise DisaError(
            "an image is a path, a file object or its bytes, a PIL image, an array or a tensor; "
            f"got {type(source).__name__}"
        )
    content = source.read()
    if not isinstance(content, bytes):
        raise DisaError('the file object gives no bytes; open it with mode "rb"')
    return io.BytesIO(content)


def _read_memory(source: Any, reading: Reading) -> Picture:
    """Read a PIL image, an array or a tensor. Raises `DisaError`."""
    notes: list[str] = []
    if isinstance(source, Image.Image):
        if reading.bands is not None:
            raise DisaError("the PIL image: has no bands to choose from; give the TIFF's path")
        try:
            turn = _turn_left(source)
            pixels = _from_pillow(source, "the PIL image", notes, reading)
        except (OSError, ValueError, SyntaxError) as error:
            # `Image.open` reads no pixel, so damage shows only here.
            raise DisaError(
                f"the PIL image is closed, damaged or truncated ({one_line(error)})"
            ) from None
        return Picture(_as_seen(pixels, turn, "the PIL image", notes), notes=tuple(notes))

    name = "the array"
    array = source
    if is_tensor(source):
        name = "the tensor"
        array = from_tensor(source, of_bands=reading.bands is not None)
    elif reading.bands is not None and array.ndim == 3 and array.shape[0] < array.shape[2]:
        # As rasterio gives them.
        raise DisaError(
            f"the array: shape {array.shape} has its bands first; expected (H, W, bands): "
            "numpy.moveaxis(array, 0, -1)"
        )
    if reading.bands is not None:
        array = choose_bands(array, reading.bands, name)
    return Picture(from_array(array, name, notes, reading.stretch), notes=tuple(notes))


def read_picture(source: Source, reading: Reading = Reading()) -> Picture:  # noqa: B008
    """Decode one file; its size is judged by the header. Raises `DisaError` that names it."""
    name = name_of(source)
    notes: list[str] = []
    if needs_bands(source, name, reading.bands):
        array, is_turned = read_bands(source, name, reading.max_pixels, reading.bands)
        pixels = from_array(array, name, notes, reading.stretch)
        return Picture(pixels, is_turned, tuple(notes))
    # Pillow's own copy of the picture goes with this call: one more beside it would be too much.
    pixels, turn, is_turned = _read_file(source, name, notes, reading)
    return Picture(_as_seen(pixels, turn, name, notes), is_turned, tuple(notes))


def _read_file(
    source: Source, name: str, notes: list[str], reading: Reading
) -> tuple[Pixels, int, bool]:
    """Return pixels as they are stored, the turn that they need, and if the camera was turned."""
    with opened(source, reading.max_pixels, load=False) as image:
        is_turned = orientation(image) != 1
        turn = _turn_left(image)
        if not reading.profiles:
            image.info.pop("icc_profile", None)
        notes += _frames_note(image, name)
        return _from_pillow(image, name, notes, reading), turn, is_turned


def read_size(path: Path) -> tuple[int, int]:
    """Return the (H, W) that `read_image` would give, from the header alone. Raises `DisaError`."""
    if needs_bands(path, str(path)):
        height, width, _ = read_picture(path).pixels.shape
        return height, width
    with opened(path, load=False) as image:
        width, height = image.size
        turned = not turns_itself(image) and orientation(image) in BY_A_QUARTER
        return (width, height) if turned else (height, width)


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a picture (H, W, 3) or a label map (H, W) of 8 or 16 bits as PNG.

    Raises `DisaError` if the disk refuses.
    """
    picture = Image.fromarray(pixels)
    write_whole(path, lambda file: picture.save(file, "PNG"))


def real_path(path: Path) -> Path:
    """Return the path without symbolic links, also where they form a loop.

    `Path.resolve` would raise on a loop.
    """
    return Path(os.path.realpath(path))


def refuse_address(name: str) -> None:
    """Raise `DisaError` for an address on the web: nothing is fetched unasked."""
    if name.lower().startswith(("http://", "https://", "ftp://", "s3://", "gs://", "file://")):
        raise DisaError(
            f"{name}: is an address, not a file; fetch it first (curl -L {name} | disa segment -), "
            "or give its bytes"
        )


def _frames_note(image: Image.Image, name: str) -> list[str]:
    """Return a note on pages and frames that are not read."""
    # A phone's MPO holds a preview or a map of brightness beside its photograph.
    if image.format == "MPO":
        return []
    frames = getattr(image, "n_frames", 1)
    if frames < 2:
        return []
    kind = "pages" if image.format == "TIFF" else "frames"
    return [f"{name}: only the first of its {frames} {kind} is read"]


def _turn_left(image: Image.Image) -> int:
    """Return the orientation that is left when Pillow has decoded the picture."""
    return 1 if turns_itself(image) else orientation(image)


def _as_seen(pixels: Pixels, turn: int, name: str, notes: list[str]) -> Pixels:
    """Return a picture (H, W, 3 | 4) upright and, if it has transparency, over white."""
    if pixels.shape[-1] == 4:
        pixels = over_white(pixels, name, notes)
    return np.ascontiguousarray(upright(pixels, turn))


def _from_pillow(
    image: Image.Image,
    name: str,
    notes: list[str],
    reading: Reading,
) -> Pixels:
    """Return the pixels as they are stored, (H, W, 3), or (H, W, 4) with transparency."""
    if 0 in image.size:
        raise DisaError(f"{name}: has no pixels ({image.width} x {image.height})")
    is_tiff_file = image.format == "TIFF"
    # Pillow keeps the upper 8 of 16 bits where there are three channels.
    had_16_bits = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    if image.mode.startswith("I;16"):
        return from_array(np.asarray(image), name, notes, reading.stretch)
    if image.mode in ("I", "F"):
        deep = np.asarray(image)
        # Pillow opens some files of 16 bits with 32.
        if image.mode == "I" and deep.min() >= 0 and 255 < deep.max() < 2**16:
            deep = deep.astype(np.uint16)
        return from_array(deep, name, notes, reading.stretch)
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        pixels = converted(image, "RGBA", to_srgb(image, name, notes))
        if is_tiff_file and not _means_transparency(pixels[..., 3]):
            notes.append(
                f"{name}: its fourth band is no transparency (near infrared?) and is ignored"
            )
            pixels = np.ascontiguousarray(pixels[..., :3])
    else:
        pixels = converted(image, "RGB", to_srgb(image, name, notes))
    if had_16_bits and not reading.stretch:
        notes += dark_note(name, int(pixels[..., :3].max()) * 257)
    if reading.stretch:
        return from_array(pixels, name, notes, stretch=True)
    return pixels


def converted(image: Image.Image, mode: str, change: Change | None = None) -> Pixels:
    """Return a picture as an array of this mode, its colours changed.

    Strip by strip, because Pillow would make several copies of all of it.
    """
    width, height = image.size
    pixels = np.empty((height, width, len(mode)), np.uint8)
    for rows in strips(height, width):
        strip = image.crop((0, rows.start, width, rows.stop))
        if change is None or mode == "RGBA":
            pixels[rows] = np.asarray(strip.convert(mode))
        if change is not None:
            pixels[rows, :, :3] = np.asarray(change(strip))
    return pixels


def _means_transparency(band: NDArray[np.uint8]) -> bool:
    """Tell a mask from a measurement: most of a mask's pixels are fully visible or not at all."""
    extremes = (band == 0) | (band == 255)
    return bool(extremes.mean() > 0.5)


def _parse_bands(text: str | Sequence[int]) -> tuple[int, ...]:
    """Return the bands of "4,3,2": one or three, counted from 1. Raises `DisaError`."""
    try:
        parts = split_list(text) if isinstance(text, str) else text
        bands = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        bands = ()
    if len(bands) not in (1, 3) or min(bands) < 1:
        raise DisaError(f"bands {text}: name one or three, counted from 1, such as 4,3,2")
    return bands
