"""Hierarchical refinement (HRM): pixel-wise, category-wise, semantic-wise, level by level. `b t c h w -> b t c h w`

With `refine_category_reweight` and `refine_semantic` off this is the baseline's aggregator.
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.model.attention import CategoryAttention
from disa.model.recompute import recomputed
from disa.model.starts import Starts
from disa.model.window import WindowBlock


class Refine(nn.Module):
    """All levels, and the guidance that they share (paper, HRM)."""

    def __init__(self, config: ModelConfig, d: int) -> None:
        super().__init__()
        guidance, start = config.refine_guidance_channels, Starts()
        self.visual = (
            start("visual", lambda: nn.Conv2d(d, guidance, 3, padding=1))
            if config.refine_pixel
            else None
        )
        self.text = (
            start("text", lambda: nn.Linear(d, guidance)) if config.refine_category else None
        )
        self.levels = nn.ModuleList(Level(config) for _ in range(config.refine_levels))

    def forward(
        self,
        cost: Float[Tensor, "b t c h w"],
        tokens: Float[Tensor, "b d h w"],
        text: Float[Tensor, "#b t d"],
        recompute: bool = False,
    ) -> Float[Tensor, "b t c h w"]:
        """Return the refined cost. `text` is L2-normalised, one embedding per category, for each image or for all."""
        visual = (
            None
            if self.visual is None
            else rearrange(F.relu(self.visual(tokens)), "b g h w -> b h w g")
        )
        words = None if self.text is None else F.relu(self.text(text))
        x = rearrange(
            cost, "b t c h w -> b t h w c"
        )  # tokens as rows: every product below is one matrix product
        for level in self.levels:
            x = recomputed(recompute, level, x, visual, words)
        return rearrange(x, "b t h w c -> b t c h w")


class Level(nn.Module):
    """One repetition: pixels, then categories, then channels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        start, c = Starts(), config.cost_channels
        self.pixel = start("pixel", lambda: PixelRefine(config)) if config.refine_pixel else None
        self.category = (
            start("category", lambda: CategoryRefine(config)) if config.refine_category else None
        )
        self.reweight = (
            start("reweight", lambda: CategoryReweight(c))
            if config.refine_category_reweight
            else None
        )
        self.semantic = (
            start("semantic", lambda: SemanticReweight(c)) if config.refine_semantic else None
        )

    def forward(
        self,
        x: Float[Tensor, "b t h w c"],
        visual: Float[Tensor, "b h w g"] | None,
        words: Float[Tensor, "#b t g"] | None,
    ) -> Float[Tensor, "b t h w c"]:
        """Return `x` after each part that is switched on."""
        if self.pixel is not None:
            x = self.pixel(x, visual)
        if self.category is not None:
            x = self.category(x, words)
        if self.reweight is not None:
            x = self.reweight(x)
        return x if self.semantic is None else self.semantic(x)


class PixelRefine(nn.Module):
    """A plain and a shifted Swin block over the grid, with one normalised visual guidance [B]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        guidance = config.refine_guidance_channels
        self.guidance_norm = nn.LayerNorm(guidance)
        sizes = (config.cost_channels, guidance, config.refine_heads, config.refine_window)
        self.plain = WindowBlock(*sizes, shifted=False)
        self.shifted = WindowBlock(*sizes, shifted=True)

    def forward(
        self, x: Float[Tensor, "b t h w c"], visual: Float[Tensor, "b h w g"]
    ) -> Float[Tensor, "b t h w c"]:
        """Return the maps refined over space, each category alone."""
        guidance = self.guidance_norm(visual)
        return self.shifted(self.plain(x, guidance), guidance)


class CategoryRefine(nn.Module):
    """Attention between categories on the pooled grid, added to the full grid [B]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool_train, self.pool_test = config.refine_pool_train, config.refine_pool_test
        self.attention = CategoryAttention(
            config.cost_channels,
            config.refine_guidance_channels,
            config.refine_heads,
            config.refine_padding,
        )

    def forward(
        self, x: Float[Tensor, "b t h w c"], words: Float[Tensor, "#b t g"]
    ) -> Float[Tensor, "b t h w c"]:
        """Return `x` plus the attention's output, which holds its own residual: `x` counts twice. Baseline quirk 18."""
        b, _, h, w, _ = x.shape
        pool = self.pool_train if self.training else self.pool_test
        if pool == 1:
            refined = self.attention(rearrange(x, "b t h w c -> b (h w) t c"), words)
            return x + rearrange(refined, "b (h w) t c -> b t h w c", h=h)
        # ceil_mode keeps the last row and column of odd grids; on even grids it is the baseline's pooling
        pooled = F.avg_pool2d(rearrange(x, "b t h w c -> (b t) c h w"), pool, ceil_mode=True)
        refined = self.attention(rearrange(pooled, "(b t) c h w -> b (h w) t c", b=b), words)
        refined = rearrange(refined, "b (h w) t c -> (b t) c h w", h=pooled.shape[2])
        refined = F.interpolate(refined, (h, w), mode="bilinear", align_corners=True)
        return x + rearrange(refined, "(b t) c h w -> b t h w c", b=b)


class CategoryReweight(nn.Module):
    """A weight in 0..2 per category, from its own pooled feature; 1 at the start (paper, HRM; decision D21)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = _gate(channels, 1)

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
        """Return every category scaled as a whole."""
        return x * (2 * self.weigh(x.mean((2, 3), keepdim=True)).sigmoid())


class SemanticReweight(nn.Module):
    """A weight in 0..2 per channel, pooled over space and categories; 1 at the start (paper, HRM; decision D21)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = _gate(channels, channels)

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
        """Return every channel scaled as a whole."""
        return x * (2 * self.weigh(x.mean((1, 2, 3), keepdim=True)).sigmoid())


def _gate(channels: int, outputs: int) -> nn.Sequential:
    """Return a squeezing MLP that answers 0 until it is trained."""
    last = nn.Linear(max(1, channels // 4), outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, max(1, channels // 4)), nn.ReLU(), last)
