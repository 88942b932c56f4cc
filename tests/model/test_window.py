"""Window attention against dense attention with a mask, on grids of every shape."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disa.model.window import Tiling, WindowBlock


def neighbours(grid: tuple[int, int], window: int, shifted: bool) -> torch.Tensor:
    """Return for every pair of tokens whether they share a window, straight from the definition.

    A shifted grid is cut at `window - shift` instead of 0: the first and the last window of a side
    are cut short.
    """

    def bands(side: int) -> list[int]:
        if side <= window:
            return [0] * side
        shift = window // 2 if shifted else 0
        return [(position - shift) // window for position in range(side)]

    rows, columns = bands(grid[0]), bands(grid[1])
    place = [(row, column) for row in rows for column in columns]
    return torch.tensor([[one == other for other in place] for one in place])


def dense(
    block: WindowBlock, x: torch.Tensor, guidance: torch.Tensor, allowed: torch.Tensor
) -> torch.Tensor:
    """The same block on one category, all tokens at once."""
    normed = block.norm1(x)
    joined = torch.cat([normed, guidance], -1)
    width = x.shape[-1] // block.heads
    mixed = []
    for head in range(block.heads):
        part = slice(head * width, (head + 1) * width)
        query, key = block.query(joined)[:, part], block.key(joined)[:, part]
        scores = (query @ key.T / width**0.5).masked_fill(~allowed, -torch.inf)
        mixed.append(scores.softmax(-1) @ block.value(normed)[:, part])
    x = x + block.project(torch.cat(mixed, -1))
    return x + block.mlp(block.norm2(x))


@torch.no_grad()
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    "grid", [(8, 8), (4, 4), (3, 3), (9, 8), (8, 6), (5, 7), (1, 9), (2, 3), (12, 4)]
)
def test_windows_equal_dense_attention_with_a_mask(grid, shifted):
    torch.manual_seed(0)
    block = WindowBlock(channels=6, guidance=4, heads=2, window=4, shifted=shifted)
    x, guidance = torch.randn(2, 3, *grid, 6), torch.randn(2, *grid, 4)
    refined = block(x, block.guide(guidance))
    allowed = neighbours(grid, 4, shifted)
    for b in range(2):
        for t in range(3):
            expected = dense(block, x[b, t].flatten(0, 1), guidance[b].flatten(0, 1), allowed)
            torch.testing.assert_close(refined[b, t].flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_products_in_training_equal_the_fused_kernel_in_evaluation():
    torch.manual_seed(0)
    block = WindowBlock(channels=6, guidance=4, heads=2, window=4, shifted=True)
    x, guidance = torch.randn(2, 3, 7, 8, 6), torch.randn(2, 7, 8, 4)
    with torch.no_grad():
        fused = block(x, block.guide(guidance))
    torch.testing.assert_close(block(x, block.guide(guidance)).detach(), fused)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_cutting_and_joining_is_the_identity(height, width, window, shifted):
    tiling = Tiling.of((height, width), window, shifted)
    x = torch.randn(2, height, width, 3)
    assert torch.equal(tiling.join(tiling.cut(x)), x)


def test_the_published_grid_needs_no_padding_and_shifts_by_six():
    plain, shifted = Tiling.of((24, 24), 12, False), Tiling.of((24, 24), 12, True)
    assert plain.mask(torch.device("cpu")) is None
    assert shifted.shift == (6, 6) and shifted.padded == (24, 24)
    assert shifted.mask(torch.device("cpu")).float().mean() == (1 + 0.5 + 0.5 + 0.25) / 4
