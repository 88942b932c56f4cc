"""The legend of an overlay, on a panel of its own: (pictures, entries) -> one picture."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from disa.inference.colours import word_colours

LEGEND_ROWS = 28  # more labels than this are summed up in the last line
ABSENT_ROWS = 8  # and so are more labels that were found nowhere than this
PAPER, INK, FAINT = (255, 255, 255), (25, 25, 30), (125, 125, 130)
NOTHING = (70, 70, 75)  # colour of background

Array = NDArray[Any]
Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Entry(NamedTuple):
    """One line of the legend."""

    text: str
    share: float  # of the picture, 0..1
    colour: Colour


def legend(labels: Array, words: Sequence[str]) -> list[Entry]:
    """Return the legend's lines, largest share first; labels found nowhere come last, background after them.

    Many labels found nowhere take one line: they would hide what was found.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(words))
    colours = word_colours(words)
    order = np.argsort(-counts, kind="stable")
    entries = [
        Entry(" ".join(words[i].split()), counts[i] / labels.size, _colour(colours[i]))
        for i in order
    ]
    absent = sum(entry.share == 0 for entry in entries)
    if absent > ABSENT_ROWS:
        entries = [*entries[:-absent], Entry(f"{absent} labels found nowhere", 0, FAINT)]
    if len(entries) > LEGEND_ROWS:
        rest = entries[LEGEND_ROWS - 1 :]
        more = Entry(f"and {len(rest)} other labels", sum(entry.share for entry in rest), FAINT)
        entries = [*entries[: LEGEND_ROWS - 1], more]
    if (empty := (labels < 0).sum()) > 0:
        entries.append(Entry("(background)", empty / labels.size, NOTHING))
    return entries


def with_legend(pictures: list[Image.Image], entries: list[Entry]) -> Image.Image:
    """Put the legend right of an upright picture, otherwise beneath it, in as many columns as needed."""
    gap = max(6, max(pictures[0].size) // 100)
    width, height = sum(picture.width + gap for picture in pictures) - gap, pictures[0].height
    letter = max(16, max(pictures[0].size) / 36)
    font = ImageFont.load_default(letter)
    row = round(1.5 * letter)
    text = min(max(font.getlength(entry.text) for entry in entries), 14 * letter)
    column = (
        round(text + font.getlength("100%")) + 3 * row
    )  # the swatch before, and room after them
    at_right = width <= 1.2 * height
    rows = (
        max(1, (height - 2 * gap) // row)
        if at_right
        else -(-len(entries) // max(1, width // column))
    )
    columns, rows = -(-len(entries) // rows), min(rows, len(entries))
    if at_right:
        left, top = width + gap, gap
        size = left + columns * column, max(height, rows * row + 2 * gap)
    else:
        left, top = gap, height + gap
        size = max(width, columns * column + gap), top + rows * row + gap
    canvas = Image.new("RGB", size, PAPER)
    for number, picture in enumerate(pictures):
        canvas.paste(picture, (number * (picture.width + gap), 0))
    draw = ImageDraw.Draw(canvas)
    for number, entry in enumerate(entries):
        place = left + number // rows * column, top + number % rows * row
        _draw_entry(draw, entry, place, text, row, font)
    return canvas


def _draw_entry(
    draw: ImageDraw.ImageDraw,
    entry: Entry,
    place: tuple[int, int],
    text: float,
    row: int,
    font: Font,
) -> None:
    """Draw a swatch, the word and its share; a label found nowhere gets an empty swatch and faint text."""
    x, y = place
    found = entry.share > 0
    pad, middle, start = row // 8, y + row // 2, x + round(1.3 * row)
    fill, outline, ink = (entry.colour, INK, INK) if found else (PAPER, entry.colour, FAINT)
    box = (x + pad, y + pad, x + row - pad, y + row - pad)
    draw.rectangle(box, fill=fill, outline=outline, width=max(1, pad // 2))
    draw.text((start, middle), fitting(entry.text, font, text), ink, font, anchor="lm")
    share = f"{entry.share:.0%}" if entry.share >= 0.01 or not found else "<1%"
    draw.text(
        (start + text + font.getlength("100%") + row // 2, middle), share, ink, font, anchor="rm"
    )


def fitting(text: str, font: Font, room: int | float) -> str:
    """Cut a text that is wider than its room."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."


def _colour(rgb: Array) -> Colour:
    return int(rgb[0]), int(rgb[1]), int(rgb[2])
