"""The drawn world: always the same, at any size, with exact labels and honest captions."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from disa.picturebook import (
    NOUNS,
    SEEN,
    STUFF,
    SYNONYMS,
    TEST_SEED,
    THINGS,
    TRAIN_SEED,
    UNSEEN,
    group,
    render,
    render_card,
)  # fmt: skip
from disa.picturebook.stuff import TEXTURES
from disa.picturebook.things import DRAWINGS

ALIASES = {alias: word for word in NOUNS for alias in (word, *SYNONYMS.get(word, ()))}


def named(caption: str) -> set[str]:
    """Return the categories that a caption names, longest names first ("night sky" is no "sky")."""
    found = set()
    for alias in sorted(ALIASES, key=len, reverse=True):
        if f" {alias} " in f" {caption.replace(',', ' ')} ":
            found.add(ALIASES[alias])
            caption = f" {caption.replace(',', ' ')} ".replace(f" {alias} ", "  ")
    return found


def test_the_world_has_the_promised_words():
    assert len(THINGS) >= 18 and len(STUFF) >= 10
    assert set(DRAWINGS) == set(THINGS) and set(TEXTURES) == set(STUFF)
    assert set(NOUNS) == SEEN | UNSEEN and not SEEN & UNSEEN
    for nouns in (THINGS, STUFF):
        assert 0.6 < len(SEEN & set(nouns)) / len(nouns) < 0.7
    assert len(set(ALIASES)) == len(NOUNS) + sum(map(len, SYNONYMS.values())), (
        "a synonym stands for two nouns"
    )
    assert {group(word) for word in NOUNS} == {
        "seen_things",
        "unseen_things",
        "seen_stuff",
        "unseen_stuff",
    }


@given(seed=st.integers(0, 2**31), index=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_a_scene_depends_on_seed_and_index_only(seed, index):
    first = render(seed, index, 32)
    render(seed, index + 1, 48)
    again = render(seed, index, 32)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.caption == again.caption and first.nouns == again.nouns


@pytest.mark.slow
def test_a_scene_is_the_same_in_another_process():
    code = (
        "import hashlib;from disa.picturebook import render;scene=render(3, 4);"
        "print(hashlib.sha256(scene.image.tobytes() + scene.labels.tobytes()).hexdigest())"
    )
    scene = render(3, 4)
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert told == hashlib.sha256(scene.image.tobytes() + scene.labels.tobytes()).hexdigest()


def test_the_world_is_the_one_that_the_bundled_model_was_trained_on():
    """Captions to the letter; pictures nearly, because sines may differ in the last bit."""
    drawn = [draw(seed, index, 16) for draw in (render, render_card)
             for seed in (TRAIN_SEED, TEST_SEED) for index in range(100)]  # fmt: skip
    captions = "\n".join(scene.caption for scene in drawn)
    assert hashlib.sha256(captions.encode()).hexdigest() == (
        "892a44d9016257f3596d6c116d6af5524c96478af7962e32206252ee7745f0c7"
    )
    for scene, colour, areas in (
        (render(TEST_SEED, 0), (217.427, 202.077, 220.802), [643, 1037, 7536]),
        (render(TRAIN_SEED, 499), (145.975, 155.098, 66.064), [483, 313, 696, 468, 4178, 3078]),
        (render_card(TRAIN_SEED, 7), (139.445, 97.107, 58.93), [410, 1894]),
    ):
        np.testing.assert_allclose(scene.image.mean((0, 1)), colour, atol=0.05)
        counts = np.bincount(scene.labels.ravel())
        np.testing.assert_allclose(counts[counts > 0], areas, atol=3)


def test_train_and_test_scenes_differ():
    assert TRAIN_SEED != TEST_SEED
    assert (render(TRAIN_SEED, 0).image != render(TEST_SEED, 0).image).any()


@pytest.mark.parametrize("index", range(6))
def test_the_picture_is_the_same_at_any_size(index):
    small, large = render(11, index, 64), render(11, index, 192)
    reduced = np.asarray(Image.fromarray(large.image).reduce(3), float)
    assert np.abs(reduced - small.image).mean() < 4, "not the same picture, 0..255"
    assert (large.labels[1::3, 1::3] == small.labels).mean() > 0.97
    assert small.caption == large.caption


@pytest.mark.parametrize("index", range(20))
def test_labels_words_and_composition_agree(index):
    scene = render(5, index)
    present = {NOUNS[i] for i in np.unique(scene.labels)}
    assert scene.nouns == tuple(noun for noun in NOUNS if noun in present)
    assert 1 <= len(present & set(THINGS)) <= 4
    assert 1 <= len(present & set(STUFF)) <= 3
    assert scene.image.shape == (96, 96, 3) and scene.labels.shape == (96, 96)


def card_with(*nouns):
    """Return the first card, drawn large, that shows just these nouns."""
    index = next(i for i in range(5000) if set(render_card(9, i, 16).nouns) == set(nouns))
    return render_card(9, index, 96)


def test_labels_are_exact_where_colours_are_plain():
    """A star's gold lies where the label says and nowhere else; no background has so much of it."""
    scene = card_with("star", "night sky")
    red, _, blue = scene.image.astype(int).transpose(2, 0, 1)
    gold = red - blue > 50
    star = scene.labels == NOUNS.index("star")
    assert (gold & star).sum() / (gold | star).sum() > 0.9


def test_edges_are_anti_aliased():
    edge = card_with("heart", "road")
    heart = edge.labels == NOUNS.index("heart")
    rim = heart & ~(
        np.roll(heart, 1, 0) & np.roll(heart, -1, 0) & np.roll(heart, 1, 1) & np.roll(heart, -1, 1)
    )
    saturation = edge.image.max(2).astype(int) - edge.image.min(2)
    assert saturation[rim].mean() < saturation[heart & ~rim].mean() - 20, (
        "the rim is as pink as the inside"
    )


def test_captions_name_all_things_and_the_background_in_a_quarter():
    with_background = Counter()
    for index in range(600):
        scene = render(21, index, 24)
        words = named(scene.caption)
        assert set(THINGS) & set(words) >= set(scene.nouns) & set(THINGS), scene.caption
        with_background[bool(words & set(STUFF))] += 1
    assert 0.2 < with_background[True] / 600 < 0.31


def test_captions_use_synonyms_and_vary():
    captions = [render_card(22, index, 16).caption for index in range(1500)]
    used = {alias for alias in ALIASES if any(f" {alias}" in f" {caption}" for caption in captions)}
    assert used == set(ALIASES)
    assert len({caption.split()[0] for caption in captions}) > 10


def test_every_thing_varies_in_shape():
    for noun in THINGS:
        shapes = {
            DRAWINGS[noun](np.random.default_rng(i)).parts[0].points.tobytes() for i in range(8)
        }
        shapes |= {str(DRAWINGS[noun](np.random.default_rng(i)).parts) for i in range(8)}
        assert len(shapes) > 4, noun


def test_every_category_occurs_often_enough_to_be_measured():
    counts = Counter(word for index in range(300) for word in render(TEST_SEED, index, 24).nouns)
    assert min(counts[word] for word in NOUNS) >= 12


@pytest.mark.parametrize("size", [7, 5000, 0, -3])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match=str(size)):
        render(0, 0, size)
