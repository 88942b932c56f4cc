"""One colour per word: words (t) -> uint8 (t, 3), distinct for any `t`, and nearly always the same for the same word."""

import math
from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Any

import numpy as np

APART = 0.2  # wished distance of two colours in OKLab, where black and white are 1 apart


def word_colours(words: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw each word's colour from a generator seeded by the word, again while it is too close to one already taken.

    The order of the words does not matter. The wished distance shrinks with every refusal, so that any number of words
    finds room. Colours keep a middle lightness: they show on dark and on light pictures.
    """
    chosen: dict[str, np.ndarray[Any, Any]] = {}
    taken = np.empty((0, 3))
    for word in sorted(dict.fromkeys(words)):
        draw = Random(blake2b(word.strip().casefold().encode(), digest_size=8).digest())
        apart = APART
        while True:
            lab = _draw_oklab(draw)
            rgb = _to_rgb(lab)
            if np.sqrt(((taken - lab) ** 2).sum(1)).min(initial=math.inf) >= apart and not _among(rgb, chosen):
                break
            apart *= 0.97
        chosen[word], taken = rgb, np.vstack([taken, lab])
    return np.array([chosen[word] for word in words], np.uint8).reshape(-1, 3)


def _among(rgb: np.ndarray[Any, Any], chosen: dict[str, np.ndarray[Any, Any]]) -> bool:
    return any(np.array_equal(rgb, other) for other in chosen.values())


def _draw_oklab(draw: Random) -> tuple[float, float, float]:
    lightness, chroma, hue = draw.uniform(0.5, 0.85), draw.uniform(0.12, 0.26), draw.uniform(0, 2 * math.pi)
    return lightness, chroma * math.cos(hue), chroma * math.sin(hue)


def _to_rgb(lab: tuple[float, float, float]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Convert OKLab to sRGB bytes, clipped (Björn Ottosson's matrices, bottosson.github.io/posts/oklab)."""
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.clip(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        0,
        1,
    )
    return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )
