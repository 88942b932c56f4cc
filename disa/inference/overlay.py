"""Pictures for people: the overlay with labels and legend, and the palette image. Pillow only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from disa.inference.colours import word_colours

SMALLEST, LARGEST = (
    640,
    2400,
)  # pixels of an overlay's long side; smaller pictures are enlarged, larger ones shrunk
# Share of the label's colour in the blend; the rest is the picture in grey, so that the hue is the
# label's
TINT = 0.6
NAMED_SHARE = 0.01  # of the picture; smaller regions have no room for their word
PALETTE_BACKGROUND = 255

Array = NDArray[Any]

LEGEND_ROWS = 28  # more labels than this are summed up in the last line
ABSENT_ROWS = 8  # and so are more labels that were found nowhere than this
PAPER, INK, FAINT = (255, 255, 255), (25, 25, 30), (125, 125, 130)
NOTHING = (70, 70, 75)  # colour of background

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def overlay(
    image: Array, labels: Array, words: Sequence[str], *, beside: bool = False
) -> Image.Image:
    """Return the picture tinted by label, with borders, words and a legend on its own panel.

    image: uint8 (H, W, 3); labels: (H, W) index into `words`, negative for background. beside: the
        original first.
    """
    width, height = _shown_size(image.shape[1], image.shape[0])
    original = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    index = np.asarray(
        Image.fromarray(labels.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST)
    )
    tinted = _tint(np.asarray(original.convert("L")), index, word_colours(words))
    _write_words(tinted, index, words)
    return with_legend([original, tinted] if beside else [tinted], legend(labels, words))


def palette_image(labels: Array, words: Sequence[str]) -> Image.Image:
    """Return a mode P image whose values are the label indices and whose palette shows them.

    Background is 255.

    More than 255 labels do not fit into it: they give a 16-bit grey image with 65535 for
    background.
    """
    if len(words) > PALETTE_BACKGROUND:
        return Image.fromarray(np.where(labels < 0, 65535, labels).astype(np.uint16))
    indexed = Image.fromarray(np.where(labels < 0, PALETTE_BACKGROUND, labels).astype(np.uint8))
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(words)] = word_colours(words)
    indexed.putpalette(palette.tobytes())  # makes it mode P
    return indexed


def _tint(grey: Array, index: Array, colours: Array) -> Image.Image:
    """Blend colours over a picture in grey and draw each border as a dark line in a light one."""
    table = np.vstack([colours, [NOTHING]]).astype(np.float32)
    blended = (1 - TINT) * grey[..., None] + TINT * table[np.where(index >= 0, index, len(colours))]
    thickness = max(
        1, round(min(max(grey.shape) / 600, min(grey.shape) / 100))
    )  # a strip is not all border
    blended[_borders(index, 2 * thickness)] = 255
    blended[_borders(index, thickness)] = 20
    return Image.fromarray(blended.round().astype(np.uint8))


def _borders(index: Array, reach: int) -> Array:
    """Return which pixels have another region at most `reach` pixels away, along an axis."""
    found = np.zeros(index.shape, bool)
    for shift in range(1, reach + 1):
        down, right = index[shift:] != index[:-shift], index[:, shift:] != index[:, :-shift]
        found[shift:] |= down
        found[:-shift] |= down
        found[:, shift:] |= right
        found[:, :-shift] |= right
    return found


def _write_words(picture: Image.Image, index: Array, words: Sequence[str]) -> None:
    """Write each word where its region is widest, unless it would cover another word."""
    size = max(14, max(picture.size) / 34)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    counts = np.bincount(index[index >= 0], minlength=len(words))
    taken: list[tuple[float, float, float, float]] = []
    for label in np.argsort(counts, kind="stable"):  # small regions first: they have no other place
        if counts[label] < NAMED_SHARE * index.size:
            continue
        word = " ".join(words[label].split())
        half = font.getlength(word) / 2 + size / 4
        x, y = _widest_place(index == label)
        x = min(max(x, half), max(half, picture.width - half))
        y = min(max(y, size), picture.height - size)
        box = (x - half, y - size * 0.7, x + half, y + size * 0.7)
        if 2 * half > picture.width or any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        draw.text(
            (x, y),
            word,
            "white",
            font,
            anchor="mm",
            stroke_width=max(2, size / 8),
            stroke_fill=(20, 20, 25),
        )


def _widest_place(region: Array) -> tuple[float, float]:
    """Return (x, y) of a point far from the region's border, by wearing the region away."""
    scale = max(1.0, max(region.shape) / 200)
    size = max(1, round(region.shape[1] / scale)), max(1, round(region.shape[0] / scale))
    left = Image.fromarray(region.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
    left = _framed(left)
    points = np.argwhere(np.asarray(left))
    while left.getbbox():
        points = np.argwhere(np.asarray(left))
        left = left.filter(ImageFilter.MinFilter(3))
    if len(points) == 0:  # the region is lost at this scale
        points = np.argwhere(region)
        return float(points[0][1]), float(points[0][0])
    y, x = points[len(points) // 2] - 1
    return float((x + 0.5) * region.shape[1] / size[0]), float(
        (y + 0.5) * region.shape[0] / size[1]
    )


def _framed(mask: Image.Image) -> Image.Image:
    """Frame a mask in black, so that it wears away from the picture's edges, too."""
    framed = Image.new("L", (mask.width + 2, mask.height + 2))
    framed.paste(mask, (1, 1))
    return framed


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shown_size(width: int, height: int) -> tuple[int, int]:
    long = max(width, height)
    scale = min(max(long, SMALLEST), LARGEST) / long
    return max(1, round(width * scale)), max(1, round(height * scale))


class Entry(NamedTuple):
    """One line of the legend."""

    text: str
    share: float  # of the picture, 0..1
    colour: Colour


def legend(labels: Array, words: Sequence[str]) -> list[Entry]:
    """Return the legend's lines, largest share first.

    Labels found nowhere come last, background after them.

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
    """Put the legend right of an upright picture, otherwise beneath it."""
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
    """Draw a swatch, the word and its share.

    A label found nowhere gets an empty swatch and faint text.
    """
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
