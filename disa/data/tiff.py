"""TIFFs that Pillow cannot read: more bands than colours, floats (decision D116)."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin
from PIL.Image import Transpose

from disa.data.picture_files import TURNS, Source
from disa.errors import DisaError, one_line

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
REMEDY = "pip install 'disa-seg[tiff]', or save it as PNG of 8 bits"
# Of a pixel, at the limit of pixels: four bands of 16 bits. Smaller pictures may have more.
MOST_BYTES = 8
RGB = 2  # PhotometricInterpretation
FLOAT = 3  # SampleFormat
SIGNED = 2


def needs_bands(source: Source, name: str, bands: Sequence[int] | None = None) -> bool:
    """Tell whether tifffile is needed: bands were chosen, or Pillow does not know the kind.

    Raises `DisaError` that says what the file is, if tifffile is needed and missing, and for bands
    of what is no TIFF.
    """
    tags = _tags(source) if _start(source) in STARTS else {}
    if not tags:
        if bands is not None:
            raise DisaError(f"{name}: is no TIFF, of which bands can be chosen; leave out --bands")
        return False
    if bands is None and _is_known(source):
        return False
    if find_spec("tifffile") is None:
        count = _first(tags, 277, 1)
        bits = _first(tags, 258, 1)
        sample = _first(tags, 339, 1)
        of_bands = f"{count} bands of " if count > 1 else ""
        kind = {FLOAT: "floats", SIGNED: "signed integers"}.get(sample, "integers")
        raise DisaError(f"{name}: is a TIFF of {of_bands}{bits}-bit {kind}; {REMEDY}")
    return True


def read_bands(
    source: Source, name: str, max_pixels: int, bands: Sequence[int] | None
) -> tuple[NDArray[Any], bool]:
    """Return bands of the first page, (H, W, 1 | 3), and whether they were turned upright.

    The numbers are the file's own.

    Without a choice these are the first three of a picture whose bands are colours, or the only
    ones. Raises `DisaError` for a file with others, for a band that is not there, and for damage.
    """
    import tifffile

    try:
        with tifffile.TiffFile(source) as file:
            page = file.pages.first
            # All bands are unpacked, whichever are wanted.
            pixels = page.imagelength * page.imagewidth
            if pixels > max_pixels or page.nbytes > MOST_BYTES * max_pixels:
                raise DisaError(
                    f"{name}: {page.imagewidth} x {page.imagelength} pixels of "
                    f"{page.nbytes / max(1, pixels):.0f} bytes are more than the limit of "
                    f"{max_pixels} of {MOST_BYTES}; raise max_pixels (disa segment --max-pixels)"
                )
            array = page.asarray()
            is_rgb = page.photometric == RGB
            turn = int(page.tags.valueof(274, 1))
            if page.axes.startswith("S"):
                array = np.moveaxis(array, 0, -1)
    except DisaError:
        raise
    except Exception as error:  # decoders meet damaged files with every kind of exception
        reason = one_line(error)
        raise DisaError(f"{name}: is damaged, or packed in an unknown way ({reason})") from None

    if array.size == 0:
        raise DisaError(f"{name}: has no pixels (shape {array.shape})")
    array = array.reshape(*array.shape[:2], -1)
    count = array.shape[-1]
    if bands is None and (count in (1, 3) or is_rgb):
        bands = range(1, min(count, 3) + 1)
    if bands is None:
        raise DisaError(
            f"{name}: has {count} bands; say which are red, green and blue: "
            "disa segment --bands 1,2,3"
        )
    if max(bands) > count:
        raise DisaError(f"{name}: has {count} bands, there is no band {max(bands)}")
    return _upright(array[..., [band - 1 for band in bands]], turn), turn in TURNS


def _upright(array: NDArray[Any], turn: int) -> NDArray[Any]:
    """Turn an array as Pillow turns a picture of this orientation."""
    match TURNS.get(turn):
        case Transpose.FLIP_LEFT_RIGHT:
            return array[:, ::-1]
        case Transpose.FLIP_TOP_BOTTOM:
            return array[::-1]
        case Transpose.TRANSPOSE:
            return array.swapaxes(0, 1)
        case Transpose.TRANSVERSE:
            return array[::-1, ::-1].swapaxes(0, 1)
        case Transpose.ROTATE_90:
            return np.rot90(array)
        case Transpose.ROTATE_180:
            return array[::-1, ::-1]
        case Transpose.ROTATE_270:
            return np.rot90(array, -1)
    return array


def _is_known(source: Source) -> bool:
    """Tell whether Pillow knows what the bands of a file are."""
    place = source if isinstance(source, Path) else io.BytesIO(source.getvalue())
    try:
        TiffImagePlugin.TiffImageFile(place).close()
    except SyntaxError:
        return False
    except Exception:  # opening it says more
        return True
    return True


def _start(source: Source) -> bytes:
    try:
        if isinstance(source, Path):
            if not source.is_file():
                return b""
            with source.open("rb") as file:
                return file.read(4)
        start = source.read(4)
        source.seek(0)
    except (OSError, ValueError):
        return b""  # opening it says more
    return start


def _tags(source: Source) -> Any:
    """Return the tags of the first page by number; nothing if they are damaged."""
    file = source.open("rb") if isinstance(source, Path) else source
    try:
        header = file.read(8)
        if header[2:3] == b"+" or header[3:4] == b"+":
            header += file.read(8)
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(directory.next)
        directory.load(file)
        return {number: directory[number] for number in (258, 277, 339) if number in directory}
    except Exception:  # opening it says more
        return {}
    finally:
        if isinstance(source, Path):
            file.close()
        else:
            file.seek(0)


def _first(tags: Any, number: int, default: int) -> int:
    value = tags.get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)
