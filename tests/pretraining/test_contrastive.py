"""Contrastive learning: mosaics, pooling and losses against naive loops."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from disa.pretraining.contrastive import contrastive, mosaics, pool_quarters, quarters, same_caption


@given(down=st.integers(0, 5), right=st.integers(0, 5))
@settings(max_examples=12, deadline=None)
def test_quarters_tell_which_card_a_token_shows(down, right):
    patch, grid = 2, 6
    cards = torch.arange(8.0)[:, None, None, None].expand(8, 3, 6, 6).contiguous()
    pictures = mosaics(cards, (down, right), patch)
    shown = quarters(grid, (down, right)).view(grid, grid)
    for number, picture in enumerate(pictures):
        tokens = picture[0, ::patch, ::patch]
        torch.testing.assert_close(tokens, 4.0 * number + shown)


def test_pooling_equals_a_loop():
    torch.manual_seed(0)
    similarity, shown = torch.randn(3, 10, 12), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 3, 3])
    pooled = pool_quarters(similarity, shown, 10.0)
    for b in range(3):
        for q in range(4):
            for m in range(12):
                own = similarity[b, shown == q, m]
                expected = (torch.exp(10 * own) / torch.exp(10 * own).sum() * own).sum()
                torch.testing.assert_close(pooled[4 * b + q, m], expected)


def test_without_equal_captions_the_loss_is_clips():
    torch.manual_seed(0)
    logits = torch.randn(7, 7)
    right = torch.arange(7)
    expected = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    torch.testing.assert_close(contrastive(logits, torch.eye(7, dtype=torch.bool)), expected)


def test_equal_captions_are_no_negatives():
    ids = torch.tensor([[0, 5, 1], [0, 6, 1], [0, 5, 1]])
    same = same_caption(ids)
    assert same.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    high = torch.where(same, 9.0, -9.0)
    only_own = torch.where(torch.eye(3, dtype=torch.bool), 9.0, -9.0)
    assert contrastive(high, same) < contrastive(only_own, same)
