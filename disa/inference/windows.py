"""What the model is shown of a picture, and one map from its answers.

`pixels 3 y x -> views v 3 h w`, `logits v t h4 w4 -> probabilities t H W`

Windows wrap the model from outside; the model knows none. Which layout a protocol stands for is in
protocol.py.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Num
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from disa.data.images import Pixels
from disa.inference.protocol import Layout, Protocol, Window, shortest_edge


def views(
    protocol: Protocol, picture: Pixels, layout: Layout, batch: int
) -> Iterator[Float[Tensor, "v 3 h w"]]:
    """Yield the views of a picture in batches.

    Pillow resizes the picture first, which gives the same on every device.
    """
    size = layout.canvas
    method = Image.Resampling.BICUBIC
    if protocol.name == "cat-seg":
        size = shortest_edge(*picture.shape[:2])
        method = Image.Resampling.BILINEAR
    resized = np.array(Image.fromarray(picture).resize(size[::-1], method))
    yield from cut(layout, rearrange(torch.from_numpy(resized), "y x rgb -> rgb y x"), batch)


def cut(
    layout: Layout, picture: Num[Tensor, "3 y x"], batch: int
) -> Iterator[Float[Tensor, "v 3 h w"]]:
    """Yield the views in batches, windows row by row, the overview last.

    Resizing is bilinear, not antialiased [B].

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
    """Return probabilities, averaged where windows overlap, then with the overview (quirk 22).

    They have the canvas's size. A single view is not blended: its map stays 4h x 4w, as in the
    baseline (quirk 23).
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
    """Return a map per label on the canvas's token grid: the overview's, or the windows' mean."""
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
    """Return the picture's matched logit: the overview's, or the best window's."""
    return matched[-1] if layout.overview else matched.amax(0)


def _part(maps: Tensor, window: Window) -> Tensor:
    top, left, height, width = window
    return maps[..., top : top + height, left : left + width]


def _resized(maps: Float[Tensor, "m c h w"], size: Sequence[int]) -> Float[Tensor, "m c y x"]:
    """Resize, bilinear; a map of that size is returned as it is."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
