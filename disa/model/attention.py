"""The attention that the network is built from: softmax, linear, and guided by CLIP."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-6  # added to the denominator of linear attention [B]


def attend(
    query: Float[Tensor, "m a n e"],
    key: Float[Tensor, "m a k e"],
    value: Float[Tensor, "m a k e"],
    bias: Float[Tensor, "#m #a #n k"] | None = None,
) -> Float[Tensor, "m a n e"]:
    """Return `softmax(q k^T / sqrt(e) + bias) v`; a bias of minus infinity hides a key."""
    # On a CPU the backward pass of the fused kernel is slow for narrow heads: plain products train
    # 1.5 times as fast, 7 times in 16 bit. Elsewhere the kernel saves the attention map's memory.
    if torch.is_grad_enabled() and query.device.type == "cpu":
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        return scores.softmax(-1).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class Padding(NamedTuple):
    """`times` identical padding tokens. They add identical terms, so their sum is a product."""

    times: int
    key: Float[Tensor, " c"]
    value: Float[Tensor, " c"]


def linear_attention(
    query: Float[Tensor, "m t c"],
    key: Float[Tensor, "m t c"],
    value: Float[Tensor, "m t c"],
    heads: int,
    padding: Padding | None = None,
) -> Float[Tensor, "m t c"]:
    """Return `f(q) (sum_t f(k) v^T) / f(q) (sum_t f(k))` with `f(x) = elu(x) + 1`.

    The sums run over the `t` tokens and the padding. The baseline appends padding tokens; here
    their terms are added to the sums, with the same result (baseline quirk 18, decision D20).
    """
    # f is positive, so all weights are, and dividing by their sum takes the softmax's place.
    query = F.elu(rearrange(query, "m t (a e) -> m a t e", a=heads)) + 1
    key = F.elu(rearrange(key, "m t (a e) -> m a t e", a=heads)) + 1
    value = rearrange(value, "m t (a e) -> m a t e", a=heads)

    # Both sums are over tokens, so the cost grows with t, not with its square.
    summary = key.transpose(-1, -2) @ value  # m a e e
    total = key.sum(-2)  # m a e
    if padding is not None and (torch.compiler.is_exporting() or padding.times > 0):
        pad_key = F.elu(rearrange(padding.key, "(a e) -> a e", a=heads)) + 1
        pad_value = rearrange(padding.value, "(a e) -> a e", a=heads)
        summary = summary + padding.times * pad_key[..., :, None] * pad_value[..., None, :]
        total = total + padding.times * pad_key

    weight = query @ total[..., None] + EPSILON
    return rearrange(query @ summary / weight, "m a t e -> m t (a e)")


class GuidedProjection(nn.Module):
    """Queries and keys of `[norm(x), guidance]`, values of `norm(x)` alone [B].

    Both attention blocks of the refinement extend it. They inherit its layers, so that these keep
    the names that published checkpoints are mapped to.
    """

    def __init__(self, channels: int, guidance: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.query = nn.Linear(channels + guidance, channels)
        self.key = nn.Linear(channels + guidance, channels)
        self.value = nn.Linear(channels, channels)

    def queries_keys_values(
        self,
        x: Float[Tensor, "*rest n c"],
        guidance: Float[Tensor, "*shared n g"],
        shared_axis: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value of the normed `x`, each shaped as `x`.

        The guidance is the same along the axis `shared_axis` of `x`, and lacks this axis. As
        `W [x, guidance] = W_x x + W_g guidance`, its product is computed once (decision D24).
        """
        channels = x.shape[-1]

        # W_x of all three, in one product.
        own = torch.cat(
            [self.query.weight[:, :channels], self.key.weight[:, :channels], self.value.weight]
        )
        query, key, value = F.linear(self.norm1(x), own).chunk(3, -1)

        # W_g guidance; the values do not see it.
        shared_query = F.linear(guidance, self.query.weight[:, channels:], self.query.bias)
        shared_key = F.linear(guidance, self.key.weight[:, channels:], self.key.bias)
        return (
            query + shared_query.unsqueeze(shared_axis),
            key + shared_key.unsqueeze(shared_axis),
            value + self.value.bias,
        )


class CategoryAttention(GuidedProjection):
    """A transformer layer between labels, at every position alone, guided by their texts [B].

    `y = x + attention(x)`, then `y + MLP(norm(y))`. Up to `padding` labels are filled up with a
    learned token, which stands for the labels that nobody names.
    """

    def __init__(self, channels: int, guidance: int, heads: int, padding: int) -> None:
        super().__init__(channels, guidance)
        self.heads = heads
        self.padding = padding
        self.padding_token = nn.Parameter(torch.zeros(channels))
        self.padding_guidance = nn.Parameter(torch.zeros(guidance))
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels)
        )

    def forward(
        self, x: Float[Tensor, "b n t c"], guidance: Float[Tensor, "#b t g"]
    ) -> Float[Tensor, "b n t c"]:
        """Return the refined labels, with both residuals."""
        # The text is the same at all positions: axis 1 of `x`.
        query, key, value = self.queries_keys_values(x, guidance, shared_axis=1)

        # Every position attends among its own labels: positions join the batch.
        positions = x.shape[1]
        query = rearrange(query, "b n t c -> (b n) t c")
        key = rearrange(key, "b n t c -> (b n) t c")
        value = rearrange(value, "b n t c -> (b n) t c")
        mixed = linear_attention(query, key, value, self.heads, self._padding(x.shape[2]))

        # There is no projection of the mixed values [B].
        x = x + rearrange(mixed, "(b n) t c -> b n t c", n=positions)
        return x + self.mlp(self.norm2(x))

    def _padding(self, labels: int) -> Padding:
        """Return the padding tokens as the layer's own projections see them."""
        token = self.norm1(self.padding_token)
        key = self.key(torch.cat([token, self.padding_guidance]))
        return Padding(torch.sym_max(0, self.padding - labels), key, self.value(token))
