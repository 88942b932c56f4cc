"""Attention against loops, and the padding of the linear one against padding in earnest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disa.model.attention import EPSILON, CategoryAttention, Padding, attend, linear_attention


def naive(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Linear attention of one head, token by token: `t e` each."""
    query, key = (
        torch.where(query > 0, query + 1, query.exp()),
        torch.where(key > 0, key + 1, key.exp()),
    )
    out = []
    for one in query:
        weights = torch.stack([one @ other for other in key])
        out.append((weights[:, None] * value).sum(0) / (weights.sum() + EPSILON))
    return torch.stack(out)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 9), st.sampled_from([1, 2, 4]), st.integers(0, 1000))
def test_identical_padding_tokens_are_one_product(t, count, heads, seed):
    torch.manual_seed(seed)
    query, key, value = (torch.randn(3, t, 8) for _ in range(3))
    pad_key, pad_value = torch.randn(8), torch.randn(8)
    mixed = linear_attention(query, key, value, heads, Padding(count, pad_key, pad_value))
    padded_key = torch.cat([key, pad_key.expand(3, count, 8)], 1)
    padded_value = torch.cat([value, pad_value.expand(3, count, 8)], 1)
    for m in range(3):
        for head in range(heads):
            part = slice(head * 8 // heads, (head + 1) * 8 // heads)
            expected = naive(query[m, :, part], padded_key[m, :, part], padded_value[m, :, part])
            torch.testing.assert_close(mixed[m, :, part], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("labels", [1, 5, 10, 12])
def test_category_attention_as_published_with_256_tokens_computed(labels):
    torch.manual_seed(0)
    layer = CategoryAttention(channels=8, guidance=4, heads=2, padding=10)
    torch.nn.init.normal_(layer.padding_token)
    torch.nn.init.normal_(layer.padding_guidance)
    x, guidance = torch.randn(1, 3, labels, 8), torch.randn(1, labels, 4)
    refined, missing = layer(x, layer.guide(guidance)), max(0, 10 - labels)
    padded = torch.cat([guidance[0], layer.padding_guidance.expand(missing, 4)])
    for position in range(3):
        tokens = torch.cat([x[0, position], layer.padding_token.expand(missing, 8)])
        normed = layer.norm1(tokens)
        joined = torch.cat([normed, padded], -1)
        query, key, value = layer.query(joined), layer.key(joined), layer.value(normed)
        heads = [
            naive(query[:, part], key[:, part], value[:, part])
            for part in (slice(0, 4), slice(4, 8))
        ]
        tokens = tokens + torch.cat(heads, -1)
        tokens = tokens + layer.mlp(layer.norm2(tokens))
        torch.testing.assert_close(refined[0, position], tokens[:labels], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_softmax_attention_is_the_same_by_products_and_by_the_fused_kernel(biased):
    query, key, value = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    bias = torch.randn(2, 1, 4, 5) if biased else None
    products = attend(query, key, value, bias)
    with torch.no_grad():
        fused = attend(query, key, value, bias)
    torch.testing.assert_close(products, fused)
    scores = torch.stack([query[0, 1, 2] @ key[0, 1, n] / 8**0.5 for n in range(5)])
    scores = scores if bias is None else scores + bias[0, 0, 2]
    torch.testing.assert_close(products[0, 1, 2], scores.softmax(0) @ value[0, 1])
