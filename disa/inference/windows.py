"""What the model is shown of a picture, and one map from its answers.

    picture 3 y x -> views v 3 h w;  logits v t h4 w4 -> probabilities t H W

The model knows no windows. Which layout a protocol stands for is in protocol.py.
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
    """Yield the views of a picture, `batch` at a time."""
    size = layout.canvas
    method = Image.Resampling.BICUBIC
    if protocol.name == "cat-seg":
        # The baseline resizes twice: by its data loader, then to the canvas (`cut`).
        size = shortest_edge(*picture.shape[:2])
        method = Image.Resampling.BILINEAR
    # Pillow gives the same on every device.
    resized = np.array(Image.fromarray(picture).resize(size[::-1], method))
    yield from cut(layout, rearrange(torch.from_numpy(resized), "y x rgb -> rgb y x"), batch)


def cut(
    layout: Layout, picture: Num[Tensor, "3 y x"], batch: int
) -> Iterator[Float[Tensor, "v 3 h w"]]:
    """Yield the views, `batch` at a time: the windows row by row, the overview last.

    Resizing is bilinear, without antialiasing [B]. Only the views of one batch are held.
    """
    canvas = _resized(picture[None], layout.canvas)[0]
    parts = [(canvas, window) for window in layout.windows]
    if layout.overview:
        size = (layout.windows[0].height, layout.windows[0].width)
        parts.append((_resized(picture[None], size)[0], Window(0, 0, *size)))

    for start in range(0, len(parts), batch):
        some = [_part(pixels, window).float() for pixels, window in parts[start : start + batch]]
        yield _resized(torch.stack(some), layout.view)


def blend(layout: Layout, logits: Float[Tensor, "v t h4 w4"]) -> Float[Tensor, "t H W"]:
    """Return probabilities at the canvas's size: the mean of windows, then with the overview.

    This is the baseline's order (quirk 22). A single view is not blended, and its map keeps its
    size, as in the baseline (quirk 23).
    """
    if layout.views == 1:
        return logits[0].sigmoid()

    # Sum and number of windows at each pixel; the overview, the last of `logits`, is left over.
    size = (layout.windows[0].height, layout.windows[0].width)
    total = logits.new_zeros(logits.shape[1], *layout.canvas)
    count = logits.new_zeros(layout.canvas)
    for window, view in zip(layout.windows, logits, strict=False):
        _part(total, window).add_(_resized(view[None], size)[0].sigmoid())
        _part(count, window).add_(1)
    mean = total.div_(count)
    if not layout.overview:
        return mean

    # The overview's logits are enlarged as a window's are, its probabilities to the canvas.
    overview = _resized(logits[-1:], size).sigmoid()
    return mean.add_(_resized(overview, layout.canvas)[0]).div_(2)


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


def _resized(maps: Num[Tensor, "m c h w"], size: Sequence[int]) -> Num[Tensor, "m c y x"]:
    """Resize, bilinear; a map of that size is returned as it is."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return interpolate(maps.float(), tuple(size), mode="bilinear", align_corners=False)
