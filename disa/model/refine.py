"""Hierarchical refinement (HRM): pixel-wise, category-wise, semantic-wise, level by level.

With `refine_category_reweight` and `refine_semantic` off this is the baseline's aggregator.
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.model.attention import CategoryAttention
from disa.model.few import a_few_at_a_time, scaled
from disa.model.window import WindowBlock


class Refine(nn.Module):
    """All levels, one after another, and the guidance that they share (paper, HRM)."""

    def __init__(self, config: ModelConfig, d: int) -> None:
        super().__init__()
        guidance = config.refine_guidance_channels
        self.visual = nn.Conv2d(d, guidance, 3, padding=1) if config.refine_pixel else None
        self.text = nn.Linear(d, guidance) if config.refine_category else None
        self.levels = nn.ModuleList(Level(config) for _ in range(config.refine_levels))

    def guide(self, tokens: Float[Tensor, "b d h w"]) -> Float[Tensor, "b h w g"] | None:
        """Return what CLIP's tokens tell the pixel-wise refinement of every label."""
        if self.visual is None:
            return None
        return rearrange(F.relu(self.visual(tokens)), "b g h w -> b h w g")

    def forward(
        self,
        cost: Float[Tensor, "b t c h w"],
        visual: Float[Tensor, "b h w g"] | None,
        text: Float[Tensor, "#b t d"],
    ) -> Float[Tensor, "b t c h w"]:
        """Return the refined cost volume.

        CLIP's own features guide: `visual`, of `guide`, says which tokens look alike, and `text`
        which labels mean alike [B]. `text` is L2-normalised: one embedding per label, for each
        image or for all of them. Without gradients `cost` may be overwritten, part by part.
        """
        text_guidance = None
        if self.text is not None:
            text_guidance = F.relu(self.text(text))  # b t g

        # Channels go last: every product below is then one matrix product.
        x = rearrange(cost, "b t c h w -> b t h w c")
        for level in self.levels:
            x = level(x, visual, text_guidance)
        return rearrange(x, "b t h w c -> b t c h w")


class Level(nn.Module):
    """One repetition: pixels, then labels, then channels; each part can be off."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.cost_channels
        self.pixel = PixelRefine(config) if config.refine_pixel else None
        self.category = CategoryRefine(config) if config.refine_category else None
        self.reweight = CategoryReweight(channels) if config.refine_category_reweight else None
        self.semantic = SemanticReweight(channels) if config.refine_semantic else None

    def forward(
        self,
        x: Float[Tensor, "b t h w c"],
        visual: Float[Tensor, "b h w g"] | None,
        text: Float[Tensor, "#b t g"] | None,
    ) -> Float[Tensor, "b t h w c"]:
        """Return `x` after each part that is on."""
        if self.pixel is not None:
            x = self.pixel(x, visual)
        if self.category is not None:
            x = self.category(x, text)
        if self.reweight is not None:
            x = self.reweight(x, overwrite=True)
        if self.semantic is not None:
            x = self.semantic(x, overwrite=True)
        return x


class PixelRefine(nn.Module):
    """A plain and a shifted Swin block over the grid, with one normalised visual guidance [B]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        guidance = config.refine_guidance_channels
        self.guidance_norm = nn.LayerNorm(guidance)
        self.plain = _window_block(config, shifted=False)
        self.shifted = _window_block(config, shifted=True)

    def forward(
        self, x: Float[Tensor, "b t h w c"], visual: Float[Tensor, "b h w g"]
    ) -> Float[Tensor, "b t h w c"]:
        """Return the maps refined over space, each label alone."""
        guidance = self.guidance_norm(visual)
        plain = self.plain.guide(guidance)
        shifted = self.shifted.guide(guidance)

        # Windows separate neighbours at their borders; the shifted block joins these.
        def refine_labels(x: Tensor) -> Tensor:
            return self.shifted(self.plain(x, plain), shifted)

        return a_few_at_a_time(refine_labels, x, widest=4 * x[0, 0].numel(), overwrite=True)


class CategoryRefine(nn.Module):
    """Attention between labels on the pooled grid, added to the full grid [B]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool_train = config.refine_pool_train
        self.pool_test = config.refine_pool_test
        self.attention = CategoryAttention(
            config.cost_channels,
            config.refine_guidance_channels,
            config.refine_heads,
            config.refine_padding,
        )

    def forward(
        self, x: Float[Tensor, "b t h w c"], text: Float[Tensor, "#b t g"]
    ) -> Float[Tensor, "b t h w c"]:
        """Return `x` plus the attention's output.

        The output holds its own residual, so `x` counts twice (baseline quirk 18).
        """
        images, _, height, width, _ = x.shape
        pool = self.pool_train if self.training else self.pool_test
        guided = self.attention.guide(text)

        # Every position is a set of labels, b n t c, and alone.
        if pool == 1:
            positions = rearrange(x, "b t h w c -> b (h w) t c")
            added = a_few_at_a_time(
                lambda part: part + self.attention(part, guided),
                positions,
                widest=4 * positions[0, 0].numel(),
                overwrite=True,
            )
            return rearrange(added, "b (h w) t c -> b t h w c", h=height)

        # Pooled positions are fewer. `ceil_mode` keeps the last row and column of odd grids.
        pooled = rearrange(x, "b t h w c -> (b t) c h w")
        pooled = F.avg_pool2d(pooled, pool, ceil_mode=True)
        rows = pooled.shape[2]

        # Their result is enlarged to the full grid, corners on corners [B].
        refined = self.attention(rearrange(pooled, "(b t) c h w -> b (h w) t c", b=images), guided)
        refined = rearrange(refined, "b (h w) t c -> (b t) c h w", h=rows)
        refined = F.interpolate(refined, (height, width), mode="bilinear", align_corners=True)
        return x + rearrange(refined, "(b t) c h w -> b t h w c", b=images)


class CategoryReweight(nn.Module):
    """One weight per label: `x_t <- x_t * 2 sigmoid(MLP(mean of x_t over space))`.

    All weights are 1 at the start (paper, HRM; decision D21).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = _gate(channels, 1)

    def forward(
        self, x: Float[Tensor, "b t h w c"], overwrite: bool = False
    ) -> Float[Tensor, "b t h w c"]:
        """Return every label scaled as a whole, in the place of `x` if that is allowed."""
        # Doubled, a sigmoid is 1 where the gate answers 0.
        pooled = x.mean((2, 3), keepdim=True)  # b t 1 1 c
        return scaled(x, 2 * self.weigh(pooled).sigmoid(), overwrite)


class SemanticReweight(nn.Module):
    """One weight per channel: `x <- x * 2 sigmoid(MLP(mean of x over space and labels))`.

    All weights are 1 at the start (paper, HRM; decision D21).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = _gate(channels, channels)

    def forward(
        self, x: Float[Tensor, "b t h w c"], overwrite: bool = False
    ) -> Float[Tensor, "b t h w c"]:
        """Return every channel scaled as a whole, in the place of `x` if that is allowed."""
        pooled = x.mean((1, 2, 3), keepdim=True)  # b 1 1 1 c
        return scaled(x, 2 * self.weigh(pooled).sigmoid(), overwrite)


def _window_block(config: ModelConfig, shifted: bool) -> WindowBlock:
    return WindowBlock(
        config.cost_channels,
        config.refine_guidance_channels,
        config.refine_heads,
        config.refine_window,
        shifted,
    )


def _gate(channels: int, outputs: int) -> nn.Sequential:
    """Return a squeezing MLP that answers 0 until it is trained."""
    squeezed = max(1, channels // 4)
    last = nn.Linear(squeezed, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, squeezed), nn.ReLU(), last)
