"""Where each label is, and whether it is there at all: cross-attention, matching head, Grad-CAM.

A label looks at tokens only, never at other labels, so its result does not depend on the
vocabulary [D]. Everything starts at the identity, so the untrained module ranks labels as CLIP
does.
"""

import math
from typing import NamedTuple, cast

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from disa.config import ModelConfig
from disa.errors import DisaError

# Attention logit per unit of cosine at the start: the best tokens stand out, and none rules alone.
_START_SHARPNESS = 10.0
# Matched logit per unit of cosine at the start, and minus the cosine at which it is 0.
_START_SCALE = 10.0
_START_BIAS = -0.3
# Added to the mean square in `Norm`.
_EPSILON = 1e-6


class Saliency(NamedTuple):
    """What the cross-attention says about each label of each image."""

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


class TokenHeads(NamedTuple):
    """What the heads of a layer see of an image's tokens, the same for all labels."""

    key: Float[Tensor, "b n a e"]  # what decides how much a token is attended to
    value: Float[Tensor, "b n a e"]  # what is read from it


class _States(NamedTuple):
    """States of one layer behind its attention, which the gradient needs."""

    middle: Float[Tensor, "b t d"]  # after the attention's residual
    hidden: Float[Tensor, "b t m"]  # the MLP before its activation
    out: Float[Tensor, "b t d"]


class CrossAttention(nn.Module):
    """One layer: norm, attention from labels to tokens, residual, norm, 4x MLP, residual [D].

    With label states x and tokens z it computes, head by head,

        A      = softmax(sharpness * cos(W_q norm(x), W_k z))     attend
        middle = x + W_o (A W_v z)                                carry
        out    = middle + contract(gelu(expand(norm(middle))))    carry

    The cosine is exact at the start; then `W_q` and `W_k` learn, and it stays of that size. The
    two methods are apart so that the gradient at `A` can be written down: see `pull_back`.
    """

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

    def read(self, tokens: Float[Tensor, "b n d"]) -> TokenHeads:
        """Return the tokens as every label sees them."""
        key = rearrange(self.key(tokens), "b n (a e) -> b n a e", a=self.heads)
        value = rearrange(self.value(tokens), "b n (a e) -> b n a e", a=self.heads)
        return TokenHeads(key, value)

    def attend(
        self, x: Float[Tensor, "b t d"], key: Float[Tensor, "b n a e"]
    ) -> Float[Tensor, "b t a n"]:
        """Return the attention of every label and head over the tokens."""
        query = rearrange(self.query(self.query_norm(x)), "b t (a e) -> b t a e", a=self.heads)

        # The normed query has length sqrt(d), and a head sees one part in `a` of the product: the
        # factor a / sqrt(d) makes a cosine of it, which the learned sharpness then scales.
        scale = self.log_sharpness.exp() * (self.heads / math.sqrt(x.shape[-1]))
        scores = einsum(query * scale[:, None], key, "b t a e, b n a e -> b t a n")
        return scores.softmax(-1)

    def carry(
        self,
        x: Float[Tensor, "b t d"],
        attention: Float[Tensor, "b t a n"],
        values: Float[Tensor, "b n a e"],
    ) -> _States:
        """Apply everything behind the attention map, which is done for each label alone."""
        attended = einsum(attention, values, "b t a n, b n a e -> b t a e")
        middle = x + self.out(rearrange(attended, "b t a e -> b t (a e)"))
        hidden = self.expand(self.mlp_norm(middle))
        return _States(middle, hidden, middle + self.contract(F.gelu(hidden)))

    def pull_back(
        self, states: _States, gradient: Float[Tensor, "b t d"]
    ) -> Float[Tensor, "b t a e"]:
        """Return the gradient at each head's attended value, given that at the layer's output.

        This is the chain rule through `carry`, last step first.
        """
        # GELU is z P(z) with the normal distribution P; its slope is P(z) + z p(z) with the normal
        # density p.
        z = states.hidden
        density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
        slope = 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * density

        # Through the MLP, then past it along the residual, then through the output projection.
        hidden = (gradient @ self.contract.weight) * slope
        normed = hidden @ self.expand.weight
        middle = gradient + self.mlp_norm.pull_back(states.middle, normed)
        return rearrange(middle @ self.out.weight, "b t (a e) -> b t a e", a=self.heads)


class CompareHead(nn.Module):
    """Match what a label attended to with the label's own embedding, by a cosine [D].

    `matched = scale (<attended, own + residual> + bias)` with `own` and `attended` of unit length:
    a scaled similarity, a bias, and a linear residual that starts at zero. Bias and residual are in
    units of a cosine, so that they learn quickly.

    The state `x` behind the last layer began at `own`, so `attended` is the direction of `x - own`.
    Its length does not count, so the gradient is positive for tokens that are better than the
    attended mixture. Once attention rests on the right tokens alone, about half of them get none
    (decision D12).
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(_START_SCALE)))
        self.bias = nn.Parameter(torch.tensor(_START_BIAS))
        self.residual = nn.Parameter(torch.zeros(d))

    def forward(self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]) -> Float[Tensor, "b t"]:
        """Return the matched logit."""
        attended = (x - own) / self.length(x, own)
        similarity = (attended * (own + self.residual)).sum(-1)
        return self.log_scale.exp() * (similarity + self.bias)

    def gradient(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `x`."""
        length = self.length(x, own)
        direction = self.direction(x, own)

        # A unit vector only turns: the part along itself drops out.
        attended = (x - own) / length
        direction = direction - attended * (attended * direction).sum(-1, keepdim=True)
        return direction / length

    def direction(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `attended`."""
        return (self.log_scale.exp() * (own + self.residual)).expand_as(x)

    def length(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t 1"] | int:
        """Return what `x - own` is divided by."""
        length = torch.linalg.vector_norm(x - own, dim=-1, keepdim=True)
        return length.clamp_min(tiny(x.dtype))


class ProductHead(CompareHead):
    """Match by a product: `attended` is the mean over the layers, as long as it comes [D].

    Every token that resembles `own` then gets a gradient (decision D12).
    """

    def __init__(self, d: int, layers: int) -> None:
        super().__init__(d)
        self.layers = layers

    def gradient(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `x`."""
        return self.direction(x, own) / self.layers

    def length(self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]) -> int:
        """Return the number of layers, each of which added to `x` what it attended to."""
        return self.layers


class LinearHead(nn.Module):
    """Read the matched logit off the label's state, for comparison: it memorises the labels [D]."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm = Norm(d)
        self.linear = nn.Linear(d, 1)

    def forward(self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]) -> Float[Tensor, "b t"]:
        """Return the matched logit; `own` is not needed, as `x` holds it."""
        return self.linear(self.norm(x)).squeeze(-1)

    def gradient(
        self, x: Float[Tensor, "b t d"], own: Float[Tensor, "t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return the gradient of the matched logit at `x`."""
        return self.norm.pull_back(x, self.linear.weight.expand_as(x))


class SaliencyModule(nn.Module):
    """Find each label's salient tokens, and whether the image shows it (paper, SDM).

    Grad-CAM is `saliency = mean over heads of A relu(dm / dA)`, with the attention map `A` of the
    last layer and the matched logit `m` [P].
    """

    def __init__(self, config: ModelConfig, d: int) -> None:
        super().__init__()
        self.source = config.saliency_source
        self.differentiable = config.saliency_split == "soft"
        layers = [CrossAttention(d, config.saliency_heads) for _ in range(config.saliency_layers)]
        self.layers = nn.ModuleList(layers)
        self.head = _head(config, d)
        if config.saliency_trains == "scale":
            # The rest stays as it starts, at CLIP's cosines, which hold for every label (D106).
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name in ("head.log_scale", "head.bias"))

    def guide(self, tokens: Float[Tensor, "b d h w"]) -> tuple[TokenHeads, ...]:
        """Return what each layer sees of the tokens, whose lengths do not matter.

        No gradient reaches CLIP.
        """
        # Unit length, so that products are CLIP's cosines.
        tokens = rearrange(tokens.detach(), "b d h w -> b (h w) d")
        tokens = F.normalize(tokens, dim=-1)
        return tuple(layer.read(tokens) for layer in self._layers())

    def forward(self, heads: tuple[TokenHeads, ...], text: Float[Tensor, "t d"]) -> Saliency:
        """Return saliency, matched logit and attention of every label.

        `heads` is what `guide` returns; the length of a text does not matter. No gradient reaches
        CLIP, and only the soft split lets the saliency carry gradients to this module.
        """
        own = F.normalize(text.detach(), dim=-1)

        # Every label starts as its own embedding and adds what it attends to.
        x = own.expand(heads[0].key.shape[0], -1, -1)  # b t d
        layers = self._layers()
        for layer, (key, value) in zip(layers[:-1], heads[:-1], strict=True):
            attention = layer.attend(x, key)
            x = layer.carry(x, attention, value).out

        # The last layer by its parts, which the gradient needs.
        last = layers[-1]
        key, values = heads[-1]
        attention = last.attend(x, key)  # b t a n
        states = last.carry(x, attention, values)
        matched = self.head(states.out, own)  # b t

        # What each head finds at each token, b t a n, then the mean over heads.
        evidence = attention
        if self.source != "attention":
            gradient = self.attention_gradient(last, states, values, own)
            if self.source == "loss_gradient":
                # Of the cross-entropy with "present", softplus(-matched): the sign turns.
                gradient = -torch.sigmoid(-matched)[..., None, None] * gradient
            evidence = attention * gradient.relu()
        saliency = reduce(evidence, "b t a n -> b t n", "mean")

        # The other splits are steps: they pass no gradient on.
        if not self.differentiable:
            saliency = saliency.detach()
        return Saliency(saliency, matched, attention)

    def _layers(self) -> list[CrossAttention]:
        return cast(list[CrossAttention], list(self.layers))

    def attention_gradient(
        self,
        layer: CrossAttention,
        states: _States,
        values: Float[Tensor, "b n a e"],
        own: Float[Tensor, "t d"],
    ) -> Float[Tensor, "b t a n"]:
        """Return the gradient of the matched logit at the layer's attention map, in closed form.

        Behind the attention map `A` a label goes its way alone. With `u` the gradient at a head's
        attended value, `A W_v z`, the gradient at the weight of a token is `<u, W_v z>` of that
        token. No backward pass is needed, so it runs in inference and export (decision D14).
        """
        gradient = layer.pull_back(states, self.head.gradient(states.out, own))
        return einsum(gradient, values, "b t a e, b n a e -> b t a n")


def _head(config: ModelConfig, d: int) -> CompareHead | LinearHead:
    if config.saliency_itm_head == "linear":
        if config.saliency_trains == "scale":
            raise DisaError("saliency_itm_head=linear has no scale: use product or compare")
        return LinearHead(d)
    if config.saliency_itm_head == "product":
        return ProductHead(d, config.saliency_layers)
    return CompareHead(d)


def tiny(dtype: torch.dtype) -> float:
    """Return a number so small that it stands for zero where zero would give infinity.

    It is 1e-30, or 6e-8 in float16, whose numbers go no lower.
    """
    limits = torch.finfo(dtype)
    return max(1e-30, limits.tiny * limits.eps)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, and zero without a gradient where the whole is nothing."""
    is_some = whole > tiny(whole.dtype)
    # The inner `where` matters for the gradient: one over nothing overflows.
    return torch.where(is_some, part / torch.where(is_some, whole, 1), 0)


def foreground_count(n: int, share: float) -> int | Tensor:
    """Return `k = round(share * n)`, but at least one token on each side; 1 where `n` is 1."""
    if torch.compiler.is_exporting():
        # The number of tokens stays free: an ONNX graph rounds tensors, not sizes.
        last = torch.arange(n)[-1]
        return torch.minimum((share * (last + 1).double()).round(), last).clamp_min(1)
    return max(1, min(round(share * n), n - 1))


def split_tokens(
    saliency: Float[Tensor, "b t h w"], config: ModelConfig
) -> Float[Tensor, "b t h w"]:
    """Return each token's foreground weight: 1 or 0, and 0 .. 1 for the soft split (paper, SDM).

    - `top_k`: the k most salient tokens; of ties the lower index;
    - `relative`: tokens whose saliency, smoothed over 3 x 3, is above a share of its own peak;
    - `mass`: the smallest set that holds a share of the saliency;
    - `soft`: saliency over its peak.

    A label without any saliency has no foreground, except under `top_k`.
    """
    if config.saliency_split == "soft":
        return ratio(saliency, saliency.amax((-2, -1), keepdim=True))

    if config.saliency_split == "relative":
        # Borders average over the tokens that there are.
        smooth = F.avg_pool2d(saliency, 3, stride=1, padding=1, count_include_pad=False)
        peak = smooth.amax((-2, -1), keepdim=True)
        return (smooth > config.saliency_relative_threshold * peak).to(saliency.dtype)

    # The others count tokens from the most salient one on; the stable sort settles ties.
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

    # From ranks back to places on the grid.
    foreground = torch.zeros_like(flat).scatter(-1, order, chosen.to(flat.dtype))
    return rearrange(foreground, "b t (h w) -> b t h w", h=saliency.shape[-2])
