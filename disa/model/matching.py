"""Matching heads: does an image show a label, and what gradient does the answer give."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.split import tiny

# Matched logit per unit of cosine at the start, and minus the cosine at which it is 0.
_START_SCALE = 10.0
_START_BIAS = -0.3
# Added to the mean square in `Norm`.
_EPSILON = 1e-6


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


def matching_head(config: ModelConfig, d: int) -> CompareHead | LinearHead:
    """Return the head that the config names. Raises `DisaError` for one that has no scale."""
    if config.saliency_itm_head == "linear":
        if config.saliency_trains == "scale":
            raise DisaError("saliency_itm_head=linear has no scale: use product or compare")
        return LinearHead(d)
    if config.saliency_itm_head == "product":
        return ProductHead(d, config.saliency_layers)
    return CompareHead(d)
