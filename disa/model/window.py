"""Swin attention on any grid, with guidance in queries and keys. `b t h w c -> b t h w c`

Windows wider than the grid shrink to it; other grids are padded to whole windows and the padding is masked.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from disa.model.attention import attend


class Tiling(NamedTuple):
    """How a grid is cut into windows; every pair is (rows, columns)."""

    grid: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def of(cls, grid: tuple[int, int], window: int, shifted: bool) -> "Tiling":
        """Return the tiling of a grid; a side no longer than the window is one window and is not shifted."""

        def axis(side: int) -> tuple[int, int, int]:
            size = min(window, side)
            return size, window // 2 if shifted and side > window else 0, -(-side // size) * size

        rows, columns = axis(grid[0]), axis(grid[1])
        return cls(grid, (rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2]))

    def cut(self, x: Float[Tensor, "m h w c"]) -> Float[Tensor, "m windows tokens c"]:
        """Return the tokens of each window, row-major, after the cyclic shift."""
        if self.padded != self.grid:
            x = F.pad(x, (0, 0, 0, self.padded[1] - self.grid[1], 0, self.padded[0] - self.grid[0]))
        if any(self.shift):
            x = x.roll((-self.shift[0], -self.shift[1]), (1, 2))
        height, width = self.window
        return rearrange(x, "m (y h) (x w) c -> m (y x) (h w) c", h=height, w=width)

    def join(self, windows: Float[Tensor, "m windows tokens c"]) -> Float[Tensor, "m h w c"]:
        """Undo `cut`."""
        (height, width), rows = self.window, self.padded[0] // self.window[0]
        x = rearrange(windows, "m (y x) (h w) c -> m (y h) (x w) c", y=rows, h=height, w=width)
        if any(self.shift):
            x = x.roll(self.shift, (1, 2))
        return x[:, : self.grid[0], : self.grid[1]]

    def mask(self, device: torch.device) -> Bool[Tensor, "windows tokens tokens"] | None:
        """Return who may look at whom: tokens that are neighbours in the image, and never padding. None: everyone."""
        if self.padded == self.grid and not any(self.shift):
            return None
        rows, columns = (self._regions(axis, device) for axis in (0, 1))
        # padding is -1 on either axis; it looks at itself only, so that no row of the softmax is empty
        regions = torch.where((rows[:, None] < 0) | (columns < 0), -1, rows[:, None] * 3 + columns)
        (height, width) = self.window
        regions = rearrange(regions, "(y h) (x w) -> (y x) (h w)", h=height, w=width)
        return regions[:, :, None] == regions[:, None, :]

    def _regions(self, axis: int, device: torch.device) -> Tensor:
        """Return for each shifted row or column the region it may attend within, -1 for padding."""
        length, window, shift = self.padded[axis], self.window[axis], self.shift[axis]
        position = torch.arange(length, device=device)
        region = (
            (position >= length - window).long() + (position >= length - shift)
            if shift
            else position * 0
        )
        return torch.where((position + shift) % length < self.grid[axis], region, -1)


class WindowBlock(nn.Module):
    """A Swin block whose queries and keys also see guidance; no position bias. Baseline quirk 17."""

    def __init__(
        self, channels: int, guidance: int, heads: int, window: int, shifted: bool
    ) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.norm1 = nn.LayerNorm(channels)
        self.query = nn.Linear(channels + guidance, channels)
        self.key = nn.Linear(channels + guidance, channels)
        self.value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(
        self, x: Float[Tensor, "b t h w c"], guidance: Float[Tensor, "b h w g"]
    ) -> Float[Tensor, "b t h w c"]:
        """Return the refined maps; each category is treated alone."""
        tiling = Tiling.of((x.shape[2], x.shape[3]), self.window, self.shifted)
        windows = rearrange(
            tiling.cut(rearrange(x, "b t h w c -> (b t) h w c")),
            "(b t) y n c -> b t y n c",
            b=len(x),
        )
        windows = windows + self._attend(
            self.norm1(windows), tiling.cut(guidance), tiling.mask(x.device)
        )
        windows = windows + self.mlp(self.norm2(windows))
        joined = tiling.join(rearrange(windows, "b t y n c -> (b t) y n c"))
        return rearrange(joined, "(b t) h w c -> b t h w c", b=len(x))

    def _attend(
        self,
        x: Float[Tensor, "b t y n c"],
        guidance: Float[Tensor, "b y n g"],
        mask: Bool[Tensor, "y n n"] | None,
    ) -> Float[Tensor, "b t y n c"]:
        qkv = torch.cat(self._project(x, guidance), -1)
        query, key, value = rearrange(qkv, "b t y n (s a e) -> s (b t y) a n e", s=3, a=self.heads)
        bias = None
        if mask is not None:
            hidden = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
            bias = repeat(hidden, "y n m -> (bt y) 1 n m", bt=x.shape[0] * x.shape[1])
        mixed = attend(query, key, value, bias)
        return self.project(
            rearrange(mixed, "(b t y) a n e -> b t y n (a e)", b=x.shape[0], t=x.shape[1])
        )

    def _project(
        self, x: Float[Tensor, "b t y n c"], guidance: Float[Tensor, "b y n g"]
    ) -> tuple[Tensor, ...]:
        """Return query, key and value. The guidance's share is the same for all categories: computed once."""
        c = x.shape[-1]
        weight = torch.cat([self.query.weight[:, :c], self.key.weight[:, :c], self.value.weight])
        query, key, value = F.linear(x, weight).chunk(3, -1)
        shared = [
            F.linear(guidance, layer.weight[:, c:], layer.bias)[:, None]
            for layer in (self.query, self.key)
        ]
        return query + shared[0], key + shared[1], value + self.value.bias
