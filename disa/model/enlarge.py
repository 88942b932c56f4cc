"""From logits on a coarse grid to the pixels, along the edges of the picture (decision D104)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig

RADIUS = 2  # a pixel looks at the 5 x 5 cells around its own
WIDTH = 16  # channels of queries and keys
HIDDEN = 32  # channels between the details and a pixel's vectors


class Enlarge(nn.Module):
    """Two ways for a pixel to differ from the cell that holds it.

    A mix: the pixel's logit is a weighted mean of the 5 x 5 cells around it, near ones and those
    that look like it first. The weights are the picture's, the same for all labels.

    A kernel: the pixel's own vector, times the vector of its cell and label. It adds what the mean
    of neighbours cannot hold, such as a line that is thinner than a cell.

    Both cost a matrix product per picture, nearly the same for one label and for hundreds.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        details = config.decode_detail_channels
        features = config.decode_channels[1]
        self.query = _pixel_vectors(details, WIDTH)
        self.log_sharpness = nn.Parameter(torch.tensor(0.7))  # of the distance, in cells
        self.kernel = _pixel_vectors(details, features)

    def forward(
        self,
        logits: Float[Tensor, "b t h4 w4"],
        features: Float[Tensor, "b t o h4 w4"],
        detail: Float[Tensor, "b e H W"],
    ) -> Float[Tensor, "b t H W"]:
        """Return logits for every pixel. H and W are multiples of the grid's sides."""
        scale = detail.shape[-1] // logits.shape[-1]
        kernel = _cells(self.kernel(detail), scale)  # b h4 w4 p o, for the p pixels of a cell
        thin = kernel @ rearrange(features, "b t o h w -> b h w o t")  # b h4 w4 p t
        return self.mix(logits, detail) + _pixels(thin, scale)

    def mix(
        self, maps: Float[Tensor, "b t h4 w4"], detail: Float[Tensor, "b e H W"]
    ) -> Float[Tensor, "b t H W"]:
        """Return the first of the two ways alone, for maps of any meaning."""
        scale = detail.shape[-1] // maps.shape[-1]
        weights = self._weights(detail, scale)  # b h4 w4 p 25
        return _pixels(weights @ _neighbours(maps), scale)

    def _weights(self, detail: Float[Tensor, "b e H W"], scale: int) -> Float[Tensor, "b h w p n"]:
        """Return the weight of each of a cell's n neighbours for each of its p pixels."""
        query = self.query(detail)
        key = _neighbours(F.avg_pool2d(query, scale))  # b h w n WIDTH
        likeness = _cells(query, scale) @ key.transpose(-1, -2)  # b h w p n

        # Distances of the pixels' centres from the neighbours' centres, in cells.
        inside = (torch.arange(scale, device=detail.device) + 0.5) / scale - 0.5
        steps = torch.arange(-RADIUS, RADIUS + 1, device=detail.device)
        along = (inside[:, None] - steps[None]).square()
        distance = along[:, None, :, None] + along[None, :, None, :]
        distance = rearrange(distance, "i j y x -> (i j) (y x)")
        return (likeness - self.log_sharpness.exp() * distance).softmax(-1)


def _pixel_vectors(details: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(details, HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(HIDDEN, channels, 1)
    )


def _cells(pixels: Float[Tensor, "b c H W"], scale: int) -> Float[Tensor, "b h w p c"]:
    """Return the pixels of each cell of `scale` x `scale`."""
    return rearrange(pixels, "b c (h i) (w j) -> b h w (i j) c", i=scale, j=scale)


def _pixels(cells: Float[Tensor, "b h w p c"], scale: int) -> Float[Tensor, "b c H W"]:
    """Return the pixels of all cells as maps."""
    return rearrange(cells, "b h w (i j) c -> b c (h i) (w j)", i=scale, j=scale)


def _neighbours(grid: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w n c"]:
    """Return the values of the 5 x 5 cells around each cell; the border repeats itself."""
    side = 2 * RADIUS + 1
    padded = F.pad(grid, (RADIUS,) * 4, mode="replicate")
    unfolded = F.unfold(padded, side)
    return rearrange(unfolded, "b (c n) (h w) -> b h w n c", n=side * side, h=grid.shape[-2])
