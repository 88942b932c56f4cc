"""Where each category is, and whether it is there at all: cross-attention, matching head, Grad-CAM, token split.

tokens `b d h w`, text `t d` -> saliency `b t n`, matched `b t`, attention `b t a n`; saliency -> foreground `b t h w`

A category only ever looks at tokens, never at other categories: its result does not depend on the vocabulary [D].
Everything starts at the identity, so the untrained module already ranks categories as CLIP does.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from disa.config import ModelConfig

_START_SHARPNESS = 10.0  # attention logit per unit of cosine at the start: the best tokens stand out, none rules alone
_START_SCALE = 10.0  # matched logit per unit of cosine at the start
_START_BIAS = -0.3  # cosine at which a category counts as present at the start
_EPSILON = 1e-6  # added to the mean square in `Norm`


class Saliency(NamedTuple):
    """What the cross-attention tells about each category of each image."""

    saliency: Float[Tensor, "b t n"]  # >= 0, unnormalised
    matched: Float[Tensor, "b t"]  # logit: does the image show the category?
    attention: Float[Tensor, "b t a n"]  # of the last layer, sums to 1 over the tokens


class Norm(nn.RMSNorm):
    """Scale to unit root mean square. It keeps directions, and thereby CLIP's cosines; LayerNorm would not."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=_EPSILON)

    def pull_back(
        self, x: Float[Tensor, "*rest d"], gradient: Float[Tensor, "*rest d"]
    ) -> Float[Tensor, "*rest d"]:
        """Return the gradient at the input `x`, given that at the output (chain rule)."""
        inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + _EPSILON)
        gradient = gradient * self.weight
        return inverse * (gradient - x * inverse.square() * (gradient * x).mean(-1, keepdim=True))


class _Steps(NamedTuple):
    """States of one layer: what follows the attention, kept for the gradient."""

    middle: Float[Tensor, "b t d"]  # after the attention's residual
    hidden: Float[Tensor, "b t m"]  # the MLP before its activation
    out: Float[Tensor, "b t d"]


class CrossAttention(nn.Module):
    """One layer: norm, cross-attention from categories to tokens, residual, norm, 4x MLP, residual [D]."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.mlp_norm = Norm(d), Norm(d)
        self.query, self.key, self.value, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.log_sharpness = nn.Parameter(torch.full((heads,), math.log(_START_SHARPNESS)))
        self.expand, self.contract = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.eye_(linear.weight)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def attend(
        self, x: Float[Tensor, "b t d"], tokens: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b t a n"]:
        """Return the attention of every category and head over the tokens.

        The scale `a / sqrt(d)` gives every head's score the size of a cosine before its learned sharpness: the normed
        query has length sqrt(d), and a head sees one part in `a` of the product.
        """
        query = rearrange(self.query(self.query_norm(x)), "b t (a e) -> b t a e", a=self.heads)
        key = rearrange(self.key(tokens), "b n (a e) -> b n a e", a=self.heads)
        scale = self.log_sharpness.exp() * (self.heads / math.sqrt(x.shape[-1]))
        return einsum(query * scale[:, None], key, "b t a e, b n a e -> b t a n").softmax(-1)

    def values(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n a e"]:
        """Return what each head reads from each token."""
        return rearrange(self.value(tokens), "b n (a e) -> b n a e", a=self.heads)

    def carry(
        self,
        x: Float[Tensor, "b t d"],
        attention: Float[Tensor, "b t a n"],
        values: Float[Tensor, "b n a e"],
    ) -> _Steps:
        """Apply everything behind the attention map: only per-category steps, hence the gradient is short."""
        attended = einsum(attention, values, "b t a n, b n a e -> b t a e")
        middle = x + self.out(rearrange(attended, "b t a e -> b t (a e)"))
        hidden = self.expand(self.mlp_norm(middle))
        return _Steps(middle, hidden, middle + self.contract(F.gelu(hidden)))

    def pull_back(
        self, steps: _Steps, gradient: Float[Tensor, "b t d"]
    ) -> Float[Tensor, "b t a e"]:
        """Return the gradient at each head's attended value, given that at the layer's output (chain rule)."""
        density = torch.exp(-0.5 * steps.hidden.square()) / math.sqrt(2 * math.pi)
        slope = 0.5 * (1 + torch.erf(steps.hidden / math.sqrt(2))) + steps.hidden * density
        hidden = (gradient @ self.contract.weight) * slope
        middle = gradient + self.mlp_norm.pull_back(steps.middle, hidden @ self.expand.weight)
        return rearrange(middle @ self.out.weight, "b t (a e) -> b t a e", a=self.heads)


class CompareHead(nn.Module):
    """Match what a category attended to with the category's own embedding [D].

    `matched = scale * (<attended, own + residual> + bias)`, `own` of unit length: a scaled similarity, a bias and a
    linear residual that starts at zero. Bias and residual are in units of a cosine, so that they learn quickly.

    `compare`: `attended` has unit length, so the similarity is a cosine. Its gradient is positive for tokens that are
    better than the attended mixture: once attention rests on the right tokens alone, about half of them get none.
    `product`: `attended` is the mean over the layers as it is, and every token that resembles `own` gets a gradient.
    """

    def __init__(self, d: int, layers: int | None = None) -> None:
        super().__init__()
        self.layers = layers  # None: unit length
        self.log_scale = nn.Parameter(torch.tensor(math.log(_START_SCALE)))
        self.bias = nn.Parameter(torch.tensor(_START_BIAS))
        self.residual = nn.Parameter(torch.zeros(d))

    def forward(self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]) -> Float[Tensor, "b t"]:
        """Return the matched logit. `x` is the category's state after the last layer, `own` its unit embedding."""
        attended = (x - own) / self._length(
            x, own
        )  # the stream began at `own`: the rest is what it attended to
        return self.log_scale.exp() * ((attended * (own + self.residual)).sum(-1) + self.bias)

    def gradient(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `x`."""
        length = self._length(x, own)
        target = (self.log_scale.exp() * (own + self.residual)).expand_as(x)
        if self.layers is None:
            attended = (x - own) / length
            target = target - attended * (attended * target).sum(-1, keepdim=True)
        return target / length

    def _length(self, x: Tensor, own: Tensor) -> Tensor | int:
        return self.layers or torch.linalg.vector_norm(x - own, dim=-1, keepdim=True).clamp_min(
            tiny(x.dtype)
        )


class LinearHead(nn.Module):
    """Read the matched logit out of the category's state: an ablation that memorises the training labels [D]."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm, self.linear = Norm(d), nn.Linear(d, 1)

    def forward(self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]) -> Float[Tensor, "b t"]:
        """Return the matched logit. `own` is part of `x` and not looked at."""
        return self.linear(self.norm(x)).squeeze(-1)

    def gradient(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `x`."""
        return self.norm.pull_back(x, self.linear.weight.expand_as(x))


class SaliencyModule(nn.Module):
    """Find each category's salient tokens and whether the image shows it (paper, SDM) [P]."""

    def __init__(self, config: ModelConfig, d: int) -> None:
        super().__init__()
        self.source, self.detach = config.saliency_source, config.saliency_detach
        self.differentiable = config.saliency_split == "soft"
        self.layers = nn.ModuleList(
            CrossAttention(d, config.saliency_heads) for _ in range(config.saliency_layers)
        )
        layers = config.saliency_layers if config.saliency_itm_head == "product" else None
        self.head = (
            LinearHead(d) if config.saliency_itm_head == "linear" else CompareHead(d, layers)
        )

    def forward(self, tokens: Float[Tensor, "b d h w"], text: Float[Tensor, "t d"]) -> Saliency:
        """Return saliency, matched logit and attention of every category.

        Lengths of tokens and text do not matter, only directions. With `saliency_detach` no gradient reaches CLIP; the
        saliency carries gradients to this module only for the soft split, the others would not pass them on.
        """
        if self.detach:
            tokens, text = tokens.detach(), text.detach()
        tokens = F.normalize(rearrange(tokens, "b d h w -> b (h w) d"), dim=-1)
        own = F.normalize(text, dim=-1)
        x = own.expand(tokens.shape[0], -1, -1)
        *early, last = cast(Iterable[CrossAttention], self.layers)
        for layer in early:
            x = layer.carry(x, layer.attend(x, tokens), layer.values(tokens)).out
        attention, values = last.attend(x, tokens), last.values(tokens)
        steps = last.carry(x, attention, values)
        matched = self.head(steps.out, own)
        if self.source == "attention":
            saliency = reduce(attention, "b t a n -> b t n", "mean")
        elif self.source == "cosine":
            saliency = einsum(own, tokens, "t d, b n d -> b t n").relu()
        else:
            gradient = self.attention_gradient(last, steps, values, own)
            if (
                self.source == "loss_gradient"
            ):  # of the cross-entropy with "present": the sign turns
                gradient = -torch.sigmoid(-matched)[..., None, None] * gradient
            saliency = reduce(attention * gradient.relu(), "b t a n -> b t n", "mean")
        return Saliency(saliency if self.differentiable else saliency.detach(), matched, attention)

    def attention_gradient(
        self,
        layer: CrossAttention,
        steps: _Steps,
        values: Float[Tensor, "b n a e"],
        own: Float[Tensor, "t d"],
    ) -> Float[Tensor, "b t a n"]:
        """Return the gradient of the matched logit at the layer's attention map, in closed form [D].

        Between map and logit stand only per-category steps: with `u` the gradient at a head's attended value, the
        gradient at a token's weight is `<u, value of the token>`. No backward pass, so it runs in inference and export.
        """
        gradient = layer.pull_back(steps, self.head.gradient(steps.out, own))
        return einsum(gradient, values, "b t a e, b n a e -> b t a n")


def tiny(dtype: torch.dtype) -> float:
    """Return the least number that keeps quotients and logarithms of zero finite: 1e-30, or 6e-8 in float16."""
    limits = torch.finfo(dtype)
    return max(1e-30, limits.tiny * limits.eps)


def share(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, and zero without a gradient where there is nothing to share: one over nothing overflows."""
    some = whole > tiny(whole.dtype)
    return torch.where(some, part / torch.where(some, whole, 1), 0)


def foreground_count(n: int, share: float) -> int:
    """Return `k`, the number of foreground tokens of `n` under the `top_k` split: 1 .. n - 1 (1 where `n` is 1)."""
    return max(1, min(round(share * n), n - 1))


def split_tokens(
    saliency: Float[Tensor, "b t h w"], config: ModelConfig
) -> Float[Tensor, "b t h w"]:
    """Return each token's foreground weight: 1 or 0, and 0 .. 1 for the soft split (paper, SDM; options [D]).

    `top_k`: the k most salient tokens, ties broken by the lower token index. `relative`: smoothed 3 x 3, above a share
    of its own peak. `mass`: the smallest set that holds a share of the saliency. `soft`: saliency over its peak.
    A category without any saliency has no foreground, except under `top_k`.
    """
    if config.saliency_split == "soft":
        return share(saliency, saliency.amax((-2, -1), keepdim=True))
    if config.saliency_split == "relative":
        smooth = F.avg_pool2d(saliency, 3, stride=1, padding=1, count_include_pad=False)
        peak = smooth.amax((-2, -1), keepdim=True)
        return (smooth > config.saliency_relative_threshold * peak).to(saliency.dtype)
    flat = rearrange(saliency, "b t h w -> b t (h w)")
    ranked, order = flat.sort(dim=-1, descending=True, stable=True)
    if config.saliency_split == "top_k":
        n = flat.shape[-1]
        chosen = (
            torch.arange(n, device=flat.device) < foreground_count(n, config.saliency_top_share)
        ).expand_as(flat)
    else:
        held = ranked.cumsum(-1)
        chosen = (
            held - ranked < config.saliency_mass * held[..., -1:]
        )  # without this token the share is not reached
    foreground = torch.zeros_like(flat).scatter(-1, order, chosen.to(flat.dtype))
    return rearrange(foreground, "b t (h w) -> b t h w", h=saliency.shape[-2])
