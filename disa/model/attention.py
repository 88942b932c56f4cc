"""Attention between tokens, and linear attention between categories, padded with learned tokens. `m t c -> m t c`"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-6


def attend(
    query: Float[Tensor, "m a n e"],
    key: Float[Tensor, "m a k e"],
    value: Float[Tensor, "m a k e"],
    bias: Float[Tensor, "#m #a #n k"] | None = None,
) -> Float[Tensor, "m a n e"]:
    """Return softmax attention; `bias` is added to the scaled scores, minus infinity hides a key.

    Training on a CPU, the plain products are 1.5 times (16 bit: 7 times) as fast for narrow heads as the fused
    kernel's backward pass. Everywhere else the fused kernel saves the memory of the attention map.
    """
    if torch.is_grad_enabled() and query.device.type == "cpu":
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return (scores if bias is None else scores + bias).softmax(-1).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class Padding(NamedTuple):
    """`times` identical padding tokens. Identical tokens add identical terms, so their sum is a product."""

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
    """Return attention with the kernel `elu + 1` in place of the softmax, over `t` tokens and the padding.

    Exact in the padding: equal to appending `padding.times` tokens, without computing them. Baseline quirk 18.
    """
    query, key, value = (rearrange(x, "m t (a e) -> m a t e", a=heads) for x in (query, key, value))
    query, key = F.elu(query) + 1, F.elu(key) + 1
    summary, total = key.transpose(-1, -2) @ value, key.sum(-2)
    if padding is not None and padding.times > 0:
        pad_key = F.elu(rearrange(padding.key, "(a e) -> a e", a=heads)) + 1
        pad_value = rearrange(padding.value, "(a e) -> a e", a=heads)
        summary = summary + padding.times * pad_key[..., :, None] * pad_value[..., None, :]
        total = total + padding.times * pad_key
    weight = query @ total[..., None] + EPSILON
    return rearrange(query @ summary / weight, "m a t e -> m t (a e)")


class CategoryAttention(nn.Module):
    """A transformer layer between categories, at every position alone; text guides queries and keys [B]."""

    def __init__(self, channels: int, guidance: int, heads: int, padding: int) -> None:
        super().__init__()
        self.heads, self.padding = heads, padding
        self.padding_token = nn.Parameter(torch.zeros(channels))
        self.padding_guidance = nn.Parameter(torch.zeros(guidance))
        self.norm1 = nn.LayerNorm(channels)
        self.query = nn.Linear(channels + guidance, channels)
        self.key = nn.Linear(channels + guidance, channels)
        self.value = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels)
        )

    def forward(
        self, x: Float[Tensor, "b n t c"], guidance: Float[Tensor, "#b t g"]
    ) -> Float[Tensor, "b n t c"]:
        """Return the refined categories, with both residuals; no output projection after the attention."""
        normed, n = self.norm1(x), x.shape[1]
        c = x.shape[-1]
        weight = torch.cat([self.query.weight[:, :c], self.key.weight[:, :c], self.value.weight])
        query, key, value = F.linear(normed, weight).chunk(3, -1)
        shared = [
            F.linear(guidance, layer.weight[:, c:], layer.bias)[:, None]
            for layer in (self.query, self.key)
        ]
        query, key, value = (
            rearrange(part, "b n t c -> (b n) t c")
            for part in (query + shared[0], key + shared[1], value + self.value.bias)
        )
        mixed = linear_attention(query, key, value, self.heads, self._pad(x.shape[2]))
        x = x + rearrange(mixed, "(b n) t c -> b n t c", n=n)
        return x + self.mlp(self.norm2(x))

    def _pad(self, count: int) -> Padding:
        token = self.norm1(self.padding_token)
        key = self.key(torch.cat([token, self.padding_guidance]))
        return Padding(max(0, self.padding - count), key, self.value(token))
