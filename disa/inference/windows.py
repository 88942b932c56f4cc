"""What the model is shown of a picture, and one map from its answers.

`pixels 3 y x -> views v 3 h w`, `logits v t h4 w4 -> probabilities t H W`

Windows wrap the model from outside; the model knows none. Which layout a protocol stands for is in protocol.py.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn.functional import interpolate


class Window(NamedTuple):
    """A part of the canvas, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Layout(NamedTuple):
    """How a picture is laid out: the canvas, and the windows of one size that cover it. Sizes are (H, W) in pixels."""

    canvas: tuple[int, int]  # that the picture is resized to
    windows: tuple[Window, ...]
    view: tuple[int, int]  # that the model sees of each window
    overview: bool = (
        False  # one more view, of the whole picture, that counts as much as all windows together
    )

    @property
    def views(self) -> int:
        """Number of inputs of the model."""
        return len(self.windows) + self.overview


def tile(canvas: tuple[int, int], side: int, stride: int) -> tuple[Window, ...]:
    """Return square windows, row by row; the last of a row or column is moved inwards to end at the border.

    A canvas shorter than `side` makes its windows as short.
    """
    height, width = (min(side, length) for length in canvas)
    return tuple(
        Window(top, left, height, width)
        for top in _starts(canvas[0], height, stride)
        for left in _starts(canvas[1], width, stride)
    )


def cut(
    layout: Layout, picture: Num[Tensor, "3 y x"], batch: int
) -> Iterator[Float[Tensor, "v 3 h w"]]:
    """Yield the views in batches, windows row by row, the overview last. Resizing is bilinear, not antialiased [B].

    Only the views of one batch are held at a time.
    """
    canvas = (
        picture
        if picture.shape[1:] == layout.canvas
        else _resized(picture[None].float(), layout.canvas)[0]
    )
    parts: list[tuple[Tensor, Window]] = [(canvas, window) for window in layout.windows]
    if layout.overview:
        _, _, height, width = layout.windows[0]
        parts.append(
            (_resized(picture[None].float(), (height, width))[0], Window(0, 0, height, width))
        )
    for start in range(0, len(parts), batch):
        views = [_part(pixels, window).float() for pixels, window in parts[start : start + batch]]
        yield _resized(torch.stack(views), layout.view)


def blend(layout: Layout, logits: Float[Tensor, "v t h4 w4"]) -> Float[Tensor, "t H W"]:
    """Return probabilities: each view's are averaged where windows overlap, then with the overview's. Quirk 22.

    They have the canvas's size. A single view is not blended: its map stays 4h x 4w, as in the baseline (quirk 23).
    """
    if layout.views == 1:
        return logits[0].sigmoid()
    total = logits.new_zeros(logits.shape[1], *layout.canvas)
    count = logits.new_zeros(layout.canvas)
    size = layout.windows[0].height, layout.windows[0].width
    for window, view in zip(layout.windows, logits, strict=False):  # the overview is left over
        _part(total, window).add_(_resized(view[None], size)[0].sigmoid())
        _part(count, window).add_(1)
    mean = total.div_(count)
    if not layout.overview:
        return mean
    return mean.add_(_resized(_resized(logits[-1:], size).sigmoid(), layout.canvas)[0]).div_(2)


def stitch(layout: Layout, maps: Float[Tensor, "v t h w"]) -> Float[Tensor, "t y x"]:
    """Return one map per category on the canvas's token grid: the overview's, or the windows' averaged."""
    if layout.overview or layout.views == 1:
        return maps[-1]
    token = layout.windows[0].height // maps.shape[2]  # pixels of the canvas
    total = maps.new_zeros(maps.shape[1], layout.canvas[0] // token, layout.canvas[1] // token)
    count = torch.zeros_like(total[0])
    for window, view in zip(layout.windows, maps, strict=True):
        place = Window(*(value // token for value in window))
        _part(total, place).add_(view)
        _part(count, place).add_(1)
    return total / count


def strongest(layout: Layout, matched: Float[Tensor, "v t"]) -> Float[Tensor, " t"]:
    """Return the matched logit of the picture: the overview's, or that of the window that shows the label best."""
    return matched[-1] if layout.overview else matched.amax(0)


def _starts(length: int, side: int, stride: int) -> list[int]:
    starts = list(range(0, length - side + 1, stride))
    return starts if starts[-1] + side == length else [*starts, length - side]


def _part(maps: Tensor, window: Window) -> Tensor:
    top, left, height, width = window
    return maps[..., top : top + height, left : left + width]


def _resized(maps: Float[Tensor, "m c h w"], size: Sequence[int]) -> Float[Tensor, "m c y x"]:
    """Resize, bilinear; a map of that size is returned as it is."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
