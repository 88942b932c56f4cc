"""Each refinement against a loop."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from disa.model.refine import CategoryRefine, CategoryReweight, Refine, SemanticReweight


def randomise(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


@torch.no_grad()
def test_category_reweighting_scales_each_label_by_its_own_pooled_feature():
    reweight, x = CategoryReweight(8), torch.randn(2, 3, 4, 5, 8)
    assert torch.equal(reweight(x), x)  # the identity at the start
    randomise(reweight)
    scaled = reweight(x)
    squeeze, _, answer = reweight.weigh
    for b in range(2):
        for t in range(3):
            pooled = x[b, t].flatten(0, 1).mean(0)
            hidden = F.linear(pooled, squeeze.weight, squeeze.bias).clamp(min=0)
            weight = 2 / (1 + (-F.linear(hidden, answer.weight, answer.bias)).exp())
            assert weight.shape == (1,)
            torch.testing.assert_close(scaled[b, t], x[b, t] * weight, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_semantic_reweighting_scales_channels_by_what_space_and_labels_hold():
    reweight, x = SemanticReweight(8), torch.randn(2, 3, 4, 5, 8)
    assert torch.equal(reweight(x), x)
    randomise(reweight)
    scaled = reweight(x)
    squeeze, _, answer = reweight.weigh
    for b in range(2):
        pooled = x[b].flatten(0, 2).mean(0)
        hidden = F.linear(pooled, squeeze.weight, squeeze.bias).clamp(min=0)
        weight = 2 / (1 + (-F.linear(hidden, answer.weight, answer.bias)).exp())
        for channel in range(8):
            expected = x[b, ..., channel] * weight[channel]
            torch.testing.assert_close(scaled[b, ..., channel], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (1, 3)])
@pytest.mark.parametrize("pool", [1, 2])
def test_category_refinement_pools_in_training_only_and_counts_its_input_twice(small, grid, pool):
    refine = CategoryRefine(small(refine_pool_train=pool, refine_pool_test=1))
    x, guidance = torch.randn(2, 3, *grid, 8), torch.randn(1, 3, 8)
    coarse = torch.empty(2, 3, -(-grid[0] // pool), -(-grid[1] // pool), 8)
    for row in range(coarse.shape[2]):
        for column in range(coarse.shape[3]):
            cell = x[:, :, row * pool : (row + 1) * pool, column * pool : (column + 1) * pool]
            coarse[:, :, row, column] = cell.mean((2, 3))
    attended = refine.attention(
        rearrange(coarse, "b t h w c -> b (h w) t c"), refine.attention.guide(guidance)
    )
    attended = rearrange(attended, "b (h w) t c -> (b t) c h w", h=coarse.shape[2])
    resized = F.interpolate(attended, grid, mode="bilinear", align_corners=True)
    expected = x + rearrange(resized, "(b t) c h w -> b t h w c", b=2)
    torch.testing.assert_close(refine.train()(x, guidance), expected, rtol=1e-4, atol=1e-5)
    if pool == 2 and grid != (1, 3):
        assert not torch.allclose(refine.eval()(x, guidance), expected, atol=1e-3)


@torch.no_grad()
def test_text_of_each_image_or_of_all(small, text):
    """Where an image keeps its own categories, its text is its own."""
    refine = Refine(small(), 16).eval()
    cost, tokens, guidance = torch.randn(2, 3, 8, 6, 6), torch.randn(2, 16, 6, 6), text(3)[:, 0]
    visual = refine.guide(tokens)
    shared = refine(cost, visual, guidance[None])
    torch.testing.assert_close(refine(cost, visual, guidance.expand(2, -1, -1)), shared)
    other = refine(cost, visual, torch.stack([guidance, guidance.flip(0)]))
    torch.testing.assert_close(other[0], shared[0])
    assert not torch.allclose(other[1], shared[1], atol=1e-4)
