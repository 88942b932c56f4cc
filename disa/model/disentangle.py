"""Foreground and background apart: two branches of self-attention, ensemble features, weighted aggregation.

cost `b t c h w`, saliency `b t h w`, tokens `b d h w` -> cost `b t c h w`, foreground `b t h w`

The whole is a residual on the cost volume that starts at zero: a fresh model is exactly its baseline [D].
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from disa.config import ModelConfig
from disa.model.attention import attend
from disa.model.saliency import foreground_count, share, split_tokens, tiny

_OWN_SIDE = 3.0  # start of the aggregation's logits: a token keeps 95 % of its own side
_FLOOR = 1e-4  # added to pooling weights: a side without any saliency is averaged evenly


class Branch(nn.Module):
    """Refine one side's tokens among themselves: self-attention with visual guidance, then a 4x MLP (paper, SDM).

    As in the baseline's Swin blocks the guidance is joined to queries and keys, not to the values [B].
    """

    def __init__(self, channels: int, guidance: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query_key = nn.Linear(channels + guidance, 2 * channels)
        self.value, self.out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(
        self,
        x: Float[Tensor, "m n c"],
        guidance: Float[Tensor, "m n g"],
        weight: Float[Tensor, "m n"] | None = None,
    ) -> Float[Tensor, "m n c"]:
        """Return the refined tokens. `weight` (0 .. 1) says how much each token is looked at; without it, all fully."""
        normed = self.attention_norm(x)
        query, key = rearrange(
            self.query_key(torch.cat([normed, guidance], -1)),
            "m n (s a e) -> s m a n e",
            s=2,
            a=self.heads,
        )
        value = rearrange(self.value(normed), "m n (a e) -> m a n e", a=self.heads)
        bias = (
            None
            if weight is None
            else weight.clamp_min(tiny(weight.dtype)).log()[:, None, None, :].to(query.dtype)
        )
        attended = attend(query, key, value, bias)
        x = x + self.out(rearrange(attended, "m a n e -> m n (a e)"))
        return x + self.mlp(self.mlp_norm(x))


class Aggregation(nn.Module):
    """Join a token's own refined feature with the other side's ensemble feature (paper, weighted aggregation).

    `weighted` [P]: weights per channel in (0, 1) from the pair and the token's saliency, starting near the own side.
    `sum` and `concat` (one linear layer on the pair, starting as the own side) are for comparison [D].
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "weighted":
            self.own, self.other = (
                nn.Linear(channels, 2 * channels),
                nn.Linear(channels, 2 * channels, bias=False),
            )
            self.saliency = nn.Linear(1, 2 * channels, bias=False)
            self.weight = nn.Linear(2 * channels, channels)
            nn.init.constant_(self.weight.bias, _OWN_SIDE)
            nn.init.normal_(self.weight.weight, std=0.02)
        elif kind == "concat":
            self.own, self.other = (
                nn.Linear(channels, channels),
                nn.Linear(channels, channels, bias=False),
            )
            nn.init.eye_(self.own.weight)
            nn.init.zeros_(self.own.bias)
            nn.init.zeros_(self.other.weight)

    def forward(
        self,
        own: Float[Tensor, "m n c"],
        other: Float[Tensor, "m 1 c"],
        saliency: Float[Tensor, "m n"],
    ) -> Float[Tensor, "m n c"]:
        """Return one feature per token. `saliency` is scaled to a peak of 1."""
        if self.kind == "sum":
            return own + other
        if self.kind == "concat":
            return self.own(own) + self.other(other)
        # One linear layer on the joined pair, taken apart: the other side's part is the same for all tokens.
        hidden = self.own(own) + self.other(other) + self.saliency(saliency[..., None])
        return torch.lerp(other, own, torch.sigmoid(self.weight(F.gelu(hidden))))


class Disentangle(nn.Module):
    """Model foreground and background of each category apart and join them again (paper, SDM) [P]."""

    def __init__(self, config: ModelConfig, d: int) -> None:
        super().__init__()
        self.config = config
        channels = config.cost_channels
        guidance = channels // 2
        self.guidance = nn.Sequential(nn.Conv2d(d, guidance, 3, padding=1), nn.ReLU())
        self.guidance_norm = nn.LayerNorm(guidance)
        self.foreground = Branch(channels, guidance, config.disentangle_heads)
        self.background = Branch(channels, guidance, config.disentangle_heads)
        self.aggregate = Aggregation(channels, config.disentangle_aggregation)
        self.project = nn.Linear(channels, channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(
        self,
        cost: Float[Tensor, "b t c h w"],
        saliency: Float[Tensor, "b t h w"],
        tokens: Float[Tensor, "b d h w"],
    ) -> tuple[Float[Tensor, "b t c h w"], Float[Tensor, "b t h w"]]:
        """Return the refined cost volume and each token's foreground weight.

        `saliency` >= 0 in any unit; `tokens` are CLIP's, as they come. Categories do not influence each other.
        """
        b, t, _, h, w = cost.shape
        foreground = split_tokens(saliency, self.config)
        strength = share(saliency, saliency.amax((-2, -1), keepdim=True))
        guidance = self.guidance_norm(rearrange(self.guidance(tokens), "b g h w -> b (h w) g"))
        refine = (
            self.refine_gathered if self.config.saliency_split == "top_k" else self.refine_masked
        )
        refined = refine(
            rearrange(cost, "b t c h w -> (b t) (h w) c"),
            guidance[:, None].expand(-1, t, -1, -1).flatten(0, 1),
            rearrange(foreground, "b t h w -> (b t) (h w)"),
            rearrange(strength, "b t h w -> (b t) (h w)"),
        )
        change = rearrange(self.project(refined), "(b t) (h w) c -> b t c h w", b=b, t=t, h=h, w=w)
        return cost + change, foreground

    def refine_gathered(
        self,
        x: Float[Tensor, "m n c"],
        guidance: Float[Tensor, "m n g"],
        foreground: Float[Tensor, "m n"],
        strength: Float[Tensor, "m n"],
    ) -> Float[Tensor, "m n c"]:
        """Return every token's aggregated feature where all categories have equally many foreground tokens.

        The tokens are sorted into foreground and background: attention costs `k^2 + (n - k)^2`, not `n^2` [D].
        """
        n, c = x.shape[1:]
        k = foreground_count(n, self.config.saliency_top_share)
        order = foreground.argsort(dim=-1, descending=True, stable=True)
        joined = torch.cat([x, guidance, strength[..., None]], -1)
        joined = joined.gather(1, order[..., None].expand_as(joined))
        x, guidance, strength = joined[..., :c], joined[..., c:-1], joined[..., -1]
        front = self.foreground(x[:, :k], guidance[:, :k])
        back = self.background(x[:, k:], guidance[:, k:])
        front_ensemble = _average(front, strength[:, :k] + _FLOOR)
        back_ensemble = _average(back, 1 - strength[:, k:] + _FLOOR)
        front = self.aggregate(front, back_ensemble, strength[:, :k])
        back = self.aggregate(back, front_ensemble, strength[:, k:])
        place = order.argsort(-1)[..., None].expand(-1, -1, c)
        return torch.cat([front, back], 1).gather(1, place)

    def refine_masked(
        self,
        x: Float[Tensor, "m n c"],
        guidance: Float[Tensor, "m n g"],
        foreground: Float[Tensor, "m n"],
        strength: Float[Tensor, "m n"],
    ) -> Float[Tensor, "m n c"]:
        """Return the same for sides of any size or weight: both branches see all tokens, weighted by their side."""
        background = 1 - foreground
        front, back = (
            self.foreground(x, guidance, foreground),
            self.background(x, guidance, background),
        )
        front_ensemble = _average(front, foreground * (strength + _FLOOR))
        back_ensemble = _average(back, background * (1 - strength + _FLOOR))
        front = self.aggregate(front, back_ensemble, strength)
        back = self.aggregate(back, front_ensemble, strength)
        return torch.lerp(back, front, foreground[..., None])


def _average(x: Float[Tensor, "m n c"], weight: Float[Tensor, "m n"]) -> Float[Tensor, "m 1 c"]:
    """Return the weighted average over the tokens: a side's ensemble feature. An empty side gives zero."""
    return share(weight, weight.sum(-1, keepdim=True))[:, None] @ x
