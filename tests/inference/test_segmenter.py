from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import disa
from disa.data.images import read_image
from disa.errors import DisaError
from disa.inference.protocol import Protocol
from disa.inference.segmentation import BACKGROUND, Segmentation
from disa.inference.segmenter import Segmenter

WORDS = ("House", "sea | ocean", "grass")


@pytest.fixture(scope="module")
def segmenter(model_folder: Path) -> Segmenter:
    return disa.load(model_folder, device="cpu")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth patches of colour: an untrained model tells them apart, noise it would average out."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def same(one: Segmentation, other: Segmentation) -> None:
    """Equal up to rounding: scores to 1e-5, labels everywhere but where two labels tie."""
    assert one.words == other.words
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.token_saliency, other.token_saliency, rtol=1e-3, atol=1e-7)
    assert one.matched == pytest.approx(other.matched, abs=1e-5)
    assert (one.labels != other.labels).mean() < 0.01


def test_the_result_has_the_pictures_size_and_the_callers_words(segmenter: Segmenter):
    result = segmenter(picture(50, 70), WORDS, scores=True)
    assert result.words == WORDS
    assert result.labels.shape == result.foreground.shape == (50, 70)
    assert result.scores.shape == (3, 50, 70)
    assert set(result.saliency) == set(result.matched) == set(WORDS)
    assert result.saliency["House"].shape == (50, 70)
    np.testing.assert_array_equal(result.labels, result.scores.argmax(0))
    np.testing.assert_array_equal(result.confidence, result.scores.max(0))
    assert 0 <= result.scores.min() <= result.scores.max() <= 1


def test_scores_are_the_models_own(segmenter: Segmenter):
    pixels = picture(48, 48)
    result = segmenter(pixels, WORDS, scores=True)
    batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    logits = segmenter.model(batch, segmenter.text(WORDS)).logits
    expected = torch.nn.functional.interpolate(
        logits.sigmoid(), (48, 48), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(result.scores, expected[0].detach().numpy(), atol=1e-6)


def test_one_picture_in_every_form_gives_the_same_result(segmenter: Segmenter, tmp_path: Path):
    pixels = picture(40, 60)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    tensor = torch.from_numpy(pixels.copy())
    forms = [
        tmp_path / "p.png",
        str(tmp_path / "p.png"),
        Image.fromarray(pixels),
        pixels / 255,
        tensor.permute(2, 0, 1),
    ]
    expected = segmenter(pixels, WORDS, scores=True)
    for form in [*forms, tensor]:
        np.testing.assert_array_equal(segmenter(form, WORDS, scores=True).scores, expected.scores)
    assert segmenter(str(tmp_path / "p.png"), WORDS).source == str(tmp_path / "p.png")


@settings(max_examples=3)
@given(st.permutations([(40, 60), (60, 40), (48, 48), (80, 120), (33, 200), (48, 49)]))
def test_pictures_of_different_sizes_do_not_touch_each_other(
    segmenter: Segmenter, sizes: list[tuple[int, int]]
):
    pictures = [picture(*size) for size in sizes]
    together = segmenter(pictures, WORDS, scores=True)
    assert [result.labels.shape for result in together] == sizes
    for pixels, result in zip(pictures, together, strict=True):
        same(result, segmenter(pixels, WORDS, scores=True))


def test_many_pictures_of_one_size_keep_their_order(segmenter: Segmenter):
    pictures = [picture(48, 48, seed) for seed in range(10)]  # more than one batch
    for index, result in enumerate(segmenter(pictures, WORDS, scores=True)):
        np.testing.assert_array_equal(result.image, pictures[index])
        same(result, segmenter(pictures[index], WORDS, scores=True))
    assert segmenter([], WORDS) == []


def test_the_order_of_labels_only_renames(segmenter: Segmenter):
    pixels = picture(48, 64)
    one, other = segmenter(pixels, WORDS, scores=True), segmenter(pixels, WORDS[::-1], scores=True)
    np.testing.assert_allclose(one.scores, other.scores[::-1], atol=1e-5)


def test_two_vocabularies_in_a_row_give_what_each_gives_alone(
    segmenter: Segmenter, model_folder: Path
):
    pixels = picture(48, 48)
    vocabularies = [["house", "sea"], ["car", "sea", "tree"], ["sea"], ["house", "sea"]]
    for words in vocabularies:
        same(
            segmenter(pixels, words, scores=True),
            disa.load(model_folder, "cpu")(pixels, words, scores=True),
        )


def test_a_threshold_leaves_unsure_pixels_out(segmenter: Segmenter):
    pixels = picture(48, 48)
    every = segmenter(pixels, WORDS)
    limit = float(np.median(every.confidence))
    result = segmenter(pixels, WORDS, background=limit)
    np.testing.assert_array_equal(
        result.labels, np.where(every.confidence < limit, BACKGROUND, every.labels)
    )
    assert 0.3 < (result.labels == BACKGROUND).mean() < 0.7
    assert (segmenter(pixels, WORDS, background=1).labels == BACKGROUND).all()


def test_background_words_compete(segmenter: Segmenter):
    pixels = picture(48, 48)
    every = segmenter(pixels, [*WORDS, "wall", "floor"], scores=True)
    result = segmenter(pixels, WORDS, background="wall, floor", scores=True)
    np.testing.assert_allclose(result.scores, every.scores[:3], atol=1e-5)
    np.testing.assert_array_equal(
        result.labels, np.where(every.labels >= 3, BACKGROUND, every.labels)
    )
    assert set(result.matched) == set(WORDS)
    with pytest.raises(DisaError, match="given twice"):
        segmenter(pixels, WORDS, background=["ocean"])


def test_the_foreground_leaves_the_background_out(segmenter: Segmenter):
    pixels = picture(48, 48)
    every, result = segmenter(pixels, WORDS), segmenter(pixels, WORDS, background="foreground")
    np.testing.assert_array_equal(
        result.labels, np.where(every.foreground, every.labels, BACKGROUND)
    )


def test_without_the_sdm_saliency_is_refused_and_the_rest_works(baseline_folder: Path):
    baseline = disa.load(baseline_folder, "cpu")
    result = baseline(picture(48, 48), WORDS)
    assert result.matched is None
    assert result.to_json()["words"][0]["matched"] is None
    with pytest.raises(DisaError, match="needs a model with the SDM"):
        _ = result.saliency


def test_without_things_the_foreground_is_refused(paper_folder: Path):
    paper = disa.load(paper_folder, "cpu")
    with pytest.raises(DisaError, match="things from stuff"):
        _ = paper(picture(48, 48), WORDS).foreground
    with pytest.raises(DisaError, match="things from stuff"):
        paper(picture(48, 48), WORDS, background="foreground")


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (48, 48, None, (48, 48)),
        (480, 640, None, (48, 64)),
        (640, 480, None, (64, 48)),
        (10, 10_000, None, (48, 384)),  # at most eight times as long as wide
        (100, 150, 80, (80, 120)),
        (1, 1, 8, (8, 8)),
        (100, 100, 30, (32, 32)),
    ],
)
def test_the_models_size_keeps_the_aspect_in_whole_patches(
    height: int, width: int, size: int | None, expected: tuple[int, int]
):
    layout = Protocol(size=size).layout(height, width, side=48, patch=8)
    assert layout.view == layout.canvas == expected


def test_any_size_of_picture_works(segmenter: Segmenter):
    for shape in [(1, 1), (1, 300), (300, 2), (7, 5)]:
        assert segmenter(picture(*shape), ["house"]).labels.shape == shape
    assert segmenter(picture(40, 40), WORDS, size=96).labels.shape == (40, 40)
    with pytest.raises(DisaError, match="at least 8"):
        segmenter(picture(40, 40), WORDS, size=4)


def test_a_call_chooses_bands_and_stretches_them(segmenter: Segmenter, tmp_path: Path):
    dark = (picture(40, 40) // 8).astype(np.uint16)
    path = tmp_path / "a.tif"
    stacked = np.dstack([dark[..., :1], dark[..., ::-1]])
    tifffile.imwrite(path, stacked, photometric="minisblack", planarconfig="contig")
    how = {"bands": "4,3,2", "stretch": True}
    expected = segmenter(dark, WORDS, stretch=True).labels
    for source in (path, path.read_bytes(), stacked):
        np.testing.assert_array_equal(segmenter([source], WORDS, **how)[0].labels, expected)
        np.testing.assert_array_equal(segmenter.open(source, **how)(WORDS).labels, expected)
    assert (segmenter(stacked, WORDS, bands=(4, 3, 2)).labels != expected).any()
    for call in (segmenter.open, lambda image, bands: segmenter(image, WORDS, bands=bands)):
        with pytest.raises(DisaError, match="no band 5"):
            call(path, bands=(5, 1, 2))


def test_one_bad_picture_in_a_list_is_named(segmenter: Segmenter, tmp_path: Path):
    with pytest.raises(DisaError, match=r"none\.png: no such file"):
        segmenter([picture(8, 8), tmp_path / "none.png"], WORDS)
    assert read_image(picture(8, 8)).shape == (8, 8, 3)


def test_lower_precision_is_an_option(model_folder: Path, segmenter: Segmenter):
    half = disa.load(model_folder, "cpu", dtype=torch.bfloat16)
    one, other = (
        half(picture(48, 48), WORDS, scores=True),
        segmenter(picture(48, 48), WORDS, scores=True),
    )
    assert one.scores.dtype == np.float32
    np.testing.assert_allclose(one.scores, other.scores, atol=0.05)
