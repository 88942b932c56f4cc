import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disa.evaluation.counts import WIDTH, Boundary, band

IGNORED = 65535


def random_map(seed: int, size: tuple[int, int]) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (1, *size), generator=draw)
    labels[torch.rand(labels.shape, generator=draw) < 0.7] = 0  # regions, not noise
    labels[torch.rand(labels.shape, generator=draw) < 0.2] = IGNORED
    return labels


def naive_band(labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    height, width = labels.shape
    reach = max(1, round(WIDTH * math.hypot(height, width)))
    found = torch.zeros_like(labels, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - reach), y + reach + 1)
            columns = slice(max(0, x - reach), x + reach + 1)
            near = labels[rows, columns][known[rows, columns]]
            found[y, x] = known[y, x] and bool((near != labels[y, x]).any())
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 14), st.integers(1, 130))
def test_agrees_with_a_naive_search_where_pixels_are_ignored(
    seed: int, height: int, width: int
) -> None:
    target = random_map(seed, (height, width))
    prediction = random_map(seed + 1, (height, width)) % 3
    known = target != IGNORED
    true, found = naive_band(target[0], known[0]), naive_band(prediction[0], known[0])
    assert torch.equal(band(target, known)[0], true)
    boundary = Boundary(3, IGNORED)
    boundary.update(prediction, target)
    for category in range(3):
        one, other = true & (target[0] == category), found & (prediction[0] == category)
        wanted = (one & other).sum() / (one | other).sum() if one.any() else torch.tensor(torch.nan)
        assert boundary.iou[category].item() == pytest.approx(wanted.item(), nan_ok=True)


def test_the_border_of_an_ignored_region_is_no_outline() -> None:
    target = torch.zeros(1, 60, 60, dtype=torch.long)
    target[:, 20:40, 20:40] = IGNORED
    assert not band(target, target != IGNORED).any()
    boundary = Boundary(2, IGNORED)
    # What is predicted where nothing is known does not count.
    boundary.update(torch.where(target == IGNORED, 1, 0), target)
    assert boundary.counts.sum() == 0
    assert boundary.iou.isnan().all()


def test_an_outline_under_a_narrow_void_is_seen_across_it() -> None:
    target = torch.zeros(1, 100, 100, dtype=torch.long)
    target[:, :, 50:] = 1
    target[:, :, 49:51] = IGNORED  # as VOC draws it
    exact = Boundary(2, IGNORED)
    exact.update(torch.where(torch.arange(100) < 50, 0, 1).expand(1, 100, 100), target)
    assert exact.iou.tolist() == [1, 1]


def test_boundary_iou_of_the_truth_is_one_and_of_a_shift_is_less() -> None:
    target = torch.zeros(1, 120, 120, dtype=torch.long)
    target[:, :, 60:] = 1
    exact, shifted, flat = Boundary(3), Boundary(3), Boundary(3)
    exact.update(target, target)
    shifted.update(target.roll(1, 2).index_fill(2, torch.tensor([0]), 0), target)
    flat.update(torch.zeros_like(target), target)
    assert exact.iou[:2].tolist() == [1, 1]
    assert exact.iou[2].isnan()
    assert all(0 < value < 1 for value in shifted.iou[:2].tolist())
    assert flat.iou[:2].tolist() == [0, 0]
