"""The model that ships with the package: its size, its quality, its open vocabulary."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from PIL import Image

import disa
from disa.picturebook import NOUNS, TEST_SEED, render
from disa.recipes import mini
from disa.weights.names import WEIGHTS

GOLDEN = Path(__file__).parent / "golden" / "bundled_labels.png"


@pytest.fixture(scope="module")
def segmenter():
    return disa.load("mini", "cpu")


def test_it_is_small_and_of_the_recipe():
    assert sum(file.stat().st_size for file in (WEIGHTS / "mini").iterdir()) <= 12_000_000
    written = json.loads((WEIGHTS / "mini" / "config.json").read_text())["model"]
    assert disa.ModelConfig.from_dict(written).replace(backbone_clip={}) == mini(backbone_clip={})
    for tower in ("text_config", "vision_config"):
        expected = mini().backbone_clip[tower]
        assert expected.items() <= written["backbone_clip"][tower].items()


@pytest.mark.slow
def test_it_finds_its_way_in_the_picturebook(tmp_path):
    file = tmp_path / "numbers.json"
    words = ("picturebook", "--limit", "24", "--out", tmp_path / "out", "--json", file)
    assert invoke("evaluate", *words, "--device", "cpu").exit_code == 0
    numbers = json.loads(file.read_text())
    floors = {"seen_things": 62, "unseen_things": 50, "seen_stuff": 85, "unseen_stuff": 80}
    assert numbers["miou"] > 70
    assert all(numbers["groups"][name] > floor for name, floor in floors.items()), numbers["groups"]


def test_labels_of_a_known_scene(segmenter):
    """Another machine's rounding may move a boundary by a pixel, not more."""
    labels = segmenter(render(TEST_SEED, 3).image, list(NOUNS)).labels
    assert (labels == np.asarray(Image.open(GOLDEN))).mean() > 0.995


def test_words_that_never_had_a_mask_and_synonyms(segmenter):
    scene = next(
        s for s in (render(TEST_SEED, i) for i in range(200)) if {"boat", "sea"} <= set(s.nouns)
    )
    things = [word for word in scene.nouns if word not in ("boat", "sea")]
    plain = segmenter(scene.image, ["boat", "sea", *things]).labels
    for words in (["ship", "ocean", *things], ["boat|ship", "sea|ocean", *things]):
        assert (segmenter(scene.image, words).labels == plain).mean() > 0.9
    for index, word in enumerate(("boat", "sea")):
        true, found = scene.labels == NOUNS.index(word), plain == index
        assert (true & found).sum() / (true | found).sum() > 0.5, word


def test_matching_tells_present_from_absent_labels(segmenter):
    scene = render(TEST_SEED, 0)
    matched = segmenter(scene.image, list(NOUNS)).matched
    present = np.mean([matched[word] for word in scene.nouns])
    absent = np.mean([matched[word] for word in NOUNS if word not in scene.nouns])
    assert present > 0.5 > 0.15 > absent
