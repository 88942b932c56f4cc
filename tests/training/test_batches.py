"""Batches are the same whatever processes prepare them, and a dead process is one error."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from refusals import refused
from small_run import small_settings

from disa.training.augment import Sample
from disa.training.batches import Batch, training_batches
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
    """Scenes of which one costs the life of the process that draws it, as too little memory would."""

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
