"""Opening picture files with Pillow: what it refuses needlessly, and what it cannot know.

No setting of the process is touched (decision D113).
"""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from disa.errors import DisaError, one_line
from disa.running.files import MAX_PIXELS


class Content(io.BytesIO):
    """A picture's file in memory, with the name by which messages and results call it."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


Source = Path | io.BytesIO
OpenFile = io.BufferedReader | io.BytesIO

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
SUFFIXES = (
    *(".avif", ".bmp", ".gif", *HEIF_SUFFIXES, ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# Only formats that Pillow decodes itself: for EPS it would start another program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
HEIF_REMEDY = "pip install 'disa-seg[heif]', or convert it to JPEG"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_BYTES = 2**20  # of a PNG's texts and profile, unpacked; Pillow refuses larger ones
# What turns an array upright, by the picture's EXIF orientation.
TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: np.rot90(array, -1),
    7: lambda array: array[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
BY_A_QUARTER = (5, 6, 7, 8)


@contextmanager
def opened(
    source: Source, max_pixels: int = MAX_PIXELS, load: bool = True
) -> Iterator[Image.Image]:
    """Open a picture file, or a file object that can seek, and, with `load`, decode it.

    Whatever goes wrong inside the block becomes a `DisaError` that names the file.
    """
    name = name_of(source)
    try:
        if isinstance(source, Path):
            _check_file(source)
            file: OpenFile = source.open("rb")
        else:
            file = source
        with file, _identified(_without_large_texts(file), name) as image:
            # The header says how large the picture claims to be; nothing is decoded yet.
            width, height = image.size
            if width * height > max_pixels:
                raise DisaError(
                    f"{name}: {width} x {height} pixels are more than the limit of {max_pixels}; "
                    "shrink the picture, or raise max_pixels (disa segment --max-pixels)"
                )
            if load:
                image.load()
            yield image
    except DisaError:
        raise
    except UnidentifiedImageError:
        raise DisaError(f"{name}: is not an image (known: {', '.join(FORMATS)})") from None
    except PermissionError:
        raise DisaError(f"{name}: no permission to read it") from None
    except MemoryError:
        raise DisaError(f"{name}: not enough memory to decode it; shrink the picture") from None
    except Exception as error:  # decoders meet damaged files with every kind of exception
        raise DisaError(f"{name}: is damaged or truncated ({one_line(error)})") from None


def name_of(source: object) -> str:
    """Return what messages call a picture."""
    if isinstance(source, Content):
        return source.name
    return str(source) if isinstance(source, Path) else "the file object"


def orientation(image: Image.Image) -> int:
    """Return how the camera was held, 1 to 8; 1, upright, also where that cannot be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of a damaged block; the picture itself is whole
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def upright(array: NDArray[Any], turn: int) -> NDArray[Any]:
    """Return an array (H, W, ...) of this orientation turned upright, in the same memory."""
    return TURNS[turn](array) if turn in TURNS else array


def turns_itself(image: Image.Image) -> bool:
    """Tell whether Pillow turns a picture of this format upright when it decodes it."""
    return image.format in ("TIFF", "HEIF")


def has_heif() -> bool:
    """Tell whether HEIC pictures can be read."""
    return find_spec("pillow_heif") is not None


def _check_file(path: Path) -> None:
    """Raise `DisaError` for what is no file with content."""
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises on names that are too long)
        raise DisaError(f"{path}: is a folder; give a picture")
    if not os.path.exists(path):  # noqa: PTH110 (as above)
        raise DisaError(f"{path}: no such file")
    if not path.is_file():
        raise DisaError(f"{path}: is not a regular file; pipe it into disa segment -")
    if path.stat().st_size == 0:
        raise DisaError(f"{path}: is empty (0 bytes)")


def _identified(file: OpenFile, name: str) -> Image.Image:
    """Open a file with the first format that knows it; nothing is decoded yet.

    `Image.open` would apply a limit of pixels that belongs to the whole process. Raises
    `UnidentifiedImageError`, and `DisaError` for known files that Pillow cannot read.
    """
    Image.init()
    start = file.read(16)
    formats: tuple[str, ...] = FORMATS
    if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS:
        if not has_heif():
            raise DisaError(f"{name}: is HEIF, as phones write it; {HEIF_REMEDY}")
        from pillow_heif import register_heif_opener

        register_heif_opener()
        formats = ("AVIF", "HEIF")
    for each in formats:
        if each not in Image.OPEN:
            continue  # this build of Pillow lacks it
        factory, accepts = Image.OPEN[each]
        if accepts is not None and accepts(start) is not True:
            continue
        file.seek(0)
        try:
            image = factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
        # A damaged tag may hold a number, in which Pillow would look for an orientation.
        if not isinstance(image.info.get("xmp", b""), (str, bytes)):
            del image.info["xmp"]
        return image
    raise UnidentifiedImageError


def _without_large_texts(file: OpenFile) -> OpenFile:
    """Return a PNG without texts that Pillow would refuse; any other file as it is.

    No pixel is in them. Small ones stay, because they may say how the camera was held.
    """
    start = file.read(8)
    file.seek(0)
    if start != PNG_SIGNATURE:
        return file
    dropped = list(_large_texts(file))
    file.seek(0)
    if not dropped:
        return file
    kept = io.BytesIO()
    for begin, end in dropped:
        kept.write(file.read(begin - file.tell()))
        file.seek(end)
    kept.write(file.read())
    kept.seek(0)
    return kept


def _large_texts(file: OpenFile) -> Iterator[tuple[int, int]]:
    """Yield where each chunk begins and ends that takes the texts over their limit."""
    place = len(PNG_SIGNATURE)
    left = TEXT_BYTES
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        end = place + length + 12
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            size = _text_size(file.read(length), left)
            if size > left:
                yield place, end
            else:
                left -= size
        place = end


def _text_size(content: bytes, most: int) -> int:
    """Return the bytes of a text, unpacked if it is packed; more than `most` are not counted on."""
    sizes = [len(content)]
    # The packed part follows the keyword (zTXt, iCCP) or three more fields (iTXt).
    for start in {content.find(b"\0") + 2, _fourth_field(content)}:
        try:
            sizes.append(len(zlib.decompressobj().decompress(content[start:], most + 1)))
        except zlib.error:
            continue
    return max(sizes)


def _fourth_field(content: bytes) -> int:
    """Return where the text of an iTXt chunk starts: after keyword, two bytes and two fields."""
    place = content.find(b"\0") + 3
    for _ in range(2):
        place = content.find(b"\0", place) + 1
    return place
