"""Masks as integers: a file becomes values (H, W), and values become labels.

One rule covers every data set: the label of a value is the place of the category that has it as
its `source_id`; every other value is ignored (decision D62).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disa.data.images import converted, opened
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError

Values = NDArray[Any]  # (H, W) of any integer type, none negative
Labels = NDArray[Any]  # (H, W), uint8 or uint16
# Ignored in masks of indices, unless a category has that index or a file says otherwise.
VOID = (255, 65535)


def read_indices(path: Path) -> Values:
    """Read a mask that holds one index per pixel: grey with 1 to 32 bits, or a palette's indices.

    Raises `DisaError` for one with colours, a damaged one and one that is no image.
    """
    with opened(path) as image:
        if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
            raise DisaError(
                f"{path}: has {len(image.getbands())} channels ({image.mode}) where a mask of "
                "indices is expected; save it as a grey or palette PNG, or list the categories' "
                "colours in classes.json"
            )
        values = np.array(image)
    # Pillow gives one bit as bool, and 32 bits with a sign.
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype.kind == "i" and values.min() < 0:
        raise DisaError(
            f"{path}: holds the negative value {values.min()}; a mask has indices from 0"
        )
    return values


def read_rgb(path: Path, modes: Sequence[str] = ("RGB", "P")) -> NDArray[np.uint8]:
    """Read a mask of colours, RGB or with a palette, as uint8 (H, W, 3). Raises `DisaError`."""
    with opened(path) as image:
        if image.mode not in modes:
            raise DisaError(
                f"{path}: mode {image.mode} where a mask of colours is expected; save it as RGB PNG"
            )
        return converted(image, "RGB")


def read_colours(path: Path) -> Values:
    """Read a mask of colours as the numbers of `vocabulary.packed`. Raises `DisaError`."""
    # A mask whose colours are all grey may be saved as such.
    return packed_values(read_rgb(path, ("RGB", "P", "L")))


def packed_values(colours: NDArray[np.uint8]) -> Values:
    """Return colours (H, W, 3) as the numbers (H, W) of `vocabulary.packed`."""
    # In place: every copy of a large mask would have four bytes a pixel.
    values = colours[..., 0].astype(np.uint32)
    for channel in (1, 2):
        values <<= 8
        values |= colours[..., channel]
    return values


def ignored_value(categories: int) -> int:
    """Return the value of ignored pixels beside so many categories: 255 while that is free."""
    return 255 if categories <= 255 else 65535


def label_type(ignored: int) -> type[np.integer[Any]]:
    """Return the type of label maps with this value of ignored pixels."""
    return np.uint8 if ignored < 256 else np.uint16


def label_table(vocabulary: Vocabulary, ignored: int) -> Labels:
    """Return the label of every value a mask may hold; the last entry stands for all beyond it."""
    # A category without masks has no value to look up.
    known = {source: label for label, source in enumerate(vocabulary.source_ids) if source >= 0}
    table = np.full(max(known) + 2, ignored, label_type(ignored))
    table[list(known)] = list(known.values())
    return table


def to_labels(values: Values, table: Labels) -> Labels:
    """Look every value up in a `label_table`."""
    # `clip` sends values beyond the table to its last entry.
    return table.take(values, mode="clip")
