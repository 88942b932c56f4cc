"""How a picture is shown to a model: a protocol, and the views that it makes of a picture's size.

Nothing here computes with pixels; `windows.py` cuts the views and blends their answers.
"""

from dataclasses import dataclass
from typing import NamedTuple

from disa.errors import DisaError

NAMES = ("whole", "windows", "cat-seg")
# Long side over short side of one view: a longer picture is squeezed, or it would fill the memory.
MAX_ASPECT = 8
MOST_TOKENS = 2**16  # of one view: attention between tokens grows with their square
MOST_CANVAS = 100_000_000  # pixels that windows slide over

# The published protocol, in pixels [B]: pictures are resized to these sides first ...
CATSEG_SHORT_SIDE = 640
CATSEG_LONGEST_SIDE = 2560
# ... then to a square canvas, over which windows slide.
CATSEG_CANVAS = 640
CATSEG_WINDOW = 384
CATSEG_STRIDE = 256


class Window(NamedTuple):
    """A part of the canvas, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Layout(NamedTuple):
    """A canvas and the windows of one size that cover it. Sizes are (H, W) in pixels."""

    canvas: tuple[int, int]  # The picture is resized to this.
    windows: tuple[Window, ...]
    view: tuple[int, int]  # Each window is resized to this for the model.
    # One more view, of the whole picture, counts as much as all windows together.
    overview: bool = False

    @property
    def views(self) -> int:
        """Number of inputs of the model."""
        return len(self.windows) + self.overview


def tile(canvas: tuple[int, int], side: int, stride: int) -> tuple[Window, ...]:
    """Return square windows, row by row.

    The last window of a row or column moves inwards, to end at the border. A canvas shorter than
    `side` makes its windows as short.
    """
    height, width = (min(side, length) for length in canvas)
    return tuple(
        Window(top, left, height, width)
        for top in _starts(canvas[0], height, stride)
        for left in _starts(canvas[1], width, stride)
    )


@dataclass(frozen=True)
class Protocol:
    """One way of showing pictures. Raises `DisaError` for values that make no sense together.

    `whole`: the picture in one view; `size` is its short side (default: the model's own).
    `windows`: sliding windows of the model's own size over the picture, for large pictures. `size`
    is the short side that the picture is resized to first (default: not at all), `overlap` the
    share of a window that the next one shows.
    `cat-seg`: the published protocol, four windows of 384 on 640 x 640 and an overview [B].
    """

    name: str = "whole"
    size: int | None = None  # pixels
    overlap: int | float = 1 / 3  # 0..1, without 1

    def __post_init__(self) -> None:
        """Refuse what no picture could be shown by."""
        if self.name not in NAMES:
            raise DisaError(f'unknown protocol "{self.name}"; use {", ".join(NAMES)}')
        if not 0 <= self.overlap < 1:
            raise DisaError(
                f"overlap {self.overlap:g}: must be at least 0 and below 1, such as 0.333"
            )
        if self.name == "cat-seg" and self.size is not None:
            raise DisaError(
                f'size {self.size}: the protocol "cat-seg" has a size of its own; leave it out'
            )

    def layout(self, height: int, width: int, side: int, patch: int) -> Layout:
        """Return the layout of a picture for a model of `side` and `patch` pixels."""
        if self.name == "cat-seg":
            windows = tile((CATSEG_CANVAS, CATSEG_CANVAS), CATSEG_WINDOW, CATSEG_STRIDE)
            return Layout((CATSEG_CANVAS, CATSEG_CANVAS), windows, (side, side), overview=True)
        if self.name == "whole":
            size = self.whole_size(height, width, side, patch)
            return Layout(size, (Window(0, 0, *size),), size)
        canvas = self._canvas(height, width, side, patch)
        stride = max(1, round(side * (1 - self.overlap) / patch)) * patch
        return Layout(canvas, tile(canvas, side, stride), (side, side))

    def whole_size(self, height: int, width: int, side: int, patch: int) -> tuple[int, int]:
        """Return (H, W) of a single view: the aspect kept, sides multiples of the patch."""
        short = side if self.size is None else self.size
        if short < patch:
            raise DisaError(
                f"size {short} is smaller than one patch of the model; use at least {patch} pixels"
            )
        # Both sides become a whole number of patches.
        scale = short / min(height, width)
        longest = short * MAX_ASPECT
        high = max(1, round(min(height * scale, longest) / patch)) * patch
        wide = max(1, round(min(width * scale, longest) / patch)) * patch
        if (high // patch) * (wide // patch) > MOST_TOKENS:
            raise DisaError(
                f"one view of {wide} x {high} pixels would take hours; choose a smaller size, or "
                "the protocol windows"
            )
        return high, wide

    def _canvas(self, height: int, width: int, side: int, patch: int) -> tuple[int, int]:
        """Return the (H, W) that windows slide over, at least a window, multiples of the patch."""
        if self.size is not None and self.size < side:
            raise DisaError(
                f"size {self.size} is smaller than a window of the model, {side}; use the protocol "
                '"whole"'
            )
        # Without a size, only a picture smaller than a window is enlarged.
        scale = 1.0
        if self.size is not None or min(height, width) < side:
            scale = max(self.size or 0, side) / min(height, width)
        high = max(side, round(height * scale / patch) * patch)
        wide = max(side, round(width * scale / patch) * patch)
        if high * wide > MOST_CANVAS:
            raise DisaError(
                f"windows over {wide} x {high} pixels are more than {MOST_CANVAS:,}; choose a "
                "smaller size"
            )
        return high, wide


def shortest_edge(height: int, width: int) -> tuple[int, int]:
    """Return (H, W) with a short side of 640, unless the long one would exceed 2,560.

    Baseline quirk 2.
    """
    scale = min(CATSEG_SHORT_SIDE / min(height, width), CATSEG_LONGEST_SIDE / max(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def _starts(length: int, side: int, stride: int) -> list[int]:
    starts = list(range(0, length - side + 1, stride))
    return starts if starts[-1] + side == length else [*starts, length - side]
