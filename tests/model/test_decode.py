"""The decoder's fused upsampling against the published sequence of layers."""

import pytest
import torch
import torch.nn.functional as F

from disa.model.decode import Decode, Step


def published(step: Step, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
    """Upsample, concatenate, two convolutions with group norm and ReLU: one label of one image."""
    x = torch.cat([step.up(x[None]), guidance[None]], 1)
    x = F.relu(step.norm1(step.conv1(x)))
    return F.relu(step.norm2(step.conv2(x)))[0]


@torch.no_grad()
@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (6, 6)])
@pytest.mark.parametrize("channels", [(8, 5, 3, 6), (16, 12, 4, 32)])
def test_step(grid, channels):
    torch.manual_seed(0)
    step = Step(*channels)
    for norm in (step.norm1, step.norm2):
        torch.nn.init.normal_(norm.weight, 1, 0.3)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
    assert step.norm1.num_groups == max(1, channels[3] // 16)
    x, guidance = (
        torch.randn(2, 3, channels[0], *grid),
        torch.randn(2, channels[2], 2 * grid[0], 2 * grid[1]),
    )
    upsampled = step(x, step.guide(guidance), step.joined_kernel())
    for b in range(2):
        for t in range(3):
            torch.testing.assert_close(
                upsampled[b, t], published(step, x[b, t], guidance[b]), rtol=1e-4, atol=1e-5
            )


@torch.no_grad()
@pytest.mark.parametrize("details", [0, 3])
def test_decoder(small, details):
    torch.manual_seed(0)
    decode = Decode(small(decode_detail_channels=details), v=24)
    cost, image = torch.randn(2, 3, 8, 3, 4), torch.randn(2, 3, 24, 32)
    first, second = torch.randn(2, 24, 3, 4), torch.randn(2, 24, 3, 4)
    logits = decode(cost, decode.guide(first, second, image))
    assert logits.shape == (2, 3, 12, 16)
    near = F.relu(decode.guidance1(decode.upsample1(first)))
    far = F.relu(decode.guidance2(decode.upsample2(second)))
    if details:
        detail = decode.detail(image)
        quarter = detail.unflatten(3, (8, 4)).unflatten(2, (6, 4)).mean((3, 5))
        half = detail.unflatten(3, (16, 2)).unflatten(2, (12, 2)).mean((3, 5))
        near = torch.cat([near, quarter], 1)
        far = torch.cat([far, half], 1)
    for b in range(2):
        for t in range(3):
            x = published(decode.step2, published(decode.step1, cost[b, t], near[b]), far[b])
            torch.testing.assert_close(
                logits[b, t], decode.head(x[None])[0, 0], rtol=1e-4, atol=1e-5
            )


@torch.no_grad()
def test_things_grow_to_the_edge_of_the_image_that_runs_through_a_token(small):
    decode = Decode(small(decode_detail_channels=1, decode_enlarge=True), v=24)
    decode.enlarge.query = torch.nn.Conv2d(1, 1, 1, bias=False)
    torch.nn.init.constant_(decode.enlarge.query.weight, 3)
    # 6 tokens of 8 pixels; the thing begins in the middle of the fourth, at pixel 28.
    is_thing = torch.arange(48).expand(48, 48) >= 28
    mix = decode.enlarge.weights(torch.where(is_thing, 1.0, -1.0)[None, None], 2)
    tokens = torch.tensor([-1.0, -1.0, -1.0, -0.2, 1.0, 1.0]).expand(1, 6, 6)
    grown = decode.grow(tokens, mix)
    assert grown.shape == (1, 48, 48)
    once = decode.enlarge(F.interpolate(tokens[None], (24, 24), mode="bilinear"), mix)[0]
    wrong = ((grown[0] > 0) != is_thing).sum()
    assert wrong < ((once[0] > 0) != is_thing).sum()
    assert wrong == 0
