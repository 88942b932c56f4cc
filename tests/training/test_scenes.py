import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import small_config, small_settings

from disa.errors import DisaError
from disa.model.losses import IGNORED
from disa.picturebook import SEEN, SMALLEST, TRAIN_SEED, WORDS, render
from disa.training.augment import PADDING
from disa.training.learner import Learner
from disa.training.loop import train
from disa.training.samples import PICTUREBOOK
from disa.training.scenes import LABELS, TrainingScenes, choose_labels, relabel, training_batches
from disa.training.settings import TrainConfig

SETTINGS = small_settings(steps=3, batch=3)


def batches(settings: TrainConfig, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return training_batches(TrainingScenes(settings, 32), settings, start)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_what_is_seen(workers: int) -> None:
    alone = list(batches(SETTINGS, 0))
    shared = list(batches(replace(SETTINGS, workers=workers), 0))
    assert len(alone) == len(shared) == 3
    for (pixels, target), (same_pixels, same_target) in zip(alone, shared, strict=True):
        assert pixels.shape == (3, 3, 32, 32)
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, same_pixels)
        assert torch.equal(target, same_target)


class Deadly(TrainingScenes):
    """Scenes of which one costs the life of the process that makes it, as too little memory would."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_killed_worker_is_one_error_with_the_remedy(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch tells of it by a signal, wherever the run is."""

    def step(self: Learner, *arguments: object) -> dict[str, float]:
        time.sleep(10)
        raise AssertionError("nobody said that the worker had died")

    settings, source = replace(SETTINGS, workers=1), PICTUREBOOK._replace(samples=Deadly)
    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(DisaError, match=r"a process that makes samples died.*workers=0"):
        train(small_config(), settings, tmp_path, clip_folder, source=source)


def test_starting_later_gives_the_later_batches() -> None:
    whole, later = list(batches(SETTINGS, 0)), list(batches(SETTINGS, 2))
    assert len(later) == 1
    assert torch.equal(later[0][0], whole[2][0])


def test_seeds_and_steps_differ() -> None:
    first, second = TrainingScenes(SETTINGS, 32), TrainingScenes(replace(SETTINGS, seed=1), 32)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], second[0][0])


def test_target_is_the_scene_s_own_without_unseen_words_and_mirrored_with_it() -> None:
    mirrored = 0
    for index in range(12):
        pixels, target = TrainingScenes(SETTINGS, 40)[index]
        scene = render(TRAIN_SEED, index, 40)
        image, labels = scene.image, scene.labels
        if not np.array_equal(pixels.permute(1, 2, 0), image):
            image, labels = image[:, ::-1], labels[:, ::-1]
            mirrored += 1
        assert np.array_equal(pixels.permute(1, 2, 0), image)
        for category, word in enumerate(WORDS):
            expected = LABELS.index(word) if word in SEEN else IGNORED
            assert (target.numpy()[labels == category] == expected).all()
    assert 0 < mirrored < 12
    assert len(LABELS) == len(SEEN)


def test_jitter_crops_larger_scenes_and_keeps_image_and_target_together() -> None:
    settings = replace(SETTINGS, scale_jitter=1.0, flip=False)
    pixels, target = TrainingScenes(settings, 32)[3]
    assert pixels.shape == (3, 32, 32)
    found = False
    for size in range(32, 65):
        scene = render(TRAIN_SEED, 3, size)
        for top in range(size - 31):
            rows = scene.image[top : top + 32]
            for left in range(size - 31):
                if np.array_equal(rows[:, left : left + 32], pixels.permute(1, 2, 0)):
                    labels = scene.labels[top : top + 32, left : left + 32]
                    seen = np.isin(labels, [WORDS.index(word) for word in SEEN])
                    assert np.array_equal(target.numpy() != IGNORED, seen)
                    found = True
    assert found


def test_shrinking_shows_whole_scenes_smaller_and_pads_them() -> None:
    settings = replace(SETTINGS, scale_shrink=0.5, flip=False)
    sizes = set()
    for index in range(8):
        pixels, target = TrainingScenes(settings, 64)[index]
        assert pixels.shape == (3, 64, 64)
        size = next(size for size in range(64, 31, -1) if _is(index, size, pixels))
        assert (pixels[:, size:] == PADDING).all() and (pixels[:, :, size:] == PADDING).all()
        assert (target[size:] == IGNORED).all() and (target[:, size:] == IGNORED).all()
        sizes.add(size)
    assert len(sizes) > 4
    with pytest.raises(DisaError, match=f"scenes of 4 to 40 .* {SMALLEST} to"):
        TrainingScenes(replace(SETTINGS, scale_shrink=0.9), 40)


def _is(index: int, size: int, pixels: torch.Tensor) -> bool:
    """Tell whether a sample's upper left part is the whole scene drawn at this size."""
    scene = render(TRAIN_SEED, index, size).image
    return np.array_equal(pixels[:, :size, :size].permute(1, 2, 0), scene)


def test_chosen_labels_hold_those_present_and_as_many_absent_as_fit() -> None:
    present = torch.zeros(len(LABELS), dtype=torch.bool)
    present[[3, 17]] = True
    chosen = choose_labels(present, 4, replace(SETTINGS, categories=6))
    assert len(chosen) == 6
    assert {3, 17} <= set(chosen.tolist())
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.equal(chosen, choose_labels(present, 4, replace(SETTINGS, categories=6)))
    assert not torch.equal(chosen, choose_labels(present, 5, replace(SETTINGS, categories=6)))
    assert choose_labels(present, 4, replace(SETTINGS, categories=1)).tolist() == [3, 17]
    assert choose_labels(present, 4, replace(SETTINGS, categories=0)).tolist() == list(
        range(len(LABELS))
    )


def test_relabel_counts_among_the_chosen() -> None:
    target = torch.tensor([[3, 17, IGNORED, 5]])
    assert relabel(target, torch.tensor([2, 3, 17])).tolist() == [[1, 2, IGNORED, IGNORED]]


@given(
    st.lists(st.integers(-1, 846), min_size=1, max_size=40), st.integers(1, 900), st.integers(0, 5)
)
def test_large_vocabularies_keep_every_pixel_of_what_is_present(
    values: list[int], categories: int, step: int
) -> None:
    target = torch.tensor([[values]])
    present = torch.zeros(847, dtype=torch.bool)
    present[[value for value in values if value != IGNORED]] = True
    chosen = choose_labels(present, step, replace(SETTINGS, categories=categories))
    assert len(chosen) == min(847, max(categories, int(present.sum())))
    found = relabel(target, chosen).flatten().tolist()
    assert [IGNORED if label == IGNORED else int(chosen[label]) for label in found] == values
