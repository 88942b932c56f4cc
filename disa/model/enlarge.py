"""From logits on a coarse grid to the pixels, along the edges of the picture (decision D104)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig

RADIUS = 2  # a pixel looks at the 5 x 5 cells around its own
WIDTH = 16  # channels of queries and keys
HIDDEN = 32  # channels between the details and the queries


class Enlarge(nn.Module):
    """Every pixel is a weighted mean of the 5 x 5 cells around it.

    Near cells and those that look like the pixel count most. The weights are the picture's, the
    same for all labels, and so is nearly all of the work.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        details = config.decode_detail_channels
        self.query = nn.Sequential(
            nn.Conv2d(details, HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(HIDDEN, WIDTH, 1)
        )
        self.log_sharpness = nn.Parameter(torch.tensor(0.7))  # of the distance, in cells

    def forward(
        self, maps: Float[Tensor, "b t h4 w4"], weights: Float[Tensor, "b h4 w4 i j n"]
    ) -> Float[Tensor, "b t H W"]:
        """Return maps of any meaning for every pixel; `weights` are the picture's."""
        pixels = weights.flatten(3, 4) @ _neighbours(maps)
        scale = weights.shape[3]
        return rearrange(pixels, "b h w (i j) t -> b t (h i) (w j)", i=scale, j=scale)

    def weights(
        self, detail: Float[Tensor, "b e H W"], scale: int
    ) -> Float[Tensor, "b h4 w4 i j n"]:
        """Return the weight of each of a cell's n neighbours for each of its pixels.

        `scale` is the number of pixels per side of a cell, and divides H and W.
        """
        query = self.query(detail)
        key = _neighbours(F.avg_pool2d(query, scale))  # b h w n WIDTH
        likeness = _cells(query, scale) @ key.transpose(-1, -2)  # b h w p n

        # Distances of the pixels' centres from the neighbours' centres, in cells.
        inside = (torch.arange(scale, device=detail.device) + 0.5) / scale - 0.5
        steps = torch.arange(-RADIUS, RADIUS + 1, device=detail.device)
        along = (inside[:, None] - steps[None]).square()
        distance = along[:, None, :, None] + along[None, :, None, :]
        distance = rearrange(distance, "i j y x -> (i j) (y x)").to(likeness.dtype)
        weights = (likeness - self.log_sharpness.exp() * distance).softmax(-1)
        return weights.unflatten(3, (scale, scale))


def _cells(pixels: Float[Tensor, "b c H W"], scale: int) -> Float[Tensor, "b h w p c"]:
    """Return the pixels of each cell of `scale` x `scale`."""
    return rearrange(pixels, "b c (h i) (w j) -> b h w (i j) c", i=scale, j=scale)


def _neighbours(grid: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w n c"]:
    """Return the values of the 5 x 5 cells around each cell; the border repeats itself."""
    side = 2 * RADIUS + 1
    padded = F.pad(grid, (RADIUS,) * 4, mode="replicate")
    # Channels last: a cell's neighbours are then copied in rows, which takes half the time.
    padded = rearrange(padded, "b c h w -> b h w c").contiguous()
    windows = padded.unfold(1, side, 1).unfold(2, side, 1)
    return rearrange(windows, "b h w c y x -> b h w (y x) c")
