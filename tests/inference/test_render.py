import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from disa.inference.colours import EXPECTED, label_colours
from disa.inference.heatmaps import saliency_sheet
from disa.inference.overlay import (
    LARGEST,
    NOTHING,
    SMALLEST,
    TINT,
    legend,
    overlay,
    palette_image,
)

WORDS = ("grass", "gizmo", "widget")


def halves(height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.int32)
    labels[:, width // 2 :] = 1
    return labels


@settings(max_examples=30)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=60, unique=True), st.randoms())
def test_colours_are_distinct_and_do_not_depend_on_the_order(words: list[str], random: object):
    colours = {
        word: tuple(colour)
        for word, colour in zip(words, label_colours(words).tolist(), strict=True)
    }
    assert len(set(colours.values())) == len(words)
    random.shuffle(words)
    assert colours == {
        word: tuple(colour)
        for word, colour in zip(words, label_colours(words).tolist(), strict=True)
    }


def test_many_labels_get_distinct_colours():
    assert (
        len({tuple(colour) for colour in label_colours([str(i) for i in range(1000)]).tolist()})
        == 1000
    )


def test_words_have_the_colours_that_people_expect():
    colours = label_colours(["sea|water", "gizmo", "Grass"]).tolist()
    assert bytes(colours[0]).hex() == EXPECTED["sea"]
    assert bytes(colours[2]).hex() == EXPECTED["grass"]
    np.testing.assert_array_equal(label_colours(["gizmo"])[0], label_colours(["gizmo", "grass"])[0])


def colours_in_the_picture(drawn: Image.Image, shape: tuple[int, int]) -> set[tuple[int, ...]]:
    """The picture's own colours, without the legend beside or below it, which has its own."""
    long = min(max(*shape, SMALLEST), LARGEST)
    height, width = (max(1, round(side * long / max(shape))) for side in shape)
    picture = drawn.crop((0, 0, width, height))
    return {colour for _, colour in picture.getcolors(width * height)}


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (30, 3000), (3000, 30), (2600, 2500)])
@pytest.mark.parametrize("shade", [0, 255])
def test_every_region_is_tinted_on_any_picture(shape: tuple[int, int], shade: int):
    image, labels = np.full((*shape, 3), shade, np.uint8), halves(*shape)
    drawn = overlay(image, labels, WORDS)
    assert SMALLEST <= max(drawn.size) <= 1.5 * LARGEST
    tints = (TINT * label_colours(WORDS).astype(np.float32) + (1 - TINT) * shade).round()
    expected = {tuple(tints[label].astype(int).tolist()) for label in np.unique(labels)}
    assert expected <= colours_in_the_picture(drawn, shape)


@pytest.mark.parametrize("shape", [(16, 16), (400, 600), (2600, 2500)])
@pytest.mark.parametrize("shade", [0, 255])
def test_regions_with_room_bear_their_label_with_a_dark_edge(shape: tuple[int, int], shade: int):
    image = np.full((*shape, 3), shade, np.uint8)
    edge = (20, 20, 25)
    named = colours_in_the_picture(overlay(image, halves(*shape), WORDS), shape)
    unnamed = colours_in_the_picture(overlay(image, halves(*shape), ["", "", ""]), shape)
    assert edge in named and edge not in unnamed


def test_the_picture_is_tinted_by_label_and_bordered():
    drawn = np.asarray(
        overlay(np.full((640, 640, 3), 100, np.uint8), halves(640, 640), ["grass", "gizmo"])
    )
    for x, colour in [(5, 0), (620, 1)]:
        expected = TINT * label_colours(["grass", "gizmo"])[colour] + (1 - TINT) * 100
        np.testing.assert_allclose(drawn[600, x], expected, atol=1)
    assert (drawn[600, 319] == 20).all()
    assert (drawn[600, 321] == 255).all()


def test_beside_shows_the_original_too():
    image = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    drawn = np.asarray(overlay(image, halves(700, 900), WORDS, beside=True))
    np.testing.assert_array_equal(drawn[:700, :900], image)
    assert drawn.shape[1] > 1800


def test_the_legend_names_every_label_largest_first():
    labels = np.array([[1, 1, 1, 0], [1, 1, -1, -1]], np.int32)
    entries = legend(labels, WORDS)
    assert [(entry.text, entry.share) for entry in entries] == [
        ("gizmo", 5 / 8),
        ("grass", 1 / 8),
        ("widget", 0),
        ("(background)", 2 / 8),
    ]
    assert [entry.colour for entry in entries][:3] == [
        tuple(c) for c in label_colours(WORDS)[[1, 0, 2]].tolist()
    ]
    assert entries[3].colour == NOTHING


def test_a_legend_of_many_labels_is_summed_up():
    entries = legend(np.arange(100, dtype=np.int32)[None], [f"word {i}" for i in range(100)])
    assert len(entries) == 28
    assert entries[-1].text == "and 73 other labels"
    assert sum(entry.share for entry in entries) == pytest.approx(1)


def test_many_labels_found_nowhere_take_one_line():
    labels = np.array([[0, 0, 0, 1]], np.int32)
    words = [f"word {i}" for i in range(34)]
    assert [(entry.text, entry.share) for entry in legend(labels, words)] == [
        ("word 0", 3 / 4),
        ("word 1", 1 / 4),
        ("32 labels found nowhere", 0),
    ]
    assert len(legend(labels, words[:10])) == 10


def test_the_palette_image_holds_the_indices_and_shows_the_colours():
    labels = np.array([[0, 1], [2, -1]], np.int32)
    image = palette_image(labels, WORDS)
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), [[0, 1], [2, 255]])
    expected = [*label_colours(WORDS).tolist(), [0, 0, 0]]
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")).reshape(-1, 3), expected)


def test_more_labels_than_a_palette_holds_give_sixteen_bits():
    labels = np.array([[299, -1]], np.int32)
    image = palette_image(labels, [str(i) for i in range(300)])
    np.testing.assert_array_equal(np.asarray(image), [[299, 65535]])


@pytest.mark.parametrize("shape", [(1, 1), (20, 400), (400, 20), (96, 96)])
def test_a_saliency_sheet_shows_the_likeliest_first(shape: tuple[int, int]):
    hot, cold = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    image = np.full((*shape, 3), 128, np.uint8)
    matched = {"grass": 0.1, "gizmo": 0.9}
    sheet = saliency_sheet(image, {"grass": cold, "gizmo": hot}, matched, np.ones(shape, bool))
    other = saliency_sheet(image, {"gizmo": hot, "grass": cold}, matched, np.ones(shape, bool))
    np.testing.assert_array_equal(np.asarray(sheet), np.asarray(other))
    many = {str(i): cold for i in range(200)}
    assert saliency_sheet(image, many, None, np.ones(shape, bool)).width < 6000


def test_borders_leave_a_long_strip_its_colours():
    labels = np.zeros((40, 5000), np.int32)
    labels[20:] = 1
    drawn = np.asarray(overlay(np.full((40, 5000, 3), 128, np.uint8), labels, ["sea", "sand"]))[
        :19, :2400
    ]
    border = (drawn == 255).all(-1) | (drawn == 20).all(-1)
    assert 0 < border.mean() < 0.3
