"""Pictures for people: the overlay with labels and legend, and the palette image. Pillow only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from disa.data.arrays import strips
from disa.data.masks import ignored_value, label_type
from disa.inference.colours import label_colours
from disa.inference.lettering import fitting, text_width, write

# Pixels of an overlay's long side: smaller pictures are enlarged, larger ones shrunk.
SMALLEST = 640
LARGEST = 2400
# Share of the label's colour in the blend. The rest is grey, so that the hue is the label's own.
TINT = 0.6
NAMED_SHARE = 0.01  # of the picture; a smaller region has no room for its label
LEGEND_ROWS = 28  # more labels than this are summed up in the last line
ABSENT_ROWS = 8  # and so are more labels without a pixel than this

PAPER = (255, 255, 255)
INK = (25, 25, 30)
FAINT = (125, 125, 130)
DARK = (20, 20, 25)  # around labels
NOTHING = (70, 70, 75)  # colour of background

Array = NDArray[Any]
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def overlay(
    image: Array, indices: Array, labels: Sequence[str], *, beside: bool = False
) -> Image.Image:
    """Return the picture tinted by label, with borders, labels and a legend on its own panel.

    image: uint8 (H, W, 3). indices: (H, W), of `labels`, negative for background. beside: the
    original stands before it.
    """
    size = _shown_size(image.shape[1], image.shape[0])
    original = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    map_image = Image.fromarray(indices.astype(np.int32, copy=False))
    shown = np.asarray(map_image.resize(size, Image.Resampling.NEAREST))
    picture = tinted(original, shown, labels)
    return with_legend([original, picture] if beside else [picture], legend(indices, labels))


def tinted(picture: Image.Image, indices: Array, labels: Sequence[str]) -> Image.Image:
    """Return a picture of the label map's size tinted by label, with borders and labels."""
    result = _tint(np.asarray(picture.convert("L")), indices, label_colours(labels))
    _write_labels(result, indices, labels)
    return result


def index_image(indices: Array, labels: Sequence[str]) -> Image.Image:
    """Return a grey image (mode L) whose values are the indices; background is 255.

    More than 255 labels do not fit: they give a 16-bit image, with 65535 for background.
    """
    return Image.fromarray(index_values(indices, len(labels)))


def index_values(indices: Array, labels: int) -> Array:
    """Return indices of so many labels as a label map's values, background as `ignored_value`."""
    background = ignored_value(labels)
    values = indices.astype(label_type(background))
    values[indices < 0] = background
    return values


def palette_image(indices: Array, labels: Sequence[str]) -> Image.Image:
    """Return a mode P image whose values are the indices and whose palette shows them.

    More than 255 labels have no palette: they give the same as `index_image`.
    """
    picture = index_image(indices, labels)
    if picture.mode != "L":
        return picture
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(labels)] = label_colours(labels)
    picture.putpalette(palette.tobytes())  # makes it mode P
    return picture


def _tint(grey: Array, indices: Array, colours: Array) -> Image.Image:
    """Blend colours over a picture in grey, and draw each border as a dark line in a light one."""
    table = np.vstack([colours, [NOTHING]]).astype(np.float32)
    colour = table[np.where(indices >= 0, indices, len(colours))]
    blended = (1 - TINT) * grey[..., None] + TINT * colour
    # A narrow strip has thinner borders, or it would be nothing else.
    thickness = max(1, round(min(max(grey.shape) / 600, min(grey.shape) / 100)))
    blended[_borders(indices, 2 * thickness)] = 255
    blended[_borders(indices, thickness)] = 20
    return Image.fromarray(blended.round().astype(np.uint8))


def _borders(indices: Array, reach: int) -> Array:
    """Return which pixels have another region at most `reach` pixels away, along an axis."""
    is_border = np.zeros(indices.shape, bool)
    for shift in range(1, reach + 1):
        down = indices[shift:] != indices[:-shift]
        is_border[shift:] |= down
        is_border[:-shift] |= down
        right = indices[:, shift:] != indices[:, :-shift]
        is_border[:, shift:] |= right
        is_border[:, :-shift] |= right
    return is_border


def _write_labels(picture: Image.Image, indices: Array, labels: Sequence[str]) -> None:
    """Write each label where its region is widest, unless it would cover another one."""
    size = max(14, max(picture.size) / 34)
    draw = ImageDraw.Draw(picture)
    counts = np.bincount(indices[indices >= 0], minlength=len(labels))
    taken: list[Box] = []
    # Small regions first: they have no other place.
    for index in np.argsort(counts, kind="stable"):
        if counts[index] < NAMED_SHARE * indices.size:
            continue
        text = " ".join(labels[index].split())
        half = text_width(text, size) / 2 + size / 4
        if 2 * half > picture.width or 2 * size > picture.height:
            continue  # no room for it anywhere
        x, y = _widest_place(indices == index)
        x = min(max(x, half), picture.width - half)
        y = min(max(y, size), picture.height - size)
        box = (x - half, y - size * 0.7, x + half, y + size * 0.7)
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        write(draw, (x, y), text, size, "white", "m", outline=(max(2, size / 8), DARK))


def _widest_place(region: Array) -> tuple[float, float]:
    """Return (x, y) of a point far from the region's border: the middle of the largest square."""
    # At most about 200 pixels a side: that is exact enough.
    scale = max(1.0, max(region.shape) / 200)
    width = max(1, round(region.shape[1] / scale))
    height = max(1, round(region.shape[0] / scale))
    small = Image.fromarray(region.astype(np.uint8) * 255)
    small = small.resize((width, height), Image.Resampling.NEAREST)
    inside = np.asarray(small) > 0
    if not inside.any():  # the region is lost at this scale
        row, column = np.argwhere(region)[0]
        return float(column), float(row)

    # How much of a square lies in the region follows from sums over all pixels above and left.
    sums = np.pad(inside.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    least, most = 0, (min(width, height) - 1) // 2  # pixels from the middle to the border
    while least < most:
        middle = (least + most + 1) // 2
        if len(_full_squares(sums, middle)):
            least = middle
        else:
            most = middle - 1
    points = _full_squares(sums, least)
    row, column = points[len(points) // 2]
    x = (column + 0.5) * region.shape[1] / width
    y = (row + 0.5) * region.shape[0] / height
    return float(x), float(y)


def _full_squares(sums: Array, reach: int) -> Array:
    """Return the middles (row, column) of squares that lie in the region as a whole."""
    side = 2 * reach + 1
    filled = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.argwhere(filled == side**2) + reach


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shown_size(width: int, height: int) -> tuple[int, int]:
    long = max(width, height)
    scale = min(max(long, SMALLEST), LARGEST) / long
    return max(1, round(width * scale)), max(1, round(height * scale))


def areas(indices: Array, count: int, weights: Array | None = None) -> Array:
    """Return the pixels of each of `count` labels, or the sums of their weights (H, W)."""
    total = np.zeros(count, np.int64 if weights is None else np.float64)
    for rows in strips(*indices.shape):
        inside = indices[rows] >= 0
        own = None if weights is None else weights[rows][inside]
        total += np.bincount(indices[rows][inside], own, count)
    return total


class Entry(NamedTuple):
    """One line of the legend."""

    text: str
    share: float  # of the picture, 0..1
    colour: Colour


def legend(indices: Array, labels: Sequence[str]) -> list[Entry]:
    """Return the legend's lines: labels by falling share, then those without a pixel, background.

    Many labels without a pixel take one line: they would hide the others.
    """
    counts = areas(indices, len(labels))
    colours = label_colours(labels)
    entries = []
    for index in np.argsort(-counts, kind="stable"):
        text = " ".join(labels[index].split())
        red, green, blue = map(int, colours[index])
        entries.append(Entry(text, counts[index] / indices.size, (red, green, blue)))

    absent = sum(entry.share == 0 for entry in entries)
    if absent > ABSENT_ROWS:
        entries = [*entries[:-absent], Entry(f"{absent} labels found nowhere", 0, FAINT)]
    if len(entries) > LEGEND_ROWS:
        rest = entries[LEGEND_ROWS - 1 :]
        more = Entry(f"and {len(rest)} other labels", sum(entry.share for entry in rest), FAINT)
        entries = [*entries[: LEGEND_ROWS - 1], more]
    empty = int((indices < 0).sum())
    if empty:
        entries.append(Entry("(background)", empty / indices.size, NOTHING))
    return entries


def with_legend(pictures: list[Image.Image], entries: list[Entry]) -> Image.Image:
    """Put the legend right of an upright picture, otherwise beneath it."""
    gap = max(6, max(pictures[0].size) // 100)
    width = sum(picture.width + gap for picture in pictures) - gap
    height = pictures[0].height

    # A row holds a swatch, the text and the share, with room around them.
    letter = max(16, max(pictures[0].size) / 36)
    row = round(1.5 * letter)
    widest = max(text_width(entry.text, letter) for entry in entries)
    room = min(widest, 14 * letter)
    column = round(room + text_width("100%", letter)) + 3 * row

    at_right = width <= 1.2 * height
    if at_right:
        most = max(1, (height - 2 * gap) // row)
    else:
        most = -(-len(entries) // max(1, width // column))
    columns = -(-len(entries) // most)
    rows = min(most, len(entries))
    if at_right:
        left, top = width + gap, gap
        size = (left + columns * column, max(height, rows * row + 2 * gap))
    else:
        left, top = gap, height + gap
        size = (max(width, columns * column + gap), top + rows * row + gap)

    canvas = Image.new("RGB", size, PAPER)
    for number, picture in enumerate(pictures):
        canvas.paste(picture, (number * (picture.width + gap), 0))
    draw = ImageDraw.Draw(canvas)
    for number, entry in enumerate(entries):
        place = (left + number // rows * column, top + number % rows * row)
        _draw_entry(draw, entry, place, room, row, letter)
    return canvas


def _draw_entry(
    draw: ImageDraw.ImageDraw,
    entry: Entry,
    place: tuple[int, int],
    room: float,
    row: int,
    letter: int | float,
) -> None:
    """Draw a swatch, the text and the share. Without a pixel they are an empty swatch and faint."""
    x, y = place
    middle = y + row // 2
    pad = row // 8
    box = (x + pad, y + pad, x + row - pad, y + row - pad)
    is_there = entry.share > 0
    fill = entry.colour if is_there else PAPER
    outline = INK if is_there else entry.colour
    ink = INK if is_there else FAINT
    draw.rectangle(box, fill=fill, outline=outline, width=max(1, pad // 2))

    start = x + round(1.3 * row)
    write(draw, (start, middle), fitting(entry.text, letter, room), letter, ink)
    share = "<1%" if 0 < entry.share < 0.01 else f"{entry.share:.0%}"
    end = start + room + text_width("100%", letter) + row // 2
    write(draw, (end, middle), share, letter, ink, "r")
