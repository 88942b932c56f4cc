"""The attention that the network is built from: softmax, linear, and guided by CLIP."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
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
    """`times` identical padding tokens."""

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

    The sums run over the `t` tokens and the padding. The baseline appends padding tokens; here one
    stands for all of them, with the same result (baseline quirk 18, decision D20). A few tokens are
    weighted one by one, many by sums over them, whose cost grows with `t` and not with its square
    (decision D175).
    """
    positions, tokens, channels = query.shape
    # f is positive, so all weights are, and dividing by their sum takes the softmax's place.
    query = F.elu(query).add_(1)
    key = F.elu(key).add_(1)
    is_exporting = torch.compiler.is_exporting()  # then the number of tokens stays free
    if padding is not None and (is_exporting or padding.times > 0):
        # Weights are linear in the key.
        pad_key = padding.times * (F.elu(padding.key) + 1)
        key = torch.cat([key, pad_key.expand(positions, 1, -1)], 1)
        value = torch.cat([value, padding.value.expand(positions, 1, -1)], 1)

    if not is_exporting and tokens <= channels // heads:
        query, key, value = (
            rearrange(each, "m t (a e) -> m a t e", a=heads) for each in (query, key, value)
        )
        weights = query @ key.transpose(-1, -2)  # m a t t
        weights = weights / (weights.sum(-1, keepdim=True) + EPSILON)
        return rearrange(weights @ value, "m a t e -> m t (a e)")

    # The sums are taken of all channels with all others, and what belongs to two different heads is
    # left out: that is less work than to take the heads apart. In place, it is half of the memory.
    head = torch.eye(heads, device=query.device, dtype=query.dtype)
    head = repeat(head, "a b -> (a e) b", e=channels // heads)  # c a
    summary = (key.transpose(-1, -2) @ value).mul_(head @ head.T)  # m c c
    total = key.sum(-2)  # m c

    mixed = rearrange(query @ summary, "m t (a e) -> m t a e", a=heads)
    weight = query @ (total[..., None] * head) + EPSILON  # m t a
    return rearrange(mixed / weight[..., None], "m t a e -> m t (a e)")


class Guided(NamedTuple):
    """What all labels, or all positions, of a guided projection share."""

    weight: Float[Tensor, "c3 c"]  # from `x` to query, key and value
    added: Float[Tensor, "*shared n c3"]  # what the guidance adds to them, and all biases


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

    def share(self, guidance: Float[Tensor, "*shared n g"]) -> Guided:
        """Return what is computed once, however many `x` follow (decision D24).

        As `W [x, guidance] = W_x x + W_g guidance`, the guidance has a product of its own.
        """
        # W_x of all three, for one product.
        channels = self.value.in_features
        weight = torch.cat(
            [self.query.weight[:, :channels], self.key.weight[:, :channels], self.value.weight]
        )

        # W_g guidance; the values do not see it.
        query = F.linear(guidance, self.query.weight[:, channels:], self.query.bias)
        key = F.linear(guidance, self.key.weight[:, channels:], self.key.bias)
        value = self.value.bias.to(key.dtype).expand_as(key)
        return Guided(weight, torch.cat([query, key, value], -1))

    def queries_keys_values(
        self, x: Float[Tensor, "*rest n c"], guided: Guided
    ) -> Float[Tensor, "*rest n c3"]:
        """Return query, key and value of the normed `x`, side by side.

        The guidance has the axes of `x`; those along which it is the same have the length 1.
        """
        joined = F.linear(self.norm1(x), guided.weight)
        # In place: a second tensor of that size would take as long as the product.
        return joined.add_(guided.added)


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
            nn.Linear(channels, 4 * channels),
            nn.ReLU(inplace=True),
            nn.Linear(4 * channels, channels),
        )

    def guide(self, text: Float[Tensor, "#b t g"]) -> Guided:
        """Return what the text tells all positions, axis 1 of `x`."""
        return self.share(text[:, None])

    def forward(self, x: Float[Tensor, "b n t c"], guided: Guided) -> Float[Tensor, "b n t c"]:
        """Return the refined labels, with both residuals; `guided` is what `guide` returns."""
        joined = self.queries_keys_values(x, guided)

        # Every position attends among its own labels: positions join the batch.
        positions = x.shape[1]
        query, key, value = rearrange(joined, "b n t (s c) -> s (b n) t c", s=3)
        mixed = linear_attention(query, key, value, self.heads, self._padding(x.shape[2]))

        # There is no projection of the mixed values [B].
        x = x + rearrange(mixed, "(b n) t c -> b n t c", n=positions)
        return x + self.mlp(self.norm2(x))

    def _padding(self, labels: int) -> Padding:
        """Return the padding tokens as the layer's own projections see them."""
        token = self.norm1(self.padding_token)
        key = self.key(torch.cat([token, self.padding_guidance]))
        return Padding(torch.sym_max(0, self.padding - labels), key, self.value(token))
