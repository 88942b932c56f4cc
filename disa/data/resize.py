"""The two resizings of the published preparation of ADE20K, as OpenCV does them (decision D64).

Pillow's rules differ: its nearest neighbour changes 11 to 14 % of the pixels of a label map, its
bilinear filter blurs first.
"""

import numpy as np
from numpy.typing import NDArray

from disa.data.images import Pixels
from disa.data.masks import Labels


def nearest(labels: Labels, size: tuple[int, int]) -> Labels:
    """Return labels (H, W) at another size: the source at floor(position x scale).

    This is OpenCV's INTER_NEAREST.
    """
    height, width = size
    rows = _floors(labels.shape[0], height)
    columns = _floors(labels.shape[1], width)
    return labels[rows[:, None], columns]


def bilinear(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Return a picture (H, W, 3) at another size, mixed from four pixels each without blurring.

    This is OpenCV's INTER_LINEAR, to one grey level.
    """
    if picture.shape[:2] == size:
        return picture
    height, width = size
    top, bottom, down = _neighbours(picture.shape[0], height)
    left, right, across = _neighbours(picture.shape[1], width)
    down = down[:, None, None]
    across = across[None, :, None]

    # first the rows, (H', W, 3), then the columns, (H', W', 3)
    upper = picture[top].astype(np.float32)
    lower = picture[bottom].astype(np.float32)
    mixed = upper + (lower - upper) * down
    mixed = mixed[:, left] * (1 - across) + mixed[:, right] * across
    return np.rint(mixed).astype(np.uint8)


def _floors(old: int, new: int) -> NDArray[np.intp]:
    """Return the source index of each of `new` positions."""
    # Written as OpenCV writes it: another order of divisions rounds some positions differently.
    scale = 1 / (new / old)
    return np.minimum(np.floor(np.arange(new) * scale).astype(np.intp), old - 1)


def _neighbours(
    old: int, new: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the source indices before and after each centre, and the share of the later one."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    before = np.floor(centre).astype(np.intp)
    after = np.minimum(before + 1, old - 1)
    return before, after, (centre - before).astype(np.float32)
