from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import disa
from disa.errors import DisaError
from disa.inference import passes as module
from disa.inference.protocol import Protocol
from disa.inference.request import parse_query
from disa.inference.segmenter import Segmenter
from disa.inference.windows import blend, views

WORDS = ("house", "sea", "grass")


@pytest.fixture(scope="module")
def segmenter(model_folder: Path) -> Segmenter:
    return disa.load(model_folder, device="cpu")


def picture(height: int, width: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("protocol", ["whole", "windows", "cat-seg"])
def test_every_protocol_gives_a_whole_result(segmenter: Segmenter, protocol: str):
    results = segmenter([picture(100, 70), picture(50, 130)], WORDS, protocol=protocol, scores=True)
    for result, shape in zip(results, [(100, 70), (50, 130)], strict=True):
        assert (
            result.labels.shape == result.foreground.shape == result.saliency["sea"].shape == shape
        )
        np.testing.assert_array_equal(result.labels, result.scores.argmax(0))
        assert set(result.matched) == set(WORDS)


@pytest.mark.parametrize("protocol", ["whole", "windows", "cat-seg"])
def test_an_open_picture_answers_as_a_call_does(segmenter: Segmenter, protocol: str):
    pixels = picture(96, 144)
    session = segmenter.open(pixels, protocol=protocol)
    for words in (WORDS, ("zebra", "House"), WORDS):
        asked = session(words, scores=True, background="foreground")
        called = segmenter(pixels, words, protocol=protocol, scores=True, background="foreground")
        np.testing.assert_array_equal(asked.scores, called.scores)
        np.testing.assert_array_equal(asked.labels, called.labels)
        np.testing.assert_array_equal(asked.token_saliency, called.token_saliency)
        assert asked.matched == called.matched


@pytest.mark.parametrize("protocol", ["whole", "windows"])
def test_pictures_are_opened_and_asked_together(segmenter: Segmenter, protocol: str):
    pictures = [picture(48, 96), picture(60, 60), picture(48, 96) // 2, picture(48, 96)]
    sessions = segmenter.open(pictures, protocol=protocol)
    query = parse_query(WORDS, protocol=Protocol(protocol), scores=True)
    for pixels, result in zip(pictures, segmenter.ask(sessions, query), strict=True):
        alone = segmenter.open(pixels, protocol=protocol)(query)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-5)
        assert result.matched == pytest.approx(alone.matched, abs=1e-5)
        np.testing.assert_array_equal(result.image, pixels)
    # What belongs to one picture keeps no other's memory.
    alone = segmenter.open(pictures[0], protocol=protocol)
    assert sessions[0].nbytes == alone.nbytes > pictures[0].nbytes


def test_windows_of_one_window_are_the_whole_picture(segmenter: Segmenter):
    square = picture(48, 48)
    one, other = (
        segmenter(square, WORDS, scores=True),
        segmenter(square, WORDS, scores=True, protocol="windows"),
    )
    np.testing.assert_array_equal(one.scores, other.scores)


def test_windows_do_not_depend_on_the_batch(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch):
    expected = segmenter(picture(100, 150), WORDS, scores=True, protocol="windows")
    monkeypatch.setattr(module, "BATCH", 3)
    result = segmenter(picture(100, 150), WORDS, scores=True, protocol="windows")
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)


def test_a_window_sees_its_part_of_the_picture_alone(segmenter: Segmenter):
    """Without overlap, a window's scores are those of it as a picture, away from the seams."""
    large = picture(96, 96)
    result = segmenter(large, WORDS, scores=True, protocol="windows", overlap=0)
    part = segmenter(np.ascontiguousarray(large[48:, :48]), WORDS, scores=True, protocol="windows")
    logits = torch.from_numpy(part.scores).logit()
    assert result.scores.shape == (3, 96, 96)
    middle = np.s_[:, 8:-8, 8:-8]
    # a single view is compared at 4h x 4w after the sigmoid, windows at full size before it: equal
    # but for rounding
    assert (
        np.abs(result.scores[:, 48:, :48][middle] - logits.sigmoid().numpy()[middle]).max() < 0.02
    )


def test_values_that_make_no_sense_are_refused(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
):
    for wrong, message in (
        ({"protocol": "sliding"}, "use whole, windows, cat-seg"),
        ({"protocol": "cat-seg", "size": 640}, "leave it out"),
        ({"size": 50_000}, "would take hours"),
        ({"protocol": "windows", "overlap": 1.0}, "below 1"),
        ({"protocol": "windows", "overlap": float("nan")}, "below 1"),
        ({"protocol": "windows", "size": 20}, "smaller than a window"),
        ({"protocol": "windows", "size": 50_000}, "choose a smaller size"),
    ):
        with pytest.raises(DisaError, match=message):
            segmenter(picture(60, 60), WORDS, **wrong)
    monkeypatch.setattr(segmenter, "max_memory", 100_000)
    with pytest.raises(DisaError, match=r"3 labels in \d+ views take"):
        segmenter(picture(200, 200), WORDS, protocol="windows")


def test_the_best_label_is_the_calls(segmenter: Segmenter):
    pixels, text = picture(70, 60), segmenter.text(WORDS)
    for name in ("whole", "windows", "cat-seg"):
        labels = segmenter.best_labels(pixels, text, Protocol(name)).numpy()
        np.testing.assert_array_equal(labels, segmenter(pixels, WORDS, protocol=name).labels)


@pytest.mark.parametrize("protocol", ["whole", "windows", "cat-seg"])
def test_labels_beyond_the_most_are_those_of_the_whole_network(model_folder: Path, protocol: str):
    """Each view has its own likeliest labels; here all logits of all views are blended."""
    segmenter = disa.load(model_folder, "cpu")
    segmenter.model.config = segmenter.model.config.replace(max_categories=2)
    words = ("House", "sea", "grass", "boat", "zebra", "sky")
    pixels = picture(96, 144)
    layout = segmenter.layout(Protocol(protocol), pixels)
    with torch.no_grad():
        shown = torch.cat(list(views(Protocol(protocol), pixels, layout, 8)))
        logits = segmenter.model(shown, segmenter.text(words)).logits
    assert len((logits > -100).any(0).any(-1).any(-1).nonzero()) >= 2
    maps = torch.nn.functional.interpolate(
        blend(layout, logits)[None], (96, 144), mode="bilinear", align_corners=False
    )[0]
    result = segmenter(pixels, words, protocol=protocol, scores=True)
    np.testing.assert_allclose(result.scores, maps.numpy(), atol=1e-6)
    np.testing.assert_array_equal(result.labels, maps.argmax(0).numpy())
    assert set(result.matched) == set(words)
    assert None not in result.matched.values()
