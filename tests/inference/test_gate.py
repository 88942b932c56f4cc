"""The gate: a call with a gate is a call with the labels that it lets through."""

from pathlib import Path

import numpy as np
import pytest
import torch

import disa
from disa.errors import DisaError
from disa.inference.gate import Gate
from disa.inference.segmentation import BACKGROUND
from disa.inference.segmenter import Segmenter

WORDS = ("House", "sea", "grass", "boat", "zebra")


@pytest.fixture(scope="module")
def segmenter(model_folder: Path) -> Segmenter:
    return disa.load(model_folder, "cpu")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 144, 3), dtype=np.uint8)


def likeliest(segmenter: Segmenter, pixels: np.ndarray, most: int, protocol: str) -> list[str]:
    """The labels with the highest cosine of any token of any view, in the caller's order."""
    text = segmenter.text(WORDS)
    with torch.no_grad():
        best = torch.stack(
            [
                segmenter.model.presence(look, text).amax(0)
                for look in segmenter.open(pixels, protocol=protocol).looks
            ]
        ).amax(0)
    return [WORDS[index] for index in sorted(best.argsort(descending=True)[:most].tolist())]


@pytest.mark.parametrize("protocol", ["whole", "windows", "cat-seg"])
def test_a_gate_is_a_call_with_the_likeliest_labels(segmenter, pixels, protocol):
    kept = likeliest(segmenter, pixels, 2, protocol)
    gated = segmenter(pixels, WORDS, protocol=protocol, gate=2, scores=True)
    alone = segmenter(pixels, kept, protocol=protocol, scores=True)
    places = [WORDS.index(word) for word in kept]
    np.testing.assert_array_equal(gated.scores[places], alone.scores)
    np.testing.assert_array_equal(gated.labels, np.array(places)[alone.labels])
    others = [index for index in range(len(WORDS)) if index not in places]
    assert not gated.scores[others].any()
    for word in WORDS:
        assert gated.matched[word] == (alone.matched[word] if word in kept else None)
    assert segmenter.open(pixels, protocol=protocol)(WORDS, gate=2).areas == gated.areas


def test_an_open_gate_changes_nothing(segmenter, pixels):
    every = segmenter(pixels, WORDS, scores=True)
    for gate in (len(WORDS), 99):
        np.testing.assert_array_equal(
            segmenter(pixels, WORDS, gate=gate, scores=True).scores, every.scores
        )


def test_labels_of_the_background_always_compete(segmenter, pixels):
    gated = segmenter(pixels, WORDS[:3], gate=1, background=list(WORDS[3:]))
    assert set(np.unique(gated.labels)) <= {BACKGROUND, 0, 1, 2}
    assert len(set(np.unique(gated.labels)) - {BACKGROUND}) <= 1
    chosen = Gate(1, 3).choose(torch.tensor([0.1, 0.3, 0.2, 0.0, 0.0]))
    assert chosen.tolist() == [1, 3, 4]


def test_each_picture_of_a_list_has_its_own_labels(segmenter, pixels):
    other = pixels[::-1, ::-1] // 2
    together = segmenter([pixels, other], WORDS, gate=2)
    for result, picture in zip(together, (pixels, other), strict=True):
        np.testing.assert_array_equal(result.labels, segmenter(picture, WORDS, gate=2).labels)


def test_results_behind_a_gate_can_be_saved(segmenter, pixels, tmp_path):
    result = segmenter(pixels, WORDS, gate=1)
    names = {path.name for path in result.save(tmp_path, saliency=True)}
    assert "image_saliency.png" in names
    assert [word["matched"] for word in result.to_json()["words"]].count(None) == 4


def test_a_gate_of_nothing_is_refused(segmenter, pixels):
    with pytest.raises(DisaError, match="gate 0"):
        segmenter(pixels, WORDS, gate=0)
