"""Where each label looks, as a sheet of heat maps for people."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from disa.inference.overlay import INK, PAPER, fitting

SHEET_TILES = 64
TILE = 300  # pixels of a tile's long side

Array = NDArray[Any]


def saliency_sheet(
    image: Array,
    saliency: Mapping[str, Array],
    matched: Mapping[str, float] | None,
    foreground: Array,
) -> Image.Image:
    """Return the picture, its foreground, and a heat map per label: at most 64, likeliest first.

    A map shows where the label looks, up to its own peak; the caption says how probably the label
    is there at all.
    """
    words = sorted(saliency, key=lambda word: -matched[word] if matched else 0)[:SHEET_TILES]
    scale = TILE / max(image.shape[:2])
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
    columns = min(len(tiles), max(2, round((len(tiles) * size[1] / size[0]) ** 0.5)))
    font = ImageFont.load_default(20)
    gap, caption = 10, 30
    wide, high = max(size[0], 120) + gap, size[1] + caption + gap
    canvas = Image.new("RGB", (columns * wide + gap, -(-len(tiles) // columns) * high + gap), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (text, tile) in enumerate(tiles):
        x, y = gap + number % columns * wide, gap + number // columns * high
        canvas.paste(Image.fromarray(tile), (x, y))
        draw.text(
            (x, y + size[1] + caption // 2), fitting(text, font, wide - gap), INK, font, anchor="lm"
        )
    return canvas
