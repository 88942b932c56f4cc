"""Drawn scenes as training samples: the scene's own target, cropped and mirrored with it."""

from dataclasses import replace

import numpy as np
from refusals import refused
from small_run import small_settings

from disa.config import IGNORED
from disa.picturebook import NOUNS, SEEN, SMALLEST, TRAIN_SEED, render
from disa.training.training_data import TRAINED_NOUNS, DrawnScenes

SETTINGS = small_settings(steps=3, batch=3)


def test_seeds_and_steps_differ() -> None:
    first, second = DrawnScenes(SETTINGS, 32), DrawnScenes(replace(SETTINGS, seed=1), 32)
    assert not np.array_equal(first[0][0], first[1][0])
    assert not np.array_equal(first[0][0], second[0][0])


def test_target_is_the_scene_s_own_without_unseen_words_and_mirrored_with_it() -> None:
    mirrored = 0
    for index in range(12):
        pixels, target = DrawnScenes(SETTINGS, 40)[index]
        scene = render(TRAIN_SEED, index, 40)
        image, labels = scene.image, scene.labels
        if not np.array_equal(pixels, image):
            image, labels = image[:, ::-1], labels[:, ::-1]
            mirrored += 1
        assert np.array_equal(pixels, image)
        for category, word in enumerate(NOUNS):
            expected = TRAINED_NOUNS.index(word) if word in SEEN else IGNORED
            assert (target[labels == category] == expected).all()
    assert 0 < mirrored < 12
    assert len(TRAINED_NOUNS) == len(SEEN)


def test_jitter_crops_larger_scenes_and_keeps_image_and_target_together() -> None:
    settings = replace(SETTINGS, scale_jitter=1.0, flip=False)
    pixels, target = DrawnScenes(settings, 32)[3]
    assert pixels.shape == (32, 32, 3)
    found = False
    for size in range(32, 65):
        scene = render(TRAIN_SEED, 3, size)
        for top in range(size - 31):
            rows = scene.image[top : top + 32]
            for left in range(size - 31):
                if np.array_equal(rows[:, left : left + 32], pixels):
                    labels = scene.labels[top : top + 32, left : left + 32]
                    seen = np.isin(labels, [NOUNS.index(word) for word in SEEN])
                    assert np.array_equal(target != IGNORED, seen)
                    found = True
    assert found


def test_sizes_that_cannot_be_drawn_are_refused() -> None:
    with refused(SMALLEST - 1, SMALLEST, "backbone_image_size"):
        DrawnScenes(SETTINGS, SMALLEST - 1)
