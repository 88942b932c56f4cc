"""Where each label looks, as a sheet of heat maps for people."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from disa.inference.lettering import fitting, write
from disa.inference.overlay import INK, PAPER

SHEET_TILES = 64
TILE = 300  # pixels of a tile's long side
LETTER = 20  # pixels of a caption's letters

Array = NDArray[Any]


def saliency_sheet(
    image: Array,
    saliency: Mapping[str, Array],
    matched: Mapping[str, float | None] | None,
    foreground: Array | None,
) -> Image.Image:
    """Return picture, foreground if known, and a heat map per label: at most 64, likeliest first.

    A map shows where the label looks, up to its own peak; the caption says how probably the label
    is there at all.
    """
    labels = list(saliency)
    if matched is not None:
        labels.sort(key=lambda label: -(matched[label] or 0))

    scale = TILE / max(image.shape[:2])
    width = max(1, round(image.shape[1] * scale))
    height = max(1, round(image.shape[0] * scale))
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    picture = np.asarray(small)
    grey = np.asarray(small.convert("L").convert("RGB"))

    # The picture itself, then what is foreground in it; the rest is dark.
    tiles = [("picture", picture)]
    if foreground is not None:
        mask = Image.fromarray(foreground).resize((width, height), Image.Resampling.NEAREST)
        things = np.where(np.asarray(mask)[..., None], picture, grey // 4)
        tiles.append((f"foreground {foreground.mean():.0%}", things))
    for label in labels[:SHEET_TILES]:
        map_image = Image.fromarray(saliency[label])
        heat = map_image.resize((width, height), Image.Resampling.BILINEAR)
        caption = " ".join(label.split())
        match = None if matched is None else matched[label]
        if match is not None:
            caption += f" {match:.0%}"
        tiles.append((caption, _heat(grey, np.clip(np.asarray(heat), 0, 1))))
    return _sheet(tiles, (width, height))


def _heat(grey: Array, heat: Array) -> Array:
    """Lay a dark-to-yellow scale over a grey picture, the stronger the hotter."""
    stops = np.array(
        [[0, 0, 0], [90, 10, 110], [200, 50, 60], [250, 160, 20], [255, 250, 160]], np.float32
    )
    position = heat * (len(stops) - 1)
    colour = np.stack(
        [np.interp(position, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=-1
    )
    strength = 0.35 + 0.5 * heat[..., None]
    blended: Array = (1 - strength) * grey + strength * colour
    return blended.round().astype(np.uint8)


def _sheet(tiles: list[tuple[str, Array]], size: tuple[int, int]) -> Image.Image:
    """Lay tiles of one size out in a sheet that is about square, captions beneath them."""
    columns = min(len(tiles), max(2, round((len(tiles) * size[1] / size[0]) ** 0.5)))
    rows = -(-len(tiles) // columns)
    gap = 10
    caption = 30
    wide = max(size[0], 120) + gap
    high = size[1] + caption + gap
    sheet = Image.new("RGB", (columns * wide + gap, rows * high + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (text, tile) in enumerate(tiles):
        x = gap + number % columns * wide
        y = gap + number // columns * high
        sheet.paste(Image.fromarray(tile), (x, y))
        middle = y + size[1] + caption // 2
        write(draw, (x, middle), fitting(text, LETTER, wide - gap), LETTER, INK)
    return sheet
