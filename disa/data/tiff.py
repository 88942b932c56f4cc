"""TIFFs that Pillow cannot read: more bands than colours, floats (decision D116)."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from disa.data.arrays import choose_bands
from disa.data.picture_files import TURNS, Source, upright
from disa.errors import DisaError, one_line

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Of a pixel, at the limit of pixels: four bands of 16 bits. Smaller pictures may have more.
MOST_BYTES = 8
# Numbers of the tags, and of what they say.
BITS, COMPRESSION, SAMPLES, PREDICTOR, SAMPLE_FORMAT = 258, 259, 277, 317, 339
RGB = 2
COLOURS = (1, RGB, 6)  # black to white, RGB, and YCbCr, which is unpacked as RGB
FLOAT, SIGNED = 3, 2
WEBP = 50001
FLOAT_DIFFERENCES = 3
# Ways to pack that tifffile knows without imagecodecs: none, Deflate, PackBits, LZMA.
PLAIN = (1, 8, 32946, 32773, 34925)
PACKINGS = {
    5: "LZW",
    6: "JPEG",
    7: "JPEG",
    8: "Deflate",
    32946: "Deflate",
    34712: "JPEG 2000",
    34887: "LERC",
    34934: "JPEG XR",
    50000: "Zstandard",
    WEBP: "WebP",
    50002: "JPEG XL",
}


def needs_bands(source: Source, name: str, bands: Sequence[int] | None = None) -> bool:
    """Tell whether tifffile is needed: bands were chosen, or Pillow does not know the kind.

    Raises `DisaError` that says what the file is, if tifffile is needed and missing, and for bands
    of what is no TIFF.
    """
    tags = _tags(source) if _start(source) in STARTS else {}
    if not tags:
        if bands is not None:
            raise DisaError(f"{name}: is no TIFF, of which bands can be chosen; leave out bands")
        return False
    count = _first(tags, SAMPLES, 1)
    packing = _first(tags, COMPRESSION, 1)
    # Pillow would print a line of its own on many bands, and its libtiff knows no WebP.
    is_strange = count > TiffImagePlugin.MAX_SAMPLESPERPIXEL or packing == WEBP
    if bands is None and not is_strange and _is_known(source):
        return False
    if find_spec("tifffile") is None:
        bits = _first(tags, BITS, 1)
        of_bands = f"{count} bands of " if count > 1 else ""
        sample = _first(tags, SAMPLE_FORMAT, 1)
        kind = {FLOAT: "floats", SIGNED: "signed integers"}.get(sample, "integers")
        packed, package = "", ""
        if packing not in PLAIN or _first(tags, PREDICTOR, 1) == FLOAT_DIFFERENCES:
            packed, package = f", packed by {_packing(packing)}", " imagecodecs"
        raise DisaError(
            f"{name}: is a TIFF of {of_bands}{bits}-bit {kind}{packed}; "
            f"pip install 'disa-seg[tiff]'{package}, or save it as PNG of 8 bits"
        )
    return True


def read_bands(
    source: Source, name: str, max_pixels: int, bands: Sequence[int] | None
) -> tuple[NDArray[Any], bool]:
    """Return bands of the first page, (H, W, 1 | 3), and whether they were turned upright.

    The numbers are the file's own.

    Without a choice these are the first three of a picture whose bands are colours, or the only
    ones. Raises `DisaError` for a file with others, for a band that is not there, for damage, and
    for a file that only imagecodecs unpacks, if that is missing.
    """
    array, colours, turn = _unpacked(source, name, max_pixels)
    if array.size == 0:
        raise DisaError(f"{name}: has no pixels (shape {array.shape})")
    array = array.reshape(*array.shape[:2], -1)
    count = array.shape[-1]
    if bands is None and colours not in COLOURS:
        raise DisaError(
            f"{name}: its numbers are no colours (a palette?); save it as PNG of 8 bits"
        )
    if bands is None and (count in (1, 3) or colours == RGB):
        bands = range(1, min(count, 3) + 1)
    if bands is None:
        raise DisaError(
            f"{name}: has {count} bands; say which are red, green and blue: --bands 1,2,3, or in "
            "Python bands=(1, 2, 3)"
        )
    return upright(choose_bands(array, bands, name), turn), turn in TURNS


def _unpacked(source: Source, name: str, max_pixels: int) -> tuple[NDArray[Any], int, int]:
    """Return all bands (H, W, ...) as they are stored, what colours they are, and the orientation.

    Raises `DisaError`.
    """
    import tifffile

    packing = 1
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
            packing = int(page.compression)
            # These look-ups fail for what cannot be unpacked here.
            tifffile.TIFF.DECOMPRESSORS[packing]
            tifffile.TIFF.UNPREDICTORS[int(page.predictor)]
            array = page.asarray()
            colours = int(page.photometric)
            turn = int(page.tags.valueof(274, 1))
            if page.axes.startswith("S"):
                array = np.moveaxis(array, 0, -1)
            return array, colours, turn
    except DisaError:
        raise
    except (KeyError, ImportError):
        raise _cannot_unpack(name, packing) from None
    except Exception as error:  # decoders meet damaged files with every kind of exception
        raise DisaError(f"{name}: is damaged or truncated ({one_line(error)})") from None


def _packing(number: int) -> str:
    return PACKINGS.get(number, f"compression {number}")


def _cannot_unpack(name: str, packing: int) -> DisaError:
    """Return the error of a file that cannot be unpacked here, with the remedy."""
    differences = " of floats' differences" if packing in PLAIN else ""
    install = "" if find_spec("imagecodecs") else "pip install imagecodecs, or "
    return DisaError(
        f"{name}: is packed by {_packing(packing)}{differences}, which cannot be unpacked here; "
        f"{install}save it without compression"
    )


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
        wanted = (BITS, COMPRESSION, SAMPLES, PREDICTOR, SAMPLE_FORMAT)
        return {number: directory[number] for number in wanted if number in directory}
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
