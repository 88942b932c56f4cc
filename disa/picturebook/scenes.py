"""Render scenes and cards: `(seed, index, size) -> Scene`, the same picture whatever the size and whoever asks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from disa.picturebook.captions import write_caption
from disa.picturebook.nouns import STUFF, THINGS, WORDS
from disa.picturebook.stuff import HEIGHT, TEXTURES, noise
from disa.picturebook.things import DRAWINGS, UPRIGHT, Colour, Thing

TRAIN_SEED, TEST_SEED = 1, 2
"""Seeds of the training scenes and of the held-out test scenes."""

SIZE = 96
"""Side of a scene in pixels, where nothing else is asked for."""

SMALLEST, LARGEST = 8, 4096
"""Sides of a scene in pixels that can be drawn; a larger one would take gigabytes."""

_OVERSAMPLING = 3  # things are painted at this multiple and averaged down: anti-aliased edges


class Scene(NamedTuple):
    """A picture that knows what it shows."""

    image: UInt8[np.ndarray, "H W 3"]  # RGB
    labels: UInt8[np.ndarray, "H W"]  # index into WORDS
    caption: str
    words: tuple[str, ...]  # the categories that have pixels


class _Placed(NamedTuple):
    noun: str
    thing: Thing
    centre: tuple[float, float]  # share of the picture's side
    half: float  # half of the thing's side, likewise
    matrix: np.ndarray  # (2, 2), turn, proportions and mirror
    light: float  # direction of the light in radians


def render(seed: int, index: int, size: int = SIZE) -> Scene:
    """Render scene `index` of the world `seed`: one to three backgrounds, one to four things.

    `size` is the side in pixels, 8 to 4096. Raises `ValueError` outside of that.
    """
    rng = np.random.default_rng([seed, index, 0])
    count = int(rng.choice([1, 2, 3, 4], p=[0.25, 0.35, 0.25, 0.15]))
    stuff = [
        STUFF[i]
        for i in rng.choice(
            len(STUFF), int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.20])), replace=False
        )
    ]
    nouns = [THINGS[i] for i in rng.choice(len(THINGS), count, replace=False)]
    halves = rng.uniform(
        *((0.24, 0.34), (0.20, 0.29), (0.18, 0.25), (0.17, 0.22))[count - 1], count
    )
    return _compose(rng, nouns, stuff, halves, size)


def render_card(seed: int, index: int, size: int = SIZE // 2) -> Scene:
    """Render a card: one thing on one background, or in one of six cards a background alone.

    A card is as large as a quarter of a scene: at half of the scene's pixels per side, things and textures have the
    scale that they have there. Cards teach nouns several times faster than scenes do (docs/log.md).
    """
    rng = np.random.default_rng([seed, index, 1])
    stuff = [STUFF[rng.integers(len(STUFF))]]
    nouns = [] if rng.random() < 1 / 6 else [THINGS[rng.integers(len(THINGS))]]
    return _compose(rng, nouns, stuff, rng.uniform(0.34, 0.50, 1), size, extent=0.5)


def _compose(
    rng: np.random.Generator,
    nouns: list[str],
    stuff: list[str],
    halves: np.ndarray,
    size: int,
    extent: float = 1.0,
) -> Scene:
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"a scene of {size} pixels per side: choose {SMALLEST} to {LARGEST}")
    image, labels = _paint_background(stuff, size, extent, rng)
    placed = _place(nouns, halves, rng)
    for item in placed:
        _paint_thing(image, labels, item)
    pixels = np.bincount(labels.ravel(), minlength=len(WORDS))
    by_area = sorted(
        (word for word in stuff if pixels[WORDS.index(word)]),
        key=lambda word: -pixels[WORDS.index(word)],
    )
    caption = write_caption(
        [(item.noun, item.thing.colour) for item in placed], by_area or stuff, rng
    )
    present = tuple(word for word, area in zip(WORDS, pixels, strict=True) if area)
    return Scene(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), labels, caption, present)


def _paint_background(
    stuff: list[str], size: int, extent: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Paint one to three regions with wavy borders; sky lies above walls, walls above the ground.

    `extent` is the side of the window of the unit square that the picture shows.
    """
    fine = 2 * size  # textures are drawn at twice the resolution and averaged down
    corner = rng.uniform(0, 1 - extent, 2) if extent < 1 else np.zeros(2)
    steps = extent * (np.arange(fine) + 0.5) / fine
    v, u = np.meshgrid(*((start + steps).astype(np.float32) for start in corner), indexing="ij")
    upright = rng.random() < 0.75
    if upright:
        stuff = sorted(stuff, key=lambda word: HEIGHT.get(word, 3))
    along = v if upright else u
    across, tilt = (u if upright else v), rng.uniform(-0.18, 0.18)
    borders = (np.arange(1, len(stuff)) / len(stuff)) + rng.uniform(-0.1, 0.1, len(stuff) - 1)
    image = TEXTURES[stuff[0]](u, v, rng)
    labels = np.full((fine, fine), WORDS.index(stuff[0]), np.uint8)
    for word, border in zip(stuff[1:], borders, strict=True):
        wave = rng.uniform(0.05, 0.16) * (noise(u, v, (4, 4), rng) - 0.5)
        distance = (along + tilt * (across - 0.5) + wave - border) * fine
        covered = np.clip(distance + 0.5, 0, 1)[..., None]
        image = image * (1 - covered) + TEXTURES[word](u, v, rng) * covered
        labels[distance > 0] = WORDS.index(word)
    image = image.reshape(size, 2, size, 2, 3).mean((1, 3), dtype=np.float32)
    return image, np.ascontiguousarray(labels[::2, ::2])


def _place(nouns: list[str], halves: np.ndarray, rng: np.random.Generator) -> list[_Placed]:
    """Choose poses: each thing goes to the spot, out of a few, where it overlaps the earlier ones least."""
    placed: list[_Placed] = []
    for noun, half in zip(nouns, halves, strict=False):
        spots = rng.uniform(0.85 * half, 1 - 0.85 * half, (8, 2))
        overlaps = [
            sum(max(0.0, other.half + half - np.hypot(*(spot - other.centre))) for other in placed)
            for spot in spots
        ]
        centre = spots[int(np.argmin(np.round(overlaps, 3)))]
        turn = rng.uniform(-0.12, 0.12) if noun in UPRIGHT else rng.uniform(-0.45, 0.45)
        stretch, mirror = rng.uniform(0.86, 1.0, 2), rng.choice([-1, 1])
        cos, sin = np.cos(turn), np.sin(turn)
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag(stretch * (mirror, 1))
        placed.append(
            _Placed(
                noun,
                DRAWINGS[noun](rng),
                (centre[0], centre[1]),
                float(half),
                matrix,
                rng.uniform(0, 2 * np.pi),
            )
        )
    return placed


def _paint_thing(
    image: Float[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], item: _Placed
) -> None:
    """Paint a thing over the picture, in place; a pixel is labelled as the thing that covers at least half of it."""
    size = len(image)
    reach = item.half * 1.35  # a turned square reaches farther than its side
    left, top = (int(np.floor((c - reach) * size)) for c in item.centre)
    side = int(np.ceil(2 * reach * size)) + 1
    scale = _OVERSAMPLING * size
    tile = Image.new("RGB", (side * _OVERSAMPLING,) * 2)
    mask = Image.new("L", tile.size)
    paint, cover = ImageDraw.Draw(tile), ImageDraw.Draw(mask)
    origin = np.array(item.centre) * scale - np.array((left, top)) * _OVERSAMPLING
    for points, colour in item.thing.parts:
        corners = [tuple(p) for p in points @ item.matrix.T * item.half * scale + origin]
        paint.polygon(corners, fill=_bytes(colour))
        cover.polygon(corners, fill=255)
    alpha = np.asarray(mask.reduce(_OVERSAMPLING), np.float32) / 255
    colours = (
        np.asarray(tile.reduce(_OVERSAMPLING), np.float32) / 255
    )  # already weighted by coverage: outside is black
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    shading = 1 + 0.16 * (ramp[None, :] * np.cos(item.light) + ramp[:, None] * np.sin(item.light))
    rows, columns = (
        slice(max(top, 0), min(top + side, size)),
        slice(max(left, 0), min(left + side, size)),
    )
    inner = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    alpha = alpha[inner]
    image[rows, columns] = (
        image[rows, columns] * (1 - alpha[..., None]) + (colours * shading[..., None])[inner]
    )
    labels[rows, columns][alpha >= 0.5] = WORDS.index(item.noun)


def _bytes(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, round(255 * share)) for share in colour)
    return red, green, blue
