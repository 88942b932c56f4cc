"""Where each label is, and whether it is there at all: cross-attention, matching head, Grad-CAM.

A label looks at tokens only, never at other labels: its result does not depend on the vocabulary
[D]. Everything starts at the identity, so the untrained module ranks labels as CLIP does.
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

_START_SHARPNESS = 10.0  # attention logit per unit of cosine: the best tokens stand out, none rules
_START_SCALE = 10.0  # matched logit per unit of cosine
_START_BIAS = -0.3  # minus the cosine from which on a label counts as present
_EPSILON = 1e-6  # added to the mean square in `Norm`


class Saliency(NamedTuple):
    """What the cross-attention tells about each label of each image."""

    saliency: Float[Tensor, "b t n"]  # >= 0, unnormalised
    matched: Float[Tensor, "b t"]  # logit: does the image show the label?
    attention: Float[Tensor, "b t a n"]  # of the last layer, sums to 1 over the tokens


class Norm(nn.RMSNorm):
    """Scale to unit root mean square, `y = g x / r` with `r = sqrt(mean(x^2) + eps)`.

    Unlike LayerNorm it keeps directions, and thereby CLIP's cosines (decision D13).
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=_EPSILON)

    def pull_back(
        self, x: Float[Tensor, "*rest d"], gradient: Float[Tensor, "*rest d"]
    ) -> Float[Tensor, "*rest d"]:
        """Return the gradient at the input `x`, given that at the output (chain rule).

        With `u = g gradient` it is `(u - x mean(u x) / r^2) / r`.
        """
        inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + _EPSILON)  # 1 / r
        gradient = gradient * self.weight
        along = (gradient * x).mean(-1, keepdim=True)
        return inverse * (gradient - x * inverse.square() * along)


class _States(NamedTuple):
    """States of one layer behind its attention, kept for the gradient."""

    middle: Float[Tensor, "b t d"]  # after the attention's residual
    hidden: Float[Tensor, "b t m"]  # the MLP before its activation
    out: Float[Tensor, "b t d"]


class CrossAttention(nn.Module):
    """One layer: norm, attention from labels to tokens, residual, norm, 4x MLP, residual [D]."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm = Norm(d)
        self.mlp_norm = Norm(d)
        self.query = nn.Linear(d, d, bias=False)
        self.key = nn.Linear(d, d, bias=False)
        self.value = nn.Linear(d, d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.log_sharpness = nn.Parameter(torch.full((heads,), math.log(_START_SHARPNESS)))
        self.expand = nn.Linear(d, 4 * d)
        self.contract = nn.Linear(4 * d, d)

        # The attention starts at CLIP's cosines, the MLP at zero.
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.eye_(linear.weight)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def attend(
        self, x: Float[Tensor, "b t d"], tokens: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b t a n"]:
        """Return the attention of every label and head over the tokens.

        The scale `a / sqrt(d)` gives every head's score the size of a cosine before its learned
        sharpness: the normed query has length sqrt(d), and a head sees one part in `a` of the
        product.
        """
        query = rearrange(self.query(self.query_norm(x)), "b t (a e) -> b t a e", a=self.heads)
        key = rearrange(self.key(tokens), "b n (a e) -> b n a e", a=self.heads)
        scale = self.log_sharpness.exp() * (self.heads / math.sqrt(x.shape[-1]))
        scores = einsum(query * scale[:, None], key, "b t a e, b n a e -> b t a n")
        return scores.softmax(-1)

    def values(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n a e"]:
        """Return what each head reads from each token."""
        return rearrange(self.value(tokens), "b n (a e) -> b n a e", a=self.heads)

    def carry(
        self,
        x: Float[Tensor, "b t d"],
        attention: Float[Tensor, "b t a n"],
        values: Float[Tensor, "b n a e"],
    ) -> _States:
        """Apply everything behind the attention map: steps per label, so the gradient is short."""
        attended = einsum(attention, values, "b t a n, b n a e -> b t a e")
        middle = x + self.out(rearrange(attended, "b t a e -> b t (a e)"))
        hidden = self.expand(self.mlp_norm(middle))
        return _States(middle, hidden, middle + self.contract(F.gelu(hidden)))

    def pull_back(
        self, states: _States, gradient: Float[Tensor, "b t d"]
    ) -> Float[Tensor, "b t a e"]:
        """Return the gradient at each head's attended value, given that at the layer's output.

        The chain rule through `carry`, backwards. GELU is `z P(z)` with the normal distribution
        `P`, and its slope `P(z) + z p(z)` with the normal density `p`.
        """
        z = states.hidden
        density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
        slope = 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * density

        hidden = (gradient @ self.contract.weight) * slope
        normed = hidden @ self.expand.weight
        middle = gradient + self.mlp_norm.pull_back(states.middle, normed)
        return rearrange(middle @ self.out.weight, "b t (a e) -> b t a e", a=self.heads)


class CompareHead(nn.Module):
    """Match what a label attended to with the label's own embedding [D].

    `matched = scale (<attended, own + residual> + bias)` with `own` of unit length: a scaled
    similarity, a bias, and a linear residual that starts at zero. Bias and residual are in units of
    a cosine, so that they learn quickly.

    `compare`: `attended` has unit length, so the similarity is a cosine. Its gradient is positive
    for tokens that are better than the attended mixture: once attention rests on the right tokens
    alone, about half of them get none. `product`: `attended` is the mean over the layers as it is,
    and every token that resembles `own` gets a gradient (decision D12).
    """

    def __init__(self, d: int, layers: int | None = None) -> None:
        """Compare by a product of the mean over `layers`, or by a cosine if that is None."""
        super().__init__()
        self.layers = layers
        self.log_scale = nn.Parameter(torch.tensor(math.log(_START_SCALE)))
        self.bias = nn.Parameter(torch.tensor(_START_BIAS))
        self.residual = nn.Parameter(torch.zeros(d))

    def forward(self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]) -> Float[Tensor, "b t"]:
        """Return the matched logit of the label's state `x` behind the last layer."""
        # The state began at `own`: the rest is what the label attended to.
        attended = (x - own) / self._length(x, own)
        similarity = (attended * (own + self.residual)).sum(-1)
        return self.log_scale.exp() * (similarity + self.bias)

    def gradient(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `x`."""
        length = self._length(x, own)
        direction = (self.log_scale.exp() * (own + self.residual)).expand_as(x)
        if self.layers is None:
            # A unit vector only turns: the part along itself drops out.
            attended = (x - own) / length
            direction = direction - attended * (attended * direction).sum(-1, keepdim=True)
        return direction / length

    def _length(self, x: Tensor, own: Tensor) -> Tensor | int:
        if self.layers is not None:
            return self.layers
        length = torch.linalg.vector_norm(x - own, dim=-1, keepdim=True)
        return length.clamp_min(tiny(x.dtype))


class LinearHead(nn.Module):
    """Read the matched logit from the label's state: memorises the training labels [D]."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm = Norm(d)
        self.linear = nn.Linear(d, 1)

    def forward(self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]) -> Float[Tensor, "b t"]:
        """Return the matched logit. `own` is part of `x` and not looked at."""
        return self.linear(self.norm(x)).squeeze(-1)

    def gradient(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `x`."""
        return self.norm.pull_back(x, self.linear.weight.expand_as(x))


class SaliencyModule(nn.Module):
    """Find each label's salient tokens, and whether the image shows it (paper, SDM) [P]."""

    def __init__(self, config: ModelConfig, d: int) -> None:
        super().__init__()
        self.source = config.saliency_source
        self.differentiable = config.saliency_split == "soft"
        self.layers = nn.ModuleList(
            CrossAttention(d, config.saliency_heads) for _ in range(config.saliency_layers)
        )
        self.head = _head(config, d)

    def forward(self, tokens: Float[Tensor, "b d h w"], text: Float[Tensor, "t d"]) -> Saliency:
        """Return saliency, matched logit and attention of every label.

        Lengths of tokens and text do not matter, only directions. No gradient reaches CLIP. The
        saliency carries gradients to this module only for the soft split: the others would not pass
        them on.
        """
        tokens = rearrange(tokens.detach(), "b d h w -> b (h w) d")
        tokens = F.normalize(tokens, dim=-1)
        own = F.normalize(text.detach(), dim=-1)

        # Every label starts as its own embedding and adds what it attends to.
        x = own.expand(tokens.shape[0], -1, -1)  # b t d
        *early, last = cast(Iterable[CrossAttention], self.layers)
        for layer in early:
            x = layer.carry(x, layer.attend(x, tokens), layer.values(tokens)).out
        attention = last.attend(x, tokens)  # b t a n
        values = last.values(tokens)  # b n a e
        states = last.carry(x, attention, values)
        matched = self.head(states.out, own)  # b t

        if self.source == "attention":
            saliency = reduce(attention, "b t a n -> b t n", "mean")
        else:
            gradient = self.attention_gradient(last, states, values, own)
            if self.source == "loss_gradient":
                # Of the cross-entropy with "present", softplus(-matched): the sign turns.
                gradient = -torch.sigmoid(-matched)[..., None, None] * gradient
            saliency = reduce(attention * gradient.relu(), "b t a n -> b t n", "mean")
        if not self.differentiable:
            saliency = saliency.detach()
        return Saliency(saliency, matched, attention)

    def attention_gradient(
        self,
        layer: CrossAttention,
        states: _States,
        values: Float[Tensor, "b n a e"],
        own: Float[Tensor, "t d"],
    ) -> Float[Tensor, "b t a n"]:
        """Return the gradient of the matched logit at the layer's attention map, in closed form.

        Grad-CAM is `mean over heads of A relu(dm / dA)`, with the attention map `A` and the matched
        logit `m`. Between them stand only steps per label: with `u` the gradient at a head's
        attended value, the gradient at a token's weight is `<u, value of the token>`. There is no
        backward pass, so it runs in inference and export (decision D14).
        """
        gradient = layer.pull_back(states, self.head.gradient(states.out, own))
        return einsum(gradient, values, "b t a e, b n a e -> b t a n")


def _head(config: ModelConfig, d: int) -> CompareHead | LinearHead:
    if config.saliency_itm_head == "linear":
        return LinearHead(d)
    if config.saliency_itm_head == "product":
        return CompareHead(d, config.saliency_layers)
    return CompareHead(d)


def tiny(dtype: torch.dtype) -> float:
    """Return the least number that keeps quotients and logarithms of zero finite.

    It is 1e-30, and 6e-8 in float16.
    """
    limits = torch.finfo(dtype)
    return max(1e-30, limits.tiny * limits.eps)


def share(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, and zero without a gradient where the whole is nothing."""
    is_some = whole > tiny(whole.dtype)
    # The inner `where` matters for the gradient: one over nothing overflows.
    return torch.where(is_some, part / torch.where(is_some, whole, 1), 0)


def foreground_count(n: int, share: float) -> int:
    """Return `k = round(share n)` of the `top_k` split, from 1 to n - 1 (1 where `n` is 1)."""
    return max(1, min(round(share * n), n - 1))


def split_tokens(
    saliency: Float[Tensor, "b t h w"], config: ModelConfig
) -> Float[Tensor, "b t h w"]:
    """Return each token's foreground weight: 1 or 0, and 0 .. 1 for the soft split (paper, SDM).

    `top_k`: the k most salient tokens; of ties the lower index. `relative`: smoothed 3 x 3, above a
    share of its own peak. `mass`: the smallest set that holds a share of the saliency. `soft`:
    saliency over its peak. A label without any saliency has no foreground, except under `top_k`.
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
        count = foreground_count(n, config.saliency_top_share)
        chosen = (torch.arange(n, device=flat.device) < count).expand_as(flat)
    else:
        # A token belongs to the smallest set if the more salient ones do not reach the share.
        cumulated = ranked.cumsum(-1)
        chosen = cumulated - ranked < config.saliency_mass * cumulated[..., -1:]
    foreground = torch.zeros_like(flat).scatter(-1, order, chosen.to(flat.dtype))
    return rearrange(foreground, "b t (h w) -> b t h w", h=saliency.shape[-2])
