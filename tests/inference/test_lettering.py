"""Labels in any script: which fonts draw their parts, in which order, and what is not drawn."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, features

from disa.inference import fonts, lettering
from disa.inference.lettering import fitting, misdrawn, runs, text_width, undrawn, write

CAT = "\u732b"
DOM = "\u0434\u043e\u043c"  # Cyrillic
QITTA = "\u0642\u0637\u0629"  # Arabic
SHALOM = "\u05e9\u05dc\u05d5\u05dd"  # Hebrew


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Fonts are remembered; no test shall see those of another."""
    yield
    fonts.fonts_for.cache_clear()
    lettering.runs.cache_clear()


class Alphabet(ImageFont.FreeTypeFont):
    """A font of these characters, each 10 pixels wide."""

    def __init__(self, characters: str) -> None:
        self.characters = characters

    def getlength(self, text: str) -> float:
        return 10.0 * len(text)


def drawn_by(font: Alphabet, character: str) -> object:
    return character if character in font.characters else "box"


@pytest.fixture
def alphabets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Alphabet]:
    """Fonts for three scripts; the first has digits, too."""
    found = {name: Alphabet(name) for name in ("catdog12", QITTA, CAT)}
    monkeypatch.setattr(lettering, "fonts_for", lambda text, size: tuple(found.values()))
    monkeypatch.setattr(fonts, "_drawn", drawn_by)
    return found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", ["cat"]),
        (f"cat {CAT}", ["cat ", CAT]),
        (f"{CAT} {QITTA}", [CAT + " ", QITTA]),
        # Of a text from right to left the first part is at the right, with the space after it.
        (f"{QITTA} cat", ["cat", QITTA + " "]),
        (f"{QITTA} cat {QITTA}", [" " + QITTA, "cat", QITTA + " "]),
        (f"cat {QITTA} {CAT}", ["cat ", QITTA, " " + CAT]),
        (f"{QITTA} cat {CAT}", ["cat", " " + CAT, QITTA + " "]),
    ],
)
def test_parts_stand_in_the_order_of_reading(alphabets: dict, text: str, shown: list[str]):
    assert [run.text for run in runs(text, 20)] == shown
    assert text_width(text, 20) == 10 * len(text)
    for run in runs(text, 20):
        assert set(run.text) <= {*run.font.characters, " "}


@given(st.text(alphabet=f"cat12 {QITTA}{CAT}x", min_size=1))
def test_no_character_is_lost(text: str):
    found = tuple(Alphabet(name) for name in ("cat12", QITTA, CAT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lettering, "fonts_for", lambda text, size: found)
        patch.setattr(fonts, "_drawn", drawn_by)
        lettering.runs.cache_clear()
        assert sorted("".join(run.text for run in runs(text, 20))) == sorted(text)
    lettering.runs.cache_clear()


def test_a_text_lies_where_it_was_aligned():
    places = {}
    for align in "lmr":
        canvas = Image.new("L", (200, 60))
        write(ImageDraw.Draw(canvas), (100, 30), "house", 20, "white", align)
        places[align] = canvas.getbbox()
        assert places[align][1] < 30 < places[align][3]
    assert 99 <= places["l"][0] > places["m"][0] > places["r"][0]
    assert places["r"][2] <= 101
    assert abs(places["m"][0] + places["m"][2] - 200) <= 4
    outlined = Image.new("L", (200, 60))
    write(ImageDraw.Draw(outlined), (100, 30), "house", 20, "white", "m", outline=(3, "#808080"))
    values = np.asarray(outlined)
    assert (values == 128).sum() > (values == 255).sum() > 0


def test_long_words_are_cut_to_their_room():
    cut = fitting("a very long label " * 9, 20, 200)
    assert cut.endswith("...")
    assert text_width(cut, 20) <= 200
    assert fitting("sea", 20, 200) == "sea"


def drawn(text: str) -> bytes:
    canvas = Image.new("L", (200, 60))
    write(ImageDraw.Draw(canvas), (100, 30), text, 20, "white", "m")
    return canvas.tobytes()


@pytest.mark.parametrize("words", [(CAT, "\u72d7"), (DOM, "\u043b\u0435\u0441")])
def test_two_words_of_another_script_look_different_or_are_known_to_be_boxes(words: tuple):
    assert drawn(words[0]) != drawn(words[1]) or all(undrawn(word) == word for word in words)


def test_a_font_of_the_system_draws_what_pillows_lacks(monkeypatch: pytest.MonkeyPatch):
    """fc-match is asked for the characters; a font that lacks them is not taken."""
    latin = fonts.fonts_for("house", 20)[0]
    monkeypatch.setattr(fonts, "_from_system", lambda character, size: latin)
    assert undrawn(f"{DOM} 100%") == DOM
    monkeypatch.undo()
    fonts.fonts_for.cache_clear()
    assert undrawn("house 100%") == ""
    found = fonts._from_system(DOM[0], 20)
    if found is None or fonts.missing(found, DOM):
        pytest.skip("no font with Cyrillic letters here")
    assert undrawn(DOM) == ""


def test_letters_that_join_are_joined_or_named(monkeypatch: pytest.MonkeyPatch):
    text = f"{QITTA} and {SHALOM} \u0939\u093f"
    if features.check("raqm"):
        assert misdrawn(text) == ""
        if undrawn(QITTA) == "":
            letters = sum(text_width(letter, 20) for letter in QITTA)
            assert text_width(QITTA, 20) != letters
    monkeypatch.setattr(lettering.features, "check", lambda name: False)
    assert set(misdrawn(text)) == {*QITTA, *SHALOM, "\u093f"}
    assert misdrawn(f"cat {DOM} {CAT} caf\u00e9") == ""
