"""Swin attention on a grid of any size, guided by CLIP.

A window larger than the grid shrinks to it. Other grids are padded to whole windows, and only
padding looks at padding (decision D23).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from disa.model.attention import Guided, GuidedProjection, attend

PADDED = -1  # region of rows, columns and tokens that are padding


class Tiling(NamedTuple):
    """How a grid is cut into windows. Every pair is (rows, columns), in tokens."""

    grid: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def of(cls, grid: tuple[int, int], window: int, shifted: bool) -> "Tiling":
        """Return the tiling of a grid.

        A side no longer than the window is one window and is not shifted.
        """
        if torch.compiler.is_exporting():
            # The grid stays free: a smaller one is padded to a window, with the same result.
            windows = (window, window)
            shifts = (window // 2, window // 2) if shifted else (0, 0)
        else:
            windows = (min(window, grid[0]), min(window, grid[1]))
            shifts = (_shift(grid[0], window, shifted), _shift(grid[1], window, shifted))
        padded = (_rounded_up(grid[0], windows[0]), _rounded_up(grid[1], windows[1]))
        return cls(grid, windows, shifts, padded)

    def cut(self, x: Float[Tensor, "m h w c"]) -> Float[Tensor, "m windows tokens c"]:
        """Return the tokens of each window, row by row, after the cyclic shift."""
        # Pad below and to the right, up to whole windows.
        if torch.compiler.is_exporting() or self.padded != self.grid:
            below = self.padded[0] - self.grid[0]
            right = self.padded[1] - self.grid[1]
            x = F.pad(x, (0, 0, 0, right, 0, below))

        # The shift moves up and left; what leaves the image there comes back below and right.
        if any(self.shift):
            x = x.roll((-self.shift[0], -self.shift[1]), (1, 2))
        height, width = self.window
        return rearrange(x, "m (y h) (x w) c -> m (y x) (h w) c", h=height, w=width)

    def join(self, windows: Float[Tensor, "m windows tokens c"]) -> Float[Tensor, "m h w c"]:
        """Undo `cut`: each of its steps backwards."""
        height, width = self.window
        rows = self.padded[0] // height
        x = rearrange(windows, "m (y x) (h w) c -> m (y h) (x w) c", y=rows, h=height, w=width)
        if any(self.shift):
            x = x.roll(self.shift, (1, 2))
        return x[:, : self.grid[0], : self.grid[1]]

    def mask(self, device: torch.device) -> Bool[Tensor, "windows tokens tokens"] | None:
        """Return who may look at whom; None: everyone at everyone.

        After the cyclic shift a window can hold tokens from opposite borders of the image. Only
        tokens of the same region may look at each other. Padding is a region of its own that looks
        at itself, so that no row of the softmax is empty.
        """
        is_free = torch.compiler.is_exporting()
        if not is_free and self.padded == self.grid and not any(self.shift):
            return None

        rows = self._regions(0, device)[:, None]
        columns = self._regions(1, device)
        # An axis has at most three regions, numbered 0 to 2: the pair is unique as 3 r + c.
        is_padding = (rows == PADDED) | (columns == PADDED)
        regions = torch.where(is_padding, PADDED, 3 * rows + columns)

        height, width = self.window
        regions = rearrange(regions, "(y h) (x w) -> (y x) (h w)", h=height, w=width)
        return regions[:, :, None] == regions[:, None, :]

    def _regions(self, axis: int, device: torch.device) -> Int[Tensor, " side"]:
        """Return the region of each shifted row or column.

        The last window holds two regions when shifted: rows that were last before the shift, and
        rows that the shift brought there from the first.
        """
        length = self.padded[axis]
        window = self.window[axis]
        shift = self.shift[axis]
        position = torch.arange(length, device=device)

        # 0 up to the last window, 1 in its first part, 2 where the shift brought the first rows.
        region = torch.zeros_like(position)
        if shift:
            in_last_window = position >= length - window
            # In a single window, which only an export shifts, all tokens stay neighbours.
            came_around = (position >= length - shift) & (position[-1] >= window)
            region = region + in_last_window + came_around

        # Padding lay behind the grid before the shift.
        origin = position + shift
        origin = torch.where(origin < length, origin, origin - length)
        return torch.where(origin < self.grid[axis], region, PADDED)


def _shift(side: int, window: int, shifted: bool) -> int:
    return window // 2 if shifted and side > window else 0


def _rounded_up(side: int, window: int) -> int:
    return (side + window - 1) // window * window


class WindowGuide(NamedTuple):
    """What a window block needs besides `x`, the same for all labels."""

    tiling: Tiling
    guided: Guided  # in windows: b 1 y n c3
    bias: Float[Tensor, "y n n"] | None  # minus infinity for tokens that are hidden


class WindowBlock(GuidedProjection):
    """A Swin block whose queries and keys also see guidance.

    `y = x + project(attention(x))` within each window, then `y + MLP(norm(y))`. It has no position
    bias (baseline quirk 17).
    """

    def __init__(
        self, channels: int, guidance: int, heads: int, window: int, shifted: bool
    ) -> None:
        super().__init__(channels, guidance)
        self.heads = heads
        self.window = window
        self.shifted = shifted
        self.project = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def guide(self, guidance: Float[Tensor, "b h w g"]) -> WindowGuide:
        """Return what the guidance tells all labels, axis 1 of `x`."""
        tiling = Tiling.of((guidance.shape[1], guidance.shape[2]), self.window, self.shifted)
        guided = self.share(tiling.cut(guidance)[:, None])
        mask = tiling.mask(guidance.device)
        bias = None
        if mask is not None:
            bias = torch.zeros_like(mask, dtype=guided.added.dtype).masked_fill(~mask, -torch.inf)
        return WindowGuide(tiling, guided, bias)

    def forward(
        self, x: Float[Tensor, "b t h w c"], guide: WindowGuide
    ) -> Float[Tensor, "b t h w c"]:
        """Return the refined maps; each label is treated alone."""
        images = x.shape[0]
        tiling = guide.tiling

        # y windows of n tokens each; labels join the batch while the grid is cut.
        windows = tiling.cut(rearrange(x, "b t h w c -> (b t) h w c"))
        windows = rearrange(windows, "(b t) y n c -> b t y n c", b=images)

        windows = windows + self._attend(windows, guide)
        windows = windows + self.mlp(self.norm2(windows))

        joined = tiling.join(rearrange(windows, "b t y n c -> (b t) y n c"))
        return rearrange(joined, "(b t) h w c -> b t h w c", b=images)

    def _attend(
        self, x: Float[Tensor, "b t y n c"], guide: WindowGuide
    ) -> Float[Tensor, "b t y n c"]:
        images, labels = x.shape[:2]

        # Windows join the batch.
        joined = self.queries_keys_values(x, guide.guided)
        query, key, value = rearrange(
            joined, "b t y n (s a e) -> s (b t y) a n e", s=3, a=self.heads
        )

        # Tokens are hidden in every image and label, for all heads.
        bias = guide.bias
        if bias is not None:
            bias = repeat(bias, "y n m -> (bt y) 1 n m", bt=images * labels)

        mixed = attend(query, key, value, bias)
        return self.project(rearrange(mixed, "(b t y) a n e -> b t y n (a e)", b=images, t=labels))
