"""Texts in any script, drawn on a picture: each part by a font that has it (decision D127).

Pillow shapes and orders a part if it was built with raqm; the parts are put in order here.
"""

import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from PIL import ImageDraw, features

from disa.inference.fonts import Font, fonts_for, missing

Colour = str | tuple[int, int, int]
BEFORE = {"l": 0.0, "m": 0.5, "r": 1.0}  # share of a text's width that lies before its place


class Run(NamedTuple):
    """A part of a text, and the font that draws it."""

    text: str
    font: Font


@lru_cache(maxsize=4096)
def runs(text: str, size: int | float) -> tuple[Run, ...]:
    """Return the parts of a text from left to right; a single one if one font draws it all."""
    fonts = fonts_for(text, size)
    font = min(fonts, key=lambda each: len(missing(each, text)))
    parts: list[Run] = []
    for character in text:
        # The font stays as long as it can: spaces and signs are drawn as what they follow.
        if missing(font, character):
            font = next((each for each in fonts if not missing(each, character)), font)
        if parts and parts[-1].font is font:
            character = parts.pop().text + character
        parts.append(Run(character, font))

    # A space between two directions runs as the text itself does.
    for index, following in enumerate(parts[1:]):
        run = parts[index]
        if _is_leftward(run.text) != _is_leftward(text):
            kept = run.text.rstrip()
            parts[index] = Run(kept, run.font)
            parts[index + 1] = Run(run.text.removeprefix(kept) + following.text, following.font)

    # Among others, parts that run from right to left stand in reverse; a text that begins with
    # one is reversed as a whole.
    by_direction = groupby(parts, key=lambda run: _is_leftward(run.text))
    ordered = [list(group)[:: -1 if leftward else 1] for leftward, group in by_direction]
    if _is_leftward(text):
        ordered.reverse()
    return tuple(run for group in ordered for run in group) or (Run(text, font),)


def text_width(text: str, size: int | float) -> int | float:
    """Return a text's width in pixels."""
    return sum(run.font.getlength(run.text) for run in runs(text, size))


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int | float, int | float],
    text: str,
    size: int | float,
    colour: Colour,
    align: str = "l",
    outline: tuple[int | float, Colour] | None = None,
) -> None:
    """Draw a text of a line whose vertical middle is at `place`.

    align: "l", "m" or "r": it begins there, lies across it or ends there. outline: its pixels and
    colour.
    """
    parts = runs(text, size)
    x = place[0] - BEFORE[align] * text_width(text, size)
    ascent, descent = parts[0].font.getmetrics()
    baseline = place[1] + (ascent - descent) / 2
    starts = []
    for run in parts:
        starts.append(x)
        x += run.font.getlength(run.text)
    # Outlines first: none may cover the letters beside it.
    if outline is not None:
        pixels, dark = outline
        for start, run in zip(starts, parts, strict=True):
            draw.text((start, baseline), run.text, dark, run.font, "ls", stroke_width=pixels)
    for start, run in zip(starts, parts, strict=True):
        draw.text((start, baseline), run.text, colour, run.font, "ls")


def fitting(text: str, size: int | float, room: int | float) -> str:
    """Cut a text that is wider than its room."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "...", size) > room:
        text = text[:-1]
    return text + "..."


def undrawn(text: str) -> str:
    """Return the characters of a text that no font has: boxes stand for them."""
    fonts = fonts_for(text, 16)
    return "".join(
        character
        for character in dict.fromkeys(text)
        if all(missing(font, character) for font in fonts)
    )


def misdrawn(text: str) -> str:
    """Return the characters that need to be shaped or put in order, where Pillow cannot do it."""
    if features.check("raqm"):
        return ""
    needing = [each for each in dict.fromkeys(text) if _is_leftward(each) or _is_vowel_sign(each)]
    return "".join(needing)


def _is_leftward(text: str) -> bool:
    """Tell whether the first letter of a text belongs to a script from right to left."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((each for each in directions if each in ("L", "R", "AL")), "L") != "L"


def _is_vowel_sign(character: str) -> bool:
    """Tell a sign that stands around its letter, as in scripts of India."""
    return unicodedata.category(character) == "Mc"
