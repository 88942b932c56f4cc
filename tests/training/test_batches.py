"""Batches are the same whatever processes prepare them; labels of a step, targets among them."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from small_run import small_settings

from disa.config import IGNORED
from disa.training.augment import Sample
from disa.training.batches import Batch, choose_labels, relabel, training_batches
from disa.training.settings import TrainConfig
from disa.training.training_data import DrawnScenes

SETTINGS = small_settings(steps=3, batch=3)


def batches(settings: TrainConfig, start: int) -> list[Batch]:
    with training_batches(DrawnScenes(settings, 32), settings, start) as prepared:
        return list(prepared)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_what_is_seen(workers: int) -> None:
    alone = batches(SETTINGS, 0)
    shared = batches(replace(SETTINGS, workers=workers), 0)
    assert len(alone) == len(shared) == 3
    for (pixels, target), (same_pixels, same_target) in zip(alone, shared, strict=True):
        assert pixels.shape == (3, 3, 32, 32)
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, same_pixels)
        assert torch.equal(target, same_target)


class Deadly(DrawnScenes):
    """Scenes of which one kills the process that draws it, as too little memory would."""

    def __getitem__(self, index: int) -> Sample:
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_process_is_one_error_with_the_remedy() -> None:
    settings = replace(SETTINGS, workers=1)
    with (
        refused("--workers 0"),
        training_batches(Deadly(settings, 32), settings, 0) as prepared,
    ):
        list(prepared)


def test_starting_later_gives_the_later_batches() -> None:
    whole = batches(SETTINGS, 0)
    later = batches(SETTINGS, 2)
    assert len(later) == 1
    assert torch.equal(later[0][0], whole[2][0])


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
