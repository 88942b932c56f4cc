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
from disa.model.matching import Norm, matching_head

# Attention logit per unit of cosine at the start: the best tokens stand out, and none rules alone.
_START_SHARPNESS = 10.0


class Saliency(NamedTuple):
    """What the cross-attention says about each label of each image."""

    saliency: Float[Tensor, "b t n"]  # >= 0, unnormalised
    matched: Float[Tensor, "b t"]  # logit: does the image show the label?
    attention: Float[Tensor, "b t a n"]  # of the last layer, sums to 1 over the tokens


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
        self.head = matching_head(config, d)
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
