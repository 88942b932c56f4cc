"""Labels a few at a time: the numbers of all together, and no more rows at once than fit."""

import pytest
import torch

from disa.model import few


@torch.no_grad()
@pytest.mark.parametrize("recipe", ["mini", "vit-b-16", "vit-b-16-baseline"])
@pytest.mark.parametrize("cache", [1, 40_000])
def test_parts_change_no_number(make, text, pixels, monkeypatch, recipe, cache):
    model, embeddings = make(recipe), text(7)
    together = model(pixels, embeddings)
    monkeypatch.setattr(few, "CACHE", cache)
    for one, other in zip(model(pixels, embeddings), together, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_parts_have_no_more_rows_than_fit(monkeypatch):
    monkeypatch.setattr(few, "CACHE", 3 * 2 * 10 * 4)  # three rows of 10 numbers, two images
    seen = []

    def double(one, other):
        seen.append(one.shape[1])
        return 2 * one + other

    one, other = torch.rand(2, 8, 5), torch.rand(2, 8, 5)
    result = few.a_few_at_a_time(double, one, other, widest=10)
    assert seen == [3, 3, 2]
    torch.testing.assert_close(result, 2 * one + other)


def test_with_gradients_all_rows_go_together(monkeypatch):
    monkeypatch.setattr(few, "CACHE", 1)
    values = torch.rand(1, 8, 5, requires_grad=True)
    result = few.a_few_at_a_time(lambda x: x.cumsum(1), values, widest=5)
    torch.testing.assert_close(result, values.cumsum(1))


@torch.no_grad()
def test_a_transposed_view_is_answered_in_its_own_layout(monkeypatch):
    monkeypatch.setattr(few, "CACHE", 1)
    values = torch.rand(2, 3, 8, 5).transpose(1, 2)
    result = few.a_few_at_a_time(torch.neg, values, widest=15)
    torch.testing.assert_close(result, -values)
    assert result.stride() == values.stride()
