"""One colour per word: words (t) -> uint8 (t, 3), distinct for any `t`, nearly always the same for the same word."""

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disa.inference.labels import synonyms

APART = 0.2  # wished distance of two colours in OKLab, where black and white are 1 apart
EXPECTED_APART = 0.06  # enough for a colour that people expect of the word
# Blue grass and a green sun puzzle whoever looks: these words start from the colour that people expect.
EXPECTED = {
    "grass": "5cb85c", "meadow": "6fbf5f", "tree": "2e8b3d", "forest": "1f7a3a", "cactus": "2f9f86", "bush": "4f9f3f",
    "sky": "7ec8f0", "night sky": "4a55a8", "sea": "2878d0", "ocean": "2060b8", "water": "3a8ee0", "river": "4a9ae8",
    "sand": "d8c088", "beach": "e8c880", "road": "7c7c88", "street": "84848c", "snow": "bcd6f2", "ice": "b8e0ec",
    "lava": "f0601a", "fire": "f07020", "brick wall": "b45a50", "stone wall": "a8a08c", "wooden floor": "b08a50",
    "carpet": "8c3c78", "tiled floor": "6ab4a4", "wheat field": "c49a28",
    "sun": "f7b82b", "moon": "e8e0a8", "star": "f3ea4a", "cloud": "e4e4ea", "apple": "d83a3a", "heart": "f03c96",
    "rose": "e03a5a", "boat": "8f5a3c", "ship": "9a5a38", "house": "d88a5a", "car": "d04a8a", "balloon": "c850c8",
    "flower": "e870b0", "mushroom": "b03a5c", "fish": "f08a80", "person": "e08a70", "dog": "a87848", "cat": "c89050",
    "snowman": "b8a8f0", "umbrella": "8a3fd0", "rocket": "30d8c0", "cup": "6080ff", "kite": "a8e048",
}  # fmt: skip

Colours = NDArray[np.uint8]


def word_colours(words: Sequence[str]) -> Colours:
    """Give each word the colour that people expect of it, or else one drawn by a generator seeded by the word.

    One that is too close to a colour already taken is drawn again; the wished distance shrinks with every refusal, so
    that any number of words finds room. The order of the words does not matter. All show on dark and light pictures.
    """
    return _word_colours(tuple(words)).copy()


@lru_cache(maxsize=64)
def _word_colours(words: tuple[str, ...]) -> Colours:
    chosen: dict[str, tuple[int, int, int]] = {}
    taken, apart = np.empty((0, 3)), APART
    for word in sorted(set(words), key=lambda word: (_expected(word) is None, word)):
        draw = Random(blake2b(word.strip().casefold().encode(), digest_size=8).digest())
        rgb = _expected(word)
        if rgb is None or rgb in chosen.values() or _nearest(taken, rgb) < EXPECTED_APART:
            rgb, apart = (
                _draw(draw),
                min(APART, 1.3 * apart),
            )  # what the last word needed is a good start for this one
            while rgb in chosen.values() or _nearest(taken, rgb) < apart:
                rgb, apart = _draw(draw), 0.97 * apart
        chosen[word], taken = rgb, np.vstack([taken, _oklab(rgb)])
    return np.array([chosen[word] for word in words], np.uint8).reshape(-1, 3)


def _expected(word: str) -> tuple[int, int, int] | None:
    for name in synonyms(word):
        if name.casefold() in EXPECTED:
            red, green, blue = bytes.fromhex(EXPECTED[name.casefold()])
            return red, green, blue
    return None


def _draw(draw: Random) -> tuple[int, int, int]:
    """Return a colour of middle lightness and clear hue."""
    lightness, chroma, hue = (
        draw.uniform(0.5, 0.85),
        draw.uniform(0.12, 0.26),
        draw.uniform(0, 2 * math.pi),
    )
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    roots = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.291485548],
        ]
    )
    linear = np.clip(np.linalg.inv(_TO_LONG_MEDIUM_SHORT) @ (roots @ [lightness, a, b]) ** 3, 0, 1)
    red, green, blue = (
        round(255 * (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055))
        for v in linear
    )
    return red, green, blue


# OKLab by Björn Ottosson, bottosson.github.io/posts/oklab: linear sRGB -> cone responses -> cube root -> L, a, b
_TO_LONG_MEDIUM_SHORT = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.793617785, -0.0040720468],
        [1.9779984951, -2.428592205, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.808675766],
    ]
)


def _oklab(rgb: tuple[int, int, int]) -> NDArray[Any]:
    value = np.array(rgb) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    lab: NDArray[Any] = _TO_LAB @ np.cbrt(_TO_LONG_MEDIUM_SHORT @ linear)
    return lab


def _nearest(taken: NDArray[Any], rgb: tuple[int, int, int]) -> float:
    return float(np.linalg.norm(taken - _oklab(rgb), axis=1).min(initial=math.inf))
