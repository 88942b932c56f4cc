"""Foreground and background apart: two branches of self-attention, joined by weighted aggregation.

The whole is a residual on the cost volume that starts at zero, so a fresh model is exactly its
baseline (decision D10).
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from disa.config import ModelConfig
from disa.model.attention import attend
from disa.model.few import a_few_at_a_time
from disa.model.split import foreground_count, ratio, split_tokens, tiny

_OWN_SIDE = 3.0  # start of the aggregation's logits: a token keeps 95 % of its own side
_FLOOR = 1e-4  # added to pooling weights: a side without any saliency is averaged evenly


class Branch(nn.Module):
    """Refine one side's tokens among themselves: self-attention, then a 4x MLP (paper, SDM).

    `y = x + out(softmax(q k^T / sqrt(e) + log weight) v)`, then `y + MLP(norm(y))`. As in the
    baseline's Swin blocks, visual guidance joins queries and keys, not values [B].
    """

    def __init__(self, channels: int, guidance: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.query_key = nn.Linear(channels + guidance, 2 * channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(
        self,
        x: Float[Tensor, "m n c"],
        guidance: Float[Tensor, "b n g"],
        weight: Float[Tensor, "m n"] | None = None,
    ) -> Float[Tensor, "m n c"]:
        """Return the refined tokens.

        A row of `guidance` is for m / b rows of `x` that follow each other: all labels of an image,
        or one. `weight` (0 .. 1) says how much each token is looked at; without it, all fully.
        """
        # A factor on a key's attention is, inside the softmax, its logarithm as a bias: m 1 1 n.
        bias = None
        if weight is not None:
            bias = weight.clamp_min(tiny(weight.dtype)).log()[:, None, None, :]

        # The products with the guidance are computed once per row of it (decision D24).
        channels = x.shape[-1]
        own = torch.cat([self.query_key.weight[:, :channels], self.value.weight])
        joined = F.linear(self.attention_norm(x), own)
        shared = F.linear(guidance, self.query_key.weight[:, channels:], self.query_key.bias)
        value = self.value.bias.to(shared.dtype).expand(*shared.shape[:2], -1)
        joined = joined.unflatten(0, (guidance.shape[0], -1))
        joined.add_(torch.cat([shared, value], -1)[:, None])
        query, key, value = rearrange(joined, "b t n (s a e) -> s (b t) a n e", s=3, a=self.heads)
        if bias is not None:
            # Under autocast the products above are in 16 bit, the weight is not.
            bias = bias.to(query.dtype)
        attended = rearrange(attend(query, key, value, bias), "m a n e -> m n (a e)")

        x = x + self.out(attended)
        return x + self.mlp(self.mlp_norm(x))


class Aggregation(nn.Module):
    """Join a token's own refined feature with the other side's ensemble feature (paper, SDM).

    `weighted` [P]: `w own + (1 - w) other`, with weights per channel
    `w = sigmoid(MLP([own, other, saliency]))` that start near the own side (decision D16). `sum`
    and `concat` (one linear layer on the pair, starting as the own side) are for comparison [D].
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "weighted":
            self.own = nn.Linear(channels, 2 * channels)
            self.other = nn.Linear(channels, 2 * channels, bias=False)
            self.saliency = nn.Linear(1, 2 * channels, bias=False)
            self.weight = nn.Linear(2 * channels, channels)
            nn.init.constant_(self.weight.bias, _OWN_SIDE)
            nn.init.normal_(self.weight.weight, std=0.02)
        elif kind == "concat":
            self.own = nn.Linear(channels, channels)
            self.other = nn.Linear(channels, channels, bias=False)
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

        # The MLP's first layer on [own, other, saliency], taken apart: the other side's part is
        # the same for all tokens of a label.
        hidden = self.own(own) + self.other(other) + self.saliency(saliency[..., None])
        weight = torch.sigmoid(self.weight(F.gelu(hidden)))
        return torch.lerp(other, own, weight)


class Disentangle(nn.Module):
    """Model foreground and background of each label apart, and join them again (paper, SDM) [P]."""

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

    def guide(self, tokens: Float[Tensor, "b d h w"]) -> Float[Tensor, "b n g"]:
        """Return what CLIP's tokens tell both branches, the same for all labels."""
        guidance = rearrange(self.guidance(tokens), "b g h w -> b (h w) g")
        return self.guidance_norm(guidance)

    def forward(
        self,
        cost: Float[Tensor, "b t c h w"],
        saliency: Float[Tensor, "b t h w"],
        guidance: Float[Tensor, "b n g"],
    ) -> tuple[Float[Tensor, "b t c h w"], Float[Tensor, "b t h w"]]:
        """Return the refined cost volume and each token's foreground weight.

        `saliency` is at least 0 and in any unit; `guidance` is what `guide` returns. Labels do not
        influence each other. Without gradients `cost` may be overwritten.
        """
        images, _, channels, height, width = cost.shape

        # Which side a token is on, and how strongly: saliency over its label's peak, in 0 .. 1.
        foreground = split_tokens(saliency, self.config)
        strength = ratio(saliency, saliency.amax((-2, -1), keepdim=True))

        # Under top_k all foregrounds have the same size, so tokens can be sorted by side. An export
        # leaves that size free, and takes longer.
        if self.config.saliency_split == "top_k" and not torch.compiler.is_exporting():
            refine = self.refine_gathered
        else:
            refine = self.refine_masked

        # Labels join the batch, m = b t: each is refined alone.
        def refine_labels(cost: Tensor, foreground: Tensor, strength: Tensor) -> Tensor:
            refined = refine(
                rearrange(cost, "b t c h w -> (b t) (h w) c"),
                guidance,
                rearrange(foreground, "b t h w -> (b t) (h w)"),
                rearrange(strength, "b t h w -> (b t) (h w)"),
            )
            # The projection starts at zero, and so does the change.
            change = rearrange(
                self.project(refined), "(b t) (h w) c -> b t c h w", b=images, h=height, w=width
            )
            return cost + change

        widest = 4 * channels * height * width  # between the two layers of an MLP
        refined = a_few_at_a_time(
            refine_labels, cost, foreground, strength, widest=widest, overwrite=True
        )
        return refined, foreground

    def refine_gathered(
        self,
        x: Float[Tensor, "m n c"],
        guidance: Float[Tensor, "b n g"],
        foreground: Float[Tensor, "m n"],
        strength: Float[Tensor, "m n"],
    ) -> Float[Tensor, "m n c"]:
        """Return every token's aggregated feature where all labels have `k` foreground tokens.

        A row of `guidance` is for m / b rows of the others, as in `Branch`. The tokens are sorted
        into foreground and background: attention then costs `k^2 + (n - k)^2` instead of `n^2`
        (decision D15).
        """
        rows, tokens, channels = x.shape
        k = foreground_count(tokens, self.config.saliency_top_share)

        # Everything that belongs to a token moves together.
        order = foreground.argsort(dim=-1, descending=True, stable=True)
        guidance = repeat(guidance, "b n g -> (b t) n g", t=rows // guidance.shape[0])
        joined = _reordered(torch.cat([x, guidance, strength[..., None]], -1), order)
        x = joined[..., :channels]
        guidance = joined[..., channels:-1]
        strength = joined[..., -1]

        # Each side among itself, and its ensemble feature: strong tokens speak for the foreground,
        # weak ones for the background.
        front = self.foreground(x[:, :k], guidance[:, :k])
        back = self.background(x[:, k:], guidance[:, k:])
        front_ensemble = _average(front, strength[:, :k] + _FLOOR)
        back_ensemble = _average(back, 1 - strength[:, k:] + _FLOOR)

        # Each token meets the other side's ensemble.
        front = self.aggregate(front, back_ensemble, strength[:, :k])
        back = self.aggregate(back, front_ensemble, strength[:, k:])

        # Back to the order of the grid: sorting the order gives each token's place in it.
        return _reordered(torch.cat([front, back], 1), order.argsort(-1))

    def refine_masked(
        self,
        x: Float[Tensor, "m n c"],
        guidance: Float[Tensor, "b n g"],
        foreground: Float[Tensor, "m n"],
        strength: Float[Tensor, "m n"],
    ) -> Float[Tensor, "m n c"]:
        """Return the same for sides of any size or weight.

        Both branches see all tokens, weighted by how much these belong to their side.
        """
        # Every token goes through both branches; attention and ensembles heed the weights.
        background = 1 - foreground
        front = self.foreground(x, guidance, foreground)
        back = self.background(x, guidance, background)
        front_ensemble = _average(front, foreground * (strength + _FLOOR))
        back_ensemble = _average(back, background * (1 - strength + _FLOOR))
        front = self.aggregate(front, back_ensemble, strength)
        back = self.aggregate(back, front_ensemble, strength)

        # A token is its own side's result, or between the two where the split is soft.
        return torch.lerp(back, front, foreground[..., None])


def _average(x: Float[Tensor, "m n c"], weight: Float[Tensor, "m n"]) -> Float[Tensor, "m 1 c"]:
    """Return the weighted average over the tokens: a side's ensemble feature.

    An empty side gives zero.
    """
    shares = ratio(weight, weight.sum(-1, keepdim=True))  # m n
    return shares[:, None] @ x


def _reordered(x: Float[Tensor, "m n c"], order: Int[Tensor, "m n"]) -> Float[Tensor, "m n c"]:
    """Return the tokens of each row in that order."""
    # Whole rows of memory are copied, in a quarter of the time that `gather` takes.
    first = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (first + order).flatten()).view_as(x)
