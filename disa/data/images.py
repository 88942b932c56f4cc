"""What a user may call an image, and how it becomes pixels: uint8 RGB (H, W, 3).

Free of torch, so that the command line can refuse bad input before the heavy imports.
"""

import glob
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from disa.errors import DisaError
from disa.running.files import MAX_PIXELS, write_whole

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# Only formats that Pillow decodes itself: for EPS it would start another program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")

_pillow_limit = threading.Lock()

Pixels = NDArray[np.uint8]


def read_image(source: object, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return the picture as it is meant to be seen: upright, transparency laid over white.

    `source` is a path, a PIL image, an array (H, W) or (H, W, 1 | 3 | 4), or a tensor, which may
    also be (1 | 3 | 4, H, W). Floats are in 0..1 or in 0..255 (told apart by their largest value);
    uint16 is 0..65535, other integers 0..255. `max_pixels` limits files, before they are decoded.
    Raises `DisaError` for everything that is not a whole picture.
    """
    if isinstance(source, (str, PathLike)):
        return read_file(Path(fspath(source)), max_pixels)
    if isinstance(source, Image.Image):
        try:
            return _from_pillow(source, "the PIL image")
        except (OSError, ValueError, SyntaxError) as error:
            # `Image.open` reads no pixel, so damage shows only here.
            raise DisaError(
                f"the PIL image is closed, damaged or truncated ({_one_line(error)})"
            ) from None
    if _is_tensor(source):
        return _from_array(_from_tensor(source), "the tensor")
    if isinstance(source, np.ndarray):
        return _from_array(source, "the array")
    raise DisaError(
        f"an image is a path, a PIL image, an array or a tensor; got {type(source).__name__}"
    )


def read_file(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode one file; its size is judged by the header. Raises `DisaError` that names it."""
    with opened(path, max_pixels) as image:
        return _from_pillow(image, str(path))


def read_size(path: Path) -> tuple[int, int]:
    """Return the (H, W) that `read_file` would give, from the header alone. Raises `DisaError`."""
    with opened(path, load=False) as image:
        width, height = image.size
        # Orientations from 5 on turn the picture by 90 degrees.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (width, height) if turned else (height, width)


@contextmanager
def opened(path: Path, max_pixels: int = MAX_PIXELS, load: bool = True) -> Iterator[Image.Image]:
    """Open a picture file and, with `load`, decode it.

    Whatever goes wrong inside the block becomes a `DisaError` that names the file.
    """
    try:
        _check_file(path)
        with _without_pillow_limit(), Image.open(path, formats=_formats()) as image:
            # The header says how large the picture claims to be; nothing is decoded yet.
            width, height = image.size
            if width * height > max_pixels:
                raise DisaError(
                    f"{path}: {width} x {height} pixels are more than the limit of {max_pixels}; "
                    "shrink the picture, or raise max_pixels (disa segment --max-pixels)"
                )
            if load:
                image.load()
            yield image
    except DisaError:
        raise
    except UnidentifiedImageError:
        raise DisaError(f"{path}: is not an image (known: {', '.join(FORMATS)})") from None
    except PermissionError:
        raise DisaError(f"{path}: no permission to read it") from None
    except MemoryError:
        raise DisaError(f"{path}: not enough memory to decode it; shrink the picture") from None
    except Exception as error:  # decoders meet damaged files with every kind of exception
        raise DisaError(f"{path}: is damaged or truncated ({_one_line(error)})") from None


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a picture (H, W, 3) or a label map (H, W) of 8 or 16 bits as PNG.

    Raises `DisaError` if the disk refuses.
    """
    picture = Image.fromarray(pixels)
    write_whole(path, lambda file: picture.save(file, "PNG"))


def expand(inputs: Iterable[str | PathLike[str]]) -> list[Path]:
    """Return the files that paths, folders and globs name: in the order given, each once.

    A folder gives the pictures directly in it (by suffix, without hidden ones), sorted; `**` in a
    glob goes deeper. A single missing file stays in the list, so that reading it reports it while
    the others are read. Raises `DisaError` for a folder or a glob without pictures.
    """
    files: list[Path] = []
    for given in inputs:
        files += _files_of(fspath(given))

    # A file may be named twice, also by different spellings; the first one wins.
    unique: dict[Path, Path] = {}
    for file in files:
        unique.setdefault(real_path(file), file)
    return list(unique.values())


def real_path(path: Path) -> Path:
    """Return the path without symbolic links, also where they form a loop.

    `Path.resolve` would raise on a loop.
    """
    return Path(os.path.realpath(path))


def _files_of(name: str) -> list[Path]:
    """Return the files that one argument names: a file, a folder or a glob."""
    path = Path(name)
    if not name:
        raise DisaError("a picture's path is empty; give a file, a folder or a glob")
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises on names that are too long)
        files = sorted(file for file in path.iterdir() if _looks_like_picture(file))
        if not files:
            raise DisaError(f"{path}: no picture in this folder (looked for {', '.join(SUFFIXES)})")
        return files
    if glob.has_magic(name) and not os.path.exists(path):  # noqa: PTH110 (as above)
        # iglob: unlike `Path.glob` it takes absolute patterns
        matches = map(Path, glob.iglob(name, recursive=True))  # noqa: PTH207
        files = sorted(file for file in matches if file.is_file())
        if not files:
            raise DisaError(f"{name}: matches no file")
        return files
    return [path]


def _looks_like_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _check_file(path: Path) -> None:
    """Raise `DisaError` for what is no file with content."""
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises on names that are too long)
        raise DisaError(f"{path}: is a folder; give a picture")
    if not os.path.exists(path):  # noqa: PTH110 (as above)
        raise DisaError(f"{path}: no such file")
    if not path.is_file():
        raise DisaError(f"{path}: is not a regular file")
    if path.stat().st_size == 0:
        raise DisaError(f"{path}: is empty (0 bytes)")


def _formats() -> list[str]:
    """Return those of `FORMATS` that this build of Pillow can open."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Lift Pillow's own limit, so that `max_pixels` can exceed it.

    That limit belongs to the whole process, hence the lock.
    """
    with _pillow_limit:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _from_pillow(image: Image.Image, name: str) -> Pixels:
    if 0 in image.size:
        raise DisaError(f"{name}: has no pixels ({image.width} x {image.height})")
    # Upright first, because later conversions lose how the camera was held.
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return _from_array(np.asarray(image).astype(np.uint16), name)
    if image.mode in ("I", "F"):
        deep = np.asarray(image)
        # Pillow opens some files of 16 bits with 32.
        if image.mode == "I" and deep.min() >= 0 and 255 < deep.max() < 2**16:
            deep = deep.astype(np.uint16)
        return _from_array(deep, name)
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        return _over_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _is_tensor(source: object) -> bool:
    """Recognise a tensor without importing torch: whoever passes one has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_tensor(tensor: Any) -> NDArray[Any]:
    """Return a tensor as an array (H, W) or (H, W, C)."""
    try:
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()  # numpy has no bfloat16
        array: NDArray[Any] = tensor.numpy()
    except (RuntimeError, TypeError) as error:
        # Sparse, quantised or without values.
        raise DisaError(f"the tensor is no plain one of numbers ({_one_line(error)})") from None
    # Three axes are channels first where that is possible.
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return np.moveaxis(array, 0, -1)
    return array


def _from_array(array: NDArray[Any], name: str) -> Pixels:
    if array.ndim == 4:
        raise DisaError(f"{name}: shape {array.shape} is a stack of images; give list(images)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        wanted = "(H, W) or (H, W, 1 | 3 | 4)"
        if "tensor" in name:
            wanted += ", or (1 | 3 | 4, H, W)"
        raise DisaError(f"{name}: shape {array.shape} is not that of an image; expected {wanted}")
    if array.size == 0:
        raise DisaError(f"{name}: has no pixels (shape {array.shape})")

    # Grey, (H, W) or (H, W, 1), gets three equal channels.
    pixels = _to_bytes(array, name)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] == 4:
        return _over_white(pixels)
    height, width, _ = pixels.shape
    return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))


def _to_bytes(array: NDArray[Any], name: str) -> Pixels:
    """Return an array of any plain type with the same values in 0..255. Raises `DisaError`."""
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    # 257 x 255 = 65535: both ranges end at white.
    if array.dtype == np.uint16:
        return (array / 257).round().astype(np.uint8)
    if kind not in "iuf":
        raise DisaError(
            f"{name}: dtype {array.dtype} is not that of an image; use uint8 or a float type"
        )
    if kind == "f" and not np.isfinite(array).all():
        raise DisaError(f"{name}: holds NaN or infinite values; replace them first")

    # Floats have two customs, told apart by the largest value; others end at 255.
    low = array.min()
    high = array.max()
    if low < 0 or high > 255:
        raise DisaError(
            f"{name}: values run from {low:g} to {high:g}; expected 0..1 or 0..255 "
            "(undo any normalisation)"
        )
    scale = 255 if kind == "f" and high <= 1 else 1
    return (array.astype(np.float64) * scale).round().astype(np.uint8)


def _over_white(rgba: Pixels) -> Pixels:
    """Lay a picture (H, W, 4) over white, (H, W, 3)."""
    # 16 bits hold the products; 127 rounds the division to the nearest grey level.
    colour = rgba[..., :3].astype(np.uint16)
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
