"""Numbers of any plain type become pixels: uint8 RGB (H, W, 3) (decision D114)."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disa.errors import DisaError, one_line

Pixels = NDArray[np.uint8]

STRIP = 2**22  # numbers that are converted at once: wider types take several times the memory
HALF_LEVEL = 0.5 / 255  # of 0..1: what rounding to grey levels hides anyway
STRETCH = "stretch its range (--stretch, in Python stretch=True)"
DARK = 2**14  # of 16 bits; cameras that use no more have 10, 12 or 14


def is_tensor(source: object) -> bool:
    """Recognise a tensor without importing torch: whoever passes one has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def from_tensor(tensor: Any, of_bands: bool = False) -> NDArray[Any]:
    """Return a tensor as an array (H, W) or (H, W, C); `of_bands`, C may be any number."""
    try:
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()  # numpy has no bfloat16
        array: NDArray[Any] = tensor.numpy()
    except (RuntimeError, TypeError) as error:
        # Sparse, quantised or without values.
        raise DisaError(f"the tensor is no plain one of numbers ({one_line(error)})") from None
    # Three axes are channels first where that is possible.
    first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
    if first or (of_bands and array.ndim == 3 and array.shape[0] < array.shape[2]):
        return np.moveaxis(array, 0, -1)
    return array


def choose_bands(array: NDArray[Any], bands: Sequence[int], name: str) -> NDArray[Any]:
    """Return these bands of an array (H, W) or (H, W, C), counted from 1.

    Raises `DisaError` for a band that is not there.
    """
    if array.ndim == 2:
        array = array[..., None]
    count = array.shape[-1]
    if max(bands) > count:
        raise DisaError(f"{name}: has {count} bands, there is no band {max(bands)}")
    return array[..., [band - 1 for band in bands]]


def from_array(array: NDArray[Any], name: str, notes: list[str], stretch: bool = False) -> Pixels:
    """Return an array (H, W) or (H, W, 1 | 3 | 4) as pixels; the fourth channel is transparency.

    `stretch` sends its smallest value to black and its largest to white. What a user should know is
    added to `notes`. Raises `DisaError` for what is no picture.
    """
    if array.ndim == 4:
        raise DisaError(f"{name}: shape {array.shape} is a stack of images; give list(images)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        wanted = "(H, W) or (H, W, 1 | 3 | 4)"
        if "tensor" in name:
            wanted += ", or (1 | 3 | 4, H, W)"
        if array.ndim == 3:
            wanted += "; of other bands choose some: bands=(3, 2, 1)"
        raise DisaError(f"{name}: shape {array.shape} is not that of an image; expected {wanted}")
    if array.size == 0:
        raise DisaError(f"{name}: has no pixels (shape {array.shape})")

    # Grey, (H, W) or (H, W, 1), gets three equal channels.
    pixels = _to_bytes(array, name, notes, stretch)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] == 4:
        return over_white(pixels, name, notes)
    height, width, _ = pixels.shape
    return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))


def over_white(rgba: Pixels, name: str, notes: list[str]) -> Pixels:
    """Lay a picture (H, W, 4) over white, (H, W, 3); one that is nowhere visible is shown whole."""
    if not rgba[..., 3].any():
        # Games and renderers leave the fourth channel empty.
        notes.append(f"{name}: is transparent everywhere; its transparency is ignored")
        return np.ascontiguousarray(rgba[..., :3])
    pixels = np.empty((*rgba.shape[:2], 3), np.uint8)
    for rows in strips(*rgba.shape[:2]):
        # 16 bits hold the products; 127 rounds the division to the nearest grey level.
        colour = rgba[rows, :, :3].astype(np.uint16)
        alpha = rgba[rows, :, 3:].astype(np.uint16)
        pixels[rows] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return pixels


def strips(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of a picture, so many at a time that each has about `STRIP` pixels."""
    step = max(1, STRIP // max(1, width))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def dark_note(name: str, largest: int) -> list[str]:
    """Return a note if 16 bits hold numbers of fewer bits, which are seen as black."""
    if not 0 < largest < DARK:
        return []
    return [
        f"{name}: holds no value over {largest} of 65535 (fewer bits in 16?), so it is seen almost "
        f"black; {STRETCH}"
    ]


def _to_bytes(array: NDArray[Any], name: str, notes: list[str], stretch: bool) -> Pixels:
    """Return an array of any plain type with the same values in 0..255. Raises `DisaError`."""
    # Files of other machines have their bytes in another order.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    kind = array.dtype.kind
    if kind not in "biuf":
        raise DisaError(
            f"{name}: dtype {array.dtype} is not that of an image; use uint8 or a float type"
        )
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind == "f" and not np.isfinite(array).all():
        raise DisaError(f"{name}: holds NaN or infinite values; replace them first")
    if stretch:
        return _stretched(array)
    if array.dtype == np.uint8:
        return array
    # 257 x 255 = 65535: both ranges end at white.
    if array.dtype == np.uint16:
        notes += dark_note(name, int(array.max()))
        scale: int | float = 1 / 257
    else:
        scale = _scale(array, name)
    levels = np.empty(array.shape, np.uint8)
    for rows in strips(*array.shape[:2]):
        levels[rows] = (array[rows].astype(np.float64) * scale).clip(0, 255).round()
    return levels


def _stretched(array: NDArray[Any]) -> Pixels:
    """Send the smallest value of the colours to 0 and the largest to 255; transparency stays."""
    colours = array[..., :3] if array.ndim == 3 else array
    low = float(colours.min())
    high = float(colours.max())
    span = (high - low) or 1.0
    levels = np.empty(colours.shape, np.uint8)
    for rows in strips(*colours.shape[:2]):
        levels[rows] = ((colours[rows].astype(np.float64) - low) * (255 / span)).round()
    if array.ndim < 3 or array.shape[-1] < 4:
        return levels
    largest = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1
    alpha = (array[..., 3:].clip(0, largest) * (255 / largest)).round().astype(np.uint8)
    return np.concatenate([levels, alpha], axis=-1)


def _scale(array: NDArray[Any], name: str) -> int:
    """Return what takes the values to 0..255: 255 for floats in 0..1, else 1.

    Both ends may be missed by half a grey level. Raises `DisaError` for any other range, and for
    floats of which hardly one exceeds 1: a few bright pixels shall not turn a picture black.
    """
    low = array.min()
    high = array.max()
    is_float = array.dtype.kind == "f"
    if is_float and low >= -HALF_LEVEL and high <= 1 + HALF_LEVEL:
        return 255
    slack = 0.5 if is_float else 0
    if low < -slack or high > 255 + slack:
        raise DisaError(
            f"{name}: values run from {low:g} to {high:g}; expected 0..1 or 0..255 "
            f"(undo any normalisation), or {STRETCH}"
        )
    whole = not is_float or bool((array == np.round(array)).all())
    if not whole and np.quantile(array, 0.99) <= 2:
        raise DisaError(
            f"{name}: values run from {low:g} to {high:g}, most of them in 0..1; cut off what is "
            "over 1 (array.clip(0, 1)), or give uint8"
        )
    return 1
