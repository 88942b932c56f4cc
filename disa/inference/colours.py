"""One colour per label: distinct for any number of labels, nearly always the same for one label."""

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import count

import numpy as np
from numpy.typing import NDArray

from disa.inference.labels import synonyms

# Blue grass and a green sun puzzle whoever looks: these labels get the colour that people expect.
EXPECTED = {
    "grass": "5cb85c", "meadow": "6fbf5f", "tree": "2e8b3d", "forest": "1f7a3a",
    "cactus": "2f9f86", "bush": "4f9f3f", "sky": "7ec8f0", "night sky": "4a55a8", "sea": "2878d0",
    "ocean": "2060b8", "water": "3a8ee0", "river": "4a9ae8", "sand": "d8c088", "beach": "e8c880",
    "road": "7c7c88", "street": "84848c", "snow": "bcd6f2", "ice": "b8e0ec", "lava": "f0601a",
    "fire": "f07020", "brick wall": "b45a50", "stone wall": "a8a08c", "wooden floor": "b08a50",
    "carpet": "8c3c78", "tiled floor": "6ab4a4", "wheat field": "c49a28", "sun": "f7b82b",
    "moon": "e8e0a8", "star": "f3ea4a", "cloud": "e4e4ea", "apple": "d83a3a", "heart": "f03c96",
    "rose": "e03a5a", "boat": "8f5a3c", "ship": "9a5a38", "house": "d88a5a", "car": "d04a8a",
    "balloon": "c850c8", "flower": "e870b0", "mushroom": "b03a5c", "fish": "f08a80",
    "person": "e08a70", "dog": "a87848", "cat": "c89050", "snowman": "b8a8f0",
    "umbrella": "8a3fd0", "rocket": "30d8c0", "cup": "6080ff", "kite": "a8e048",
}  # fmt: skip

APART = 70  # distance of two colours in RGB that the eye tells apart at once
HUES = 48

Colours = NDArray[np.uint8]
Colour = tuple[int, int, int]


def label_colours(labels: Sequence[str]) -> Colours:
    """Return uint8 (t, 3): for each label the colour that people expect of it, or one of a palette.

    A label's place in the palette comes from its text; if that colour is near another label's, the
    next one is taken. So the order of the labels does not matter. All colours show on dark and
    light pictures.
    """
    return _label_colours(tuple(labels)).copy()


@lru_cache(maxsize=64)  # of hundreds of labels they take longer than a small picture
def _label_colours(labels: tuple[str, ...]) -> Colours:
    chosen: dict[str, Colour] = {}
    # Expected colours first: they have no choice.
    for label in sorted(set(labels), key=lambda label: (_expected(label) is None, label)):
        taken = set(chosen.values())
        colour = _expected(label)
        if colour is None or colour in taken:
            colour = _free_colour(label, taken)
        chosen[label] = colour
    return np.array([chosen[label] for label in labels], np.uint8).reshape(-1, 3)


def _expected(label: str) -> Colour | None:
    for name in synonyms(label):
        if name.casefold() in EXPECTED:
            return _rgb(bytes.fromhex(EXPECTED[name.casefold()]))
    return None


def _free_colour(label: str, taken: set[Colour]) -> Colour:
    """Return the first palette colour from the label's place on that is apart from those taken."""
    digest = blake2b(label.strip().casefold().encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") % len(PALETTE)
    free = [colour for colour in PALETTE[place:] + PALETTE[:place] if colour not in taken]
    others = np.array(sorted(taken) or [(-999, -999, -999)])
    for colour in free:
        if np.linalg.norm(others - colour, axis=1).min() > APART:
            return colour
    if free:
        return free[0]

    # More labels than the palette holds: any colour that is left, in an order of the label's own.
    for attempt in count():
        colour = _rgb(blake2b(digest + bytes(str(attempt), "ascii"), digest_size=3).digest())
        if colour not in taken:
            return colour
    raise AssertionError("there are 16 million colours")


def _palette() -> list[Colour]:
    """Return hues all around the circle, in three shades; neighbours in the list differ clearly."""
    shades = ((0.45, 0.85), (0.62, 0.75), (0.72, 0.95))  # lightness, saturation
    colours = []
    for step in range(HUES * len(shades)):
        hue = (step * 0.618034) % 1  # the golden ratio spreads any number of hues evenly
        lightness, saturation = shades[step % len(shades)]
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def _rgb(values: bytes) -> Colour:
    red, green, blue = values
    return red, green, blue


PALETTE = _palette()
