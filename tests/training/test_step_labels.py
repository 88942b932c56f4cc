"""Which labels take part in a step, and targets among them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from disa.config import IGNORED
from disa.training.batches import choose_labels, relabel

LABELS = 22


def test_chosen_labels_hold_those_present_and_as_many_absent_as_fit() -> None:
    present = torch.zeros(LABELS, dtype=torch.bool)
    present[[3, 17]] = True
    chosen = choose_labels(present, 6, step=4, seed=0)
    assert len(chosen) == 6
    assert {3, 17} <= set(chosen.tolist())
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.equal(chosen, choose_labels(present, 6, step=4, seed=0))
    assert not torch.equal(chosen, choose_labels(present, 6, step=5, seed=0))
    assert choose_labels(present, 1, step=4, seed=0).tolist() == [3, 17]
    assert choose_labels(present, 0, step=4, seed=0).tolist() == list(range(LABELS))


def test_relabel_counts_among_the_chosen() -> None:
    target = torch.tensor([[[3, 17, IGNORED, 5]]])
    assert relabel(target, torch.tensor([2, 3, 17])).tolist() == [[[1, 2, IGNORED, IGNORED]]]


@given(
    st.lists(st.integers(-1, 846), min_size=1, max_size=40), st.integers(1, 900), st.integers(0, 5)
)
def test_large_vocabularies_keep_every_pixel_of_what_is_present(
    values: list[int], categories: int, step: int
) -> None:
    target = torch.tensor([[values]])
    present = torch.zeros(847, dtype=torch.bool)
    present[[value for value in values if value != IGNORED]] = True
    chosen = choose_labels(present, categories, step=step, seed=0)
    assert len(chosen) == min(847, max(categories, int(present.sum())))
    found = relabel(target, chosen).flatten().tolist()
    assert [IGNORED if label == IGNORED else int(chosen[label]) for label in found] == values
