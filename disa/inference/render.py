"""Pictures for people: (image, labels, words) -> overlay with a legend, palette PNG, saliency sheet. Pillow only."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from disa.inference.colours import word_colours

SMALLEST, LARGEST = 640, 2400  # pixels of an overlay's long side; smaller pictures are enlarged, larger ones shrunk
TINT = 0.55  # share of the label's colour in the blend
LEGEND_ROWS = 28  # more labels than this are summed up in the last line
PAPER, INK, FAINT = (255, 255, 255), (25, 25, 30), (125, 125, 130)
NOTHING = (70, 70, 75)  # colour of background in the legend; in the picture it is left as it is, only darker
PALETTE_BACKGROUND = 255
SHEET_TILES = 64

Array = np.ndarray[Any, Any]
Colour = tuple[int, int, int]


class Entry(NamedTuple):
    """One line of the legend."""

    text: str
    share: float  # of the picture, 0..1
    colour: Colour


def overlay(image: Array, labels: Array, words: Sequence[str], *, beside: bool = False) -> Image.Image:
    """Return the picture tinted by label, with borders and a legend on its own panel; `beside`: the original first.

    image: uint8 (H, W, 3); labels: (H, W) index into `words`, negative for background.
    """
    width, height = _shown_size(image.shape[1], image.shape[0])
    original = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    index = np.asarray(Image.fromarray(labels.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST))
    tinted = _tint(np.asarray(original), index, word_colours(words))
    pictures = [original, tinted] if beside else [tinted]
    return _with_legend(pictures, legend(labels, words))


def legend(labels: Array, words: Sequence[str]) -> list[Entry]:
    """Return the legend's lines, largest share first; labels found nowhere come last, background after them."""
    counts = np.bincount(labels[labels >= 0], minlength=len(words))
    colours = word_colours(words)
    order = np.argsort(-counts, kind="stable")
    entries = [Entry(" ".join(words[i].split()), counts[i] / labels.size, _colour(colours[i])) for i in order]
    if len(entries) > LEGEND_ROWS:
        rest = entries[LEGEND_ROWS - 1 :]
        more = Entry(f"and {len(rest)} other labels", sum(entry.share for entry in rest), FAINT)
        entries = [*entries[: LEGEND_ROWS - 1], more]
    if (empty := (labels < 0).sum()) > 0:
        entries.append(Entry("(background)", empty / labels.size, NOTHING))
    return entries


def palette_image(labels: Array, words: Sequence[str]) -> Image.Image:
    """Return a mode P image whose values are the label indices and whose palette shows them; background is 255.

    More than 255 labels do not fit into it: they give a 16-bit grey image with 65535 for background.
    """
    if len(words) > PALETTE_BACKGROUND:
        return Image.fromarray(np.where(labels < 0, 65535, labels).astype(np.uint16))
    indexed = Image.fromarray(np.where(labels < 0, PALETTE_BACKGROUND, labels).astype(np.uint8), mode="P")
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(words)] = word_colours(words)
    indexed.putpalette(palette.tobytes())
    return indexed


def saliency_sheet(
    image: Array, saliency: Mapping[str, Array], matched: Mapping[str, float] | None, foreground: Array
) -> Image.Image:
    """Return a sheet of heat maps, one per label, likeliest first (at most 64), after the foreground mask.

    A map shows where the label looks, up to its own peak; the caption says how probably the label is there at all.
    """
    words = sorted(saliency, key=lambda word: -matched[word] if matched else 0)[:SHEET_TILES]
    scale = 300 / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    grey = np.asarray(small.convert("L").convert("RGB"))
    mask = np.asarray(Image.fromarray(foreground).resize(size, Image.Resampling.NEAREST))[..., None]
    share = f"foreground {foreground.mean():.0%}"
    tiles = [("picture", np.asarray(small)), (share, np.where(mask, np.asarray(small), grey // 4))]
    for word in words:
        heat = np.asarray(Image.fromarray(saliency[word]).resize(size, Image.Resampling.BILINEAR))
        caption = " ".join(word.split()) + (f" {matched[word]:.0%}" if matched else "")
        tiles.append((caption, _heat(grey, np.clip(heat, 0, 1))))
    return _sheet(tiles, size)


def _tint(image: Array, index: Array, colours: Array) -> Image.Image:
    """Blend colours over a picture and draw each region's border as a dark line with a light one beside it."""
    shown = np.where(index >= 0, index, len(colours))
    table = np.vstack([colours, [NOTHING]]).astype(np.float32)[shown]
    blended = (1 - TINT) * image + TINT * table
    thickness = max(1, round(max(image.shape[:2]) / 500))
    edges = _borders(index, thickness)
    blended[_borders(index, 2 * thickness)] = 255
    blended[edges] = 20
    return Image.fromarray(blended.round().astype(np.uint8))


def _borders(index: Array, thickness: int) -> Array:
    """Return (H, W) bool: pixels within `thickness` above or left of another region, or as far below or right."""
    found = np.zeros(index.shape, bool)
    for shift in range(1, thickness // 2 + 2):
        down, right = index[shift:] != index[:-shift], index[:, shift:] != index[:, :-shift]
        found[shift:] |= down
        found[:-shift] |= down
        found[:, shift:] |= right
        found[:, :-shift] |= right
    return found


def _heat(grey: Array, heat: Array) -> Array:
    """Lay a dark-to-yellow scale over a grey picture, the stronger the hotter."""
    stops = np.array([[0, 0, 0], [90, 10, 110], [200, 50, 60], [250, 160, 20], [255, 250, 160]], np.float32)
    position = heat * (len(stops) - 1)
    colour = np.stack([np.interp(position, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=-1)
    strength = 0.35 + 0.5 * heat[..., None]
    return ((1 - strength) * grey + strength * colour).round().astype(np.uint8)


def _with_legend(pictures: list[Image.Image], entries: list[Entry]) -> Image.Image:
    """Put the legend right of one upright picture, otherwise beneath, in as many columns as fit."""
    gap = max(6, max(pictures[0].size) // 100)
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    height = pictures[0].height
    text_height = round(max(16, max(pictures[0].size) / 36))
    font = ImageFont.load_default(text_height)
    row = round(1.5 * text_height)
    column = min(round(3 * row + max(font.getlength(entry.text) for entry in entries)), 14 * text_height) + 3 * row
    at_right = width <= 1.2 * height
    if at_right:
        columns = -(-len(entries) * row // max(row, height - 2 * gap))
        size = width + columns * column + 2 * gap, height
    else:
        columns = max(1, (width - 2 * gap) // column)
        size = max(width, column + 2 * gap), height + -(-len(entries) // columns) * row + 2 * gap
    rows = -(-len(entries) // columns)
    size = size[0], max(size[1], rows * row + 2 * gap)
    canvas = Image.new("RGB", size, PAPER)
    for number, picture in enumerate(pictures):
        canvas.paste(picture, (number * (picture.width + gap), 0))
    draw = ImageDraw.Draw(canvas)
    left, top = (width + gap, gap) if at_right else (gap, height + gap)
    for number, entry in enumerate(entries):
        _draw_entry(draw, entry, (left + number // rows * column, top + number % rows * row), column, row, font)
    return canvas


def _draw_entry(draw: ImageDraw.ImageDraw, entry: Entry, at: tuple[int, int], column: int, row: int, font: Any) -> None:
    """Draw a swatch, the word and its share; a label found nowhere gets an empty swatch and faint text."""
    x, y = at
    found = entry.share > 0
    pad, middle = row // 8, y + row // 2
    box = (x + pad, y + pad, x + row - pad, y + row - pad)
    draw.rectangle(
        box, fill=entry.colour if found else PAPER, outline=INK if found else entry.colour, width=max(1, pad // 2)
    )
    ink = INK if found else FAINT
    share = f"{entry.share:.0%}" if entry.share >= 0.01 or not found else "<1%"
    right = x + column - row // 2
    draw.text((right, middle), share, ink, font, anchor="rm")
    room = right - (x + round(1.3 * row)) - font.getlength("100% ")
    draw.text((x + round(1.3 * row), middle), _fitting(entry.text, font, room), ink, font, anchor="lm")


def _sheet(tiles: list[tuple[str, Array]], size: tuple[int, int]) -> Image.Image:
    columns = min(len(tiles), max(2, round((len(tiles) * size[1] / size[0]) ** 0.5)))
    font = ImageFont.load_default(20)
    gap, caption = 10, 30
    wide, high = max(size[0], 120) + gap, size[1] + caption + gap
    canvas = Image.new("RGB", (columns * wide + gap, -(-len(tiles) // columns) * high + gap), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (text, tile) in enumerate(tiles):
        x, y = gap + number % columns * wide, gap + number // columns * high
        canvas.paste(Image.fromarray(tile), (x, y))
        draw.text((x, y + size[1] + caption // 2), _fitting(text, font, wide - gap), INK, font, anchor="lm")
    return canvas


def _fitting(text: str, font: Any, room: float) -> str:
    """Cut a text that is wider than its room."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."


def _shown_size(width: int, height: int) -> tuple[int, int]:
    long = max(width, height)
    scale = min(max(long, SMALLEST), LARGEST) / long
    return max(1, round(width * scale)), max(1, round(height * scale))


def _colour(rgb: Array) -> Colour:
    return int(rgb[0]), int(rgb[1]), int(rgb[2])
