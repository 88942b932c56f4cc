"""Scenes and cards of the drawn world: the same picture at any size and whoever draws it.

Every draw of a random number is part of the world: another order of draws would give other scenes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from disa.picturebook.captions import write_caption
from disa.picturebook.nouns import NOUNS, STUFF, THINGS
from disa.picturebook.stuff import HEIGHT, TEXTURES, noise
from disa.picturebook.things import DRAWINGS, UPRIGHT, Colour, Thing

# Seeds of the training scenes and of the held-out test scenes.
TRAIN_SEED = 1
TEST_SEED = 2

SIZE = 96  # default side of a scene in pixels
# Sides that can be drawn; a larger scene would take gigabytes.
SMALLEST = 8
LARGEST = 4096

_OVERSAMPLING = 3  # things are painted at this multiple and averaged down: smooth edges
# Range of half the side of things, by their number in a scene; in shares of the scene's side.
_HALVES = ((0.24, 0.34), (0.20, 0.29), (0.18, 0.25), (0.17, 0.22))


class Scene(NamedTuple):
    """A picture that knows what it shows."""

    image: UInt8[np.ndarray, "H W 3"]  # RGB
    labels: UInt8[np.ndarray, "H W"]  # index into NOUNS
    caption: str
    nouns: tuple[str, ...]  # that have pixels


class _Placed(NamedTuple):
    """A thing and where it stands."""

    noun: str
    thing: Thing
    centre: tuple[float, float]  # x and y, in shares of the picture's side
    half: float  # half of the thing's side, likewise
    matrix: np.ndarray  # (2, 2): turn, proportions and mirror
    light: float  # direction of the light in radians


class _Background(NamedTuple):
    """The stuff of a scene, and how much of the unit square the picture shows."""

    stuff: list[str]
    extent: float  # side of the window, 1 for all of the unit square


def render(seed: int, index: int, size: int = SIZE) -> Scene:
    """Draw scene `index` of the world `seed`, `size` pixels a side (8 to 4096).

    It has one to three backgrounds and one to four things. Raises `ValueError` for another size.
    """
    rng = np.random.default_rng([seed, index, 0])
    count = int(rng.choice([1, 2, 3, 4], p=[0.25, 0.35, 0.25, 0.15]))
    regions = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.20]))
    stuff = [STUFF[i] for i in rng.choice(len(STUFF), regions, replace=False)]
    nouns = [THINGS[i] for i in rng.choice(len(THINGS), count, replace=False)]
    smallest, largest = _HALVES[count - 1]
    halves = rng.uniform(smallest, largest, count)
    return _compose(rng, nouns, halves, _Background(stuff, 1.0), size)


def render_card(seed: int, index: int, size: int = SIZE // 2) -> Scene:
    """Draw a card: one thing on one background, or in one of six cards a background alone.

    A card shows a quarter of a scene: drawn with half of the scene's pixels per side, it has things
    and textures at the same scale. Cards teach nouns several times faster than scenes do
    (docs/log/bundled_model.md). Raises `ValueError` for a size that cannot be drawn.
    """
    rng = np.random.default_rng([seed, index, 1])
    stuff = [STUFF[rng.integers(len(STUFF))]]
    nouns = [] if rng.random() < 1 / 6 else [THINGS[rng.integers(len(THINGS))]]
    halves = rng.uniform(0.34, 0.50, 1)
    return _compose(rng, nouns, halves, _Background(stuff, 0.5), size)


def _compose(
    rng: np.random.Generator,
    nouns: list[str],
    halves: np.ndarray,
    background: _Background,
    size: int,
) -> Scene:
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"a scene of {size} pixels per side: choose {SMALLEST} to {LARGEST}")
    image, labels = _paint_background(background, size, rng)
    placed = _place(nouns, halves, rng)
    for item in placed:
        _paint_thing(image, labels, item)

    # The caption names the largest region first; things may have covered one completely.
    areas = dict(zip(NOUNS, np.bincount(labels.ravel(), minlength=len(NOUNS)), strict=True))
    visible = [noun for noun in background.stuff if areas[noun]]
    visible.sort(key=lambda noun: -areas[noun])
    things = [(item.noun, item.thing.colour) for item in placed]
    caption = write_caption(things, visible or background.stuff, rng)

    present = tuple(noun for noun in NOUNS if areas[noun])
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Scene(pixels, labels, caption, present)


def _paint_background(
    background: _Background, size: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Paint one to three regions with wavy borders; sky lies above walls, walls above the ground.

    Returns the image, in 0..1, and the labels.
    """
    # Textures are drawn at twice the resolution and averaged down.
    fine = 2 * size
    extent = background.extent
    top_left = rng.uniform(0, 1 - extent, 2) if extent < 1 else np.zeros(2)
    steps = extent * (np.arange(fine) + 0.5) / fine
    down = (top_left[0] + steps).astype(np.float32)
    right = (top_left[1] + steps).astype(np.float32)
    v, u = np.meshgrid(down, right, indexing="ij")  # (2H, 2W) each

    # Regions lie above each other, or side by side in any order.
    stuff = background.stuff
    if rng.random() < 0.75:
        stuff = sorted(stuff, key=lambda noun: HEIGHT.get(noun, 3))
        along, across = v, u
    else:
        along, across = u, v
    tilt = rng.uniform(-0.18, 0.18)
    even = np.arange(1, len(stuff)) / len(stuff)
    borders = even + rng.uniform(-0.1, 0.1, len(stuff) - 1)

    # Each region covers the earlier ones behind its border.
    image = TEXTURES[stuff[0]](u, v, rng)
    labels = np.full((fine, fine), NOUNS.index(stuff[0]), np.uint8)
    for noun, border in zip(stuff[1:], borders, strict=True):
        wave = rng.uniform(0.05, 0.16) * (noise(u, v, (4, 4), rng) - 0.5)
        distance = (along + tilt * (across - 0.5) + wave - border) * fine  # in fine pixels
        covered = np.clip(distance + 0.5, 0, 1)[..., None]
        image = image * (1 - covered) + TEXTURES[noun](u, v, rng) * covered
        labels[distance > 0] = NOUNS.index(noun)

    image = image.reshape(size, 2, size, 2, 3).mean((1, 3), dtype=np.float32)
    return image, np.ascontiguousarray(labels[::2, ::2])


def _place(nouns: list[str], halves: np.ndarray, rng: np.random.Generator) -> list[_Placed]:
    """Give each thing a pose, at the spot out of eight where it overlaps the earlier ones least."""
    placed: list[_Placed] = []
    # A card without a thing has a size all the same.
    for noun, half in zip(nouns, halves, strict=False):
        spots = rng.uniform(0.85 * half, 1 - 0.85 * half, (8, 2))
        overlaps = [_overlap(spot, half, placed) for spot in spots]
        x, y = spots[int(np.argmin(np.round(overlaps, 3)))]

        turn = rng.uniform(-0.12, 0.12) if noun in UPRIGHT else rng.uniform(-0.45, 0.45)
        stretch = rng.uniform(0.86, 1.0, 2)
        mirror = rng.choice([-1, 1])
        cos = np.cos(turn)
        sin = np.sin(turn)
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag(stretch * (mirror, 1))
        thing = DRAWINGS[noun](rng)
        light = rng.uniform(0, 2 * np.pi)
        placed.append(_Placed(noun, thing, (x, y), float(half), matrix, light))
    return placed


def _overlap(spot: np.ndarray, half: float, placed: list[_Placed]) -> float:
    """Return how far a thing at `spot` reaches into the others, as if all were round."""
    depths = [other.half + half - np.hypot(*(spot - other.centre)) for other in placed]
    return float(sum(max(0.0, depth) for depth in depths))


def _paint_thing(
    image: Float[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], item: _Placed
) -> None:
    """Paint a thing over the picture, in place.

    A pixel is labelled as the thing that covers at least half of it.
    """
    # The thing is painted into a square tile of its own; a turned square reaches farther than its
    # side.
    size = len(image)
    reach = item.half * 1.35
    left = int(np.floor((item.centre[0] - reach) * size))
    top = int(np.floor((item.centre[1] - reach) * size))
    side = int(np.ceil(2 * reach * size)) + 1
    colours, alpha = _paint_tile(item, (left, top), side, size)

    # One side of the thing is lit, the other lies in the shade.
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    shading = 1 + 0.16 * (ramp[None, :] * np.cos(item.light) + ramp[:, None] * np.sin(item.light))
    shaded = colours * shading[..., None]

    # The part of the tile that lies inside the picture.
    rows = slice(max(top, 0), min(top + side, size))
    columns = slice(max(left, 0), min(left + side, size))
    tile_rows = slice(rows.start - top, rows.stop - top)
    tile_columns = slice(columns.start - left, columns.stop - left)
    inner_alpha = alpha[tile_rows, tile_columns]
    behind = image[rows, columns] * (1 - inner_alpha[..., None])
    image[rows, columns] = behind + shaded[tile_rows, tile_columns]
    labels[rows, columns][inner_alpha >= 0.5] = NOUNS.index(item.noun)


def _paint_tile(
    item: _Placed, corner: tuple[int, int], side: int, size: int
) -> tuple[Float[np.ndarray, "S S 3"], Float[np.ndarray, "S S"]]:
    """Return a thing's colours, black outside of it, and the share of each pixel that it covers.

    `corner` is the left and top of the tile in the picture of `size` pixels a side.
    """
    scale = _OVERSAMPLING * size
    tile = Image.new("RGB", (side * _OVERSAMPLING,) * 2)
    mask = Image.new("L", tile.size)
    paint = ImageDraw.Draw(tile)
    cover = ImageDraw.Draw(mask)
    origin = np.array(item.centre) * scale - np.array(corner) * _OVERSAMPLING
    for points, colour in item.thing.parts:
        corners = [tuple(p) for p in points @ item.matrix.T * item.half * scale + origin]
        paint.polygon(corners, fill=_bytes(colour))
        cover.polygon(corners, fill=255)

    # Averaging with the black around weights the colours at the edge by their coverage.
    colours = np.asarray(tile.reduce(_OVERSAMPLING), np.float32) / 255
    alpha = np.asarray(mask.reduce(_OVERSAMPLING), np.float32) / 255
    return colours, alpha


def _bytes(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, round(255 * share)) for share in colour)
    return red, green, blue
