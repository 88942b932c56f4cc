import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from disa.inference.protocol import Layout, Protocol, Window, tile
from disa.inference.windows import blend, cut, stitch, strongest

SIDE, PATCH = 24, 8


pictures = st.tuples(
    st.integers(5, 150), st.integers(5, 150), st.floats(0, 0.95)
)  # height, width, overlap


def sliding(picture: tuple[int, int, float]) -> Layout:
    """Windows of 24 pixels, patches of 8."""
    height, width, overlap = picture
    return Protocol("windows", overlap=overlap).layout(height, width, SIDE, PATCH)


def logits(layout: Layout, count: int = 2, seed: int = 0) -> Tensor:
    height, width = (side // PATCH * 4 for side in layout.view)
    return torch.randn(
        layout.views, count, height, width, generator=torch.Generator().manual_seed(seed)
    )


@settings(max_examples=60)
@given(pictures)
def test_windows_cover_the_canvas_and_nothing_else(picture: tuple[int, int, float]):
    layout = sliding(picture)
    covered = torch.zeros(layout.canvas)
    for top, left, height, width in layout.windows:
        assert (height, width) == layout.view == (SIDE, SIDE)
        assert (
            top >= 0
            and left >= 0
            and top + height <= layout.canvas[0]
            and left + width <= layout.canvas[1]
        )
        assert top % PATCH == left % PATCH == 0
        covered[top : top + height, left : left + width] += 1
    assert covered.min() >= 1
    assert len(set(layout.windows)) == len(layout.windows)


@settings(max_examples=30)
@given(pictures, st.floats(-5, 5))
def test_a_constant_stays_that_constant(picture: tuple[int, int, float], value: float):
    layout = sliding(picture)
    everywhere = torch.full((layout.views, 1, 12, 12), value)
    blended = blend(layout, everywhere)
    torch.testing.assert_close(blended, torch.full_like(blended, value).sigmoid())
    tokens = stitch(layout, everywhere[..., :3, :3])
    assert (
        tokens.shape == (1, layout.canvas[0] // PATCH, layout.canvas[1] // PATCH)
        or layout.views == 1
    )
    torch.testing.assert_close(tokens, torch.full_like(tokens, value))


@settings(max_examples=20)
@given(pictures, st.integers(0, 1000))
def test_blending_is_the_mean_of_all_windows_over_each_pixel(
    picture: tuple[int, int, float], seed: int
):
    layout = sliding(picture)
    answers = logits(layout, seed=seed)
    if layout.views == 1:
        assert torch.equal(blend(layout, answers), answers[0].sigmoid())
        return
    maps = interpolate(answers, layout.view, mode="bilinear", align_corners=False).sigmoid()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        y, x = (int(torch.randint(0, side, (1,), generator=generator)) for side in layout.canvas)
        seen = [
            view[:, y - top, x - left]
            for (top, left, height, width), view in zip(layout.windows, maps, strict=True)
            if top <= y < top + height and left <= x < left + width
        ]
        torch.testing.assert_close(blend(layout, answers)[:, y, x], torch.stack(seen).mean(0))


def test_views_are_the_windows_pixels_in_batches_of_any_size():
    layout = Protocol("windows", overlap=0.5).layout(40, 56, SIDE, PATCH)
    picture = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    expected = torch.stack(
        [picture[:, t : t + h, left : left + w] for t, left, h, w in layout.windows]
    ).float()
    for batch in (1, 2, 100):
        parts = list(cut(layout, picture, batch))
        assert max(map(len, parts)) <= batch
        assert torch.equal(torch.cat(parts), expected)


def test_stitched_tokens_are_averaged_where_windows_overlap():
    layout = Layout(
        (8, 24), tile((8, 24), 16, 8), (8, 16)
    )  # two windows of 1 x 2 tokens, one token shared
    assert layout.windows == (Window(0, 0, 8, 16), Window(0, 8, 8, 16))
    tokens = torch.tensor([[1.0, 3], [5, 7]]).view(2, 1, 1, 2)
    assert stitch(layout, tokens).flatten().tolist() == [1, 4, 7]


def test_the_published_protocol_is_four_windows_and_an_overview():
    layout = Protocol("cat-seg").layout(300, 500, 336, 14)
    assert [window[:2] for window in layout.windows] == [(0, 0), (0, 256), (256, 0), (256, 256)]
    assert layout.views == 5 and layout.view == (336, 336) and layout.canvas == (640, 640)
    answers = torch.randn(5, 3, 96, 96)
    apart = blend(layout._replace(overview=False), answers[:4])
    overview = interpolate(
        interpolate(answers[4:], (384, 384), mode="bilinear").sigmoid(), (640, 640), mode="bilinear"
    )
    torch.testing.assert_close(blend(layout, answers), (apart + overview[0]) / 2)
    assert torch.equal(stitch(layout, answers), answers[4])
    assert torch.equal(strongest(layout, answers[:, :, 0, 0]), answers[4, :, 0, 0])


def test_a_label_is_in_the_picture_if_it_is_in_one_window():
    layout = Layout((8, 24), tile((8, 24), 16, 8), (8, 16))
    assert strongest(layout, torch.tensor([[1.0, -2], [-3, 4]])).tolist() == [1, 4]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(300, 352, (640, 751)), (100, 1000, (256, 2560)), (640, 640, (640, 640))],
)
def test_pictures_are_resized_as_published(height: int, width: int, expected: tuple[int, int]):
    from disa.inference.protocol import shortest_edge

    assert shortest_edge(height, width) == expected
