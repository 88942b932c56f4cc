"""The things of the drawn world, as polygons in the square [-1, 1] with y pointing down.

Parts are painted in order. Proportions differ from drawing to drawing; pose, size and shading are
added when a thing is painted.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float]
Length = float | int  # the tests' checker tells 0 from 0.0
Rng = np.random.Generator
Points = np.ndarray  # (m, 2), x and y


class Part(NamedTuple):
    """A filled polygon in one colour."""

    points: Points
    colour: Colour


class Thing(NamedTuple):
    """One drawing, a list of parts."""

    parts: list[Part]
    colour: str  # the word for its main colour, or "" where all drawings have the same


COLOURS: dict[str, Colour] = {
    "red": (0.85, 0.15, 0.13), "blue": (0.16, 0.36, 0.84), "yellow": (0.97, 0.83, 0.17),
    "green": (0.25, 0.68, 0.25), "purple": (0.53, 0.24, 0.68), "orange": (0.95, 0.52, 0.10),
    "pink": (0.96, 0.52, 0.68), "white": (0.95, 0.95, 0.93), "brown": (0.48, 0.29, 0.14),
}  # fmt: skip
_BLACK = (0.10, 0.10, 0.11)
_GREY = (0.72, 0.74, 0.77)
_CREAM = (0.96, 0.90, 0.78)
_GLASS = (0.62, 0.84, 0.95)


def _ellipse(
    x: Length,
    y: Length,
    across: Length,
    down: Length,
    turn: float = 0.0,
    start: float = 0.0,
    end: float = 1.0,
) -> Points:
    """Return an ellipse, or the sector between two shares of the full turn.

    The turn begins on the right and goes clockwise.
    """
    angle = 2 * np.pi * np.linspace(start, end, 36)
    points = np.stack([across * np.cos(angle), down * np.sin(angle)], 1)
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def _box(left: Length, top: Length, right: Length, bottom: Length) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _polygon(*points: tuple[Length, Length]) -> Points:
    return np.array(points)


def _star(tips: int, inner: Length, outer: Length = 1.0) -> Points:
    angle = np.pi * np.arange(2 * tips) / tips - np.pi / 2
    return (
        np.stack([np.cos(angle), np.sin(angle)], 1)
        * np.where(np.arange(2 * tips) % 2, inner, outer)[:, None]
    )


def _darker(colour: Colour, share: float = 0.7) -> Colour:
    return (colour[0] * share, colour[1] * share, colour[2] * share)


def _pick(rng: Rng, *words: str) -> tuple[str, Colour]:
    word = words[rng.integers(len(words))]
    return word, COLOURS[word]


def house(rng: Rng) -> Thing:
    top, width = rng.uniform(-0.25, -0.05), rng.uniform(0.68, 0.82)
    wall = (_CREAM, (0.95, 0.82, 0.60), (0.85, 0.87, 0.90))[rng.integers(3)]
    roof = ((0.68, 0.20, 0.14), (0.50, 0.22, 0.16))[rng.integers(2)]
    door = rng.uniform(-0.15, 0.15)
    parts = [
        Part(_box(0.35, -0.85, 0.58, -0.1), _darker(roof)),
        Part(_box(-width, top, width, 0.95), wall),
        Part(_polygon((-0.98, top + 0.05), (0, -0.95), (0.98, top + 0.05)), roof),
        Part(_box(door - 0.17, 0.40, door + 0.17, 0.95), COLOURS["brown"]),
    ]
    for x in (-0.48, 0.48):
        parts += [
            Part(_box(x - 0.19, 0.12, x + 0.19, 0.50), _darker(wall, 0.55)),
            Part(_box(x - 0.14, 0.17, x + 0.14, 0.45), _GLASS),
        ]
    return Thing(parts, "")


def tree(rng: Rng) -> Thing:
    trunk, green = rng.uniform(0.12, 0.18), (0.13, rng.uniform(0.42, 0.55), 0.18)
    parts = [Part(_box(-trunk, 0.3, trunk, 0.97), (0.42, 0.27, 0.15))]
    if rng.random() < 0.5:
        for i, (y, width) in enumerate(((0.60, 0.80), (0.15, 0.64), (-0.28, 0.46))):
            parts.append(
                Part(
                    _polygon((-width, y), (0, y - 0.72), (width, y)),
                    _darker(green, 0.82 + 0.12 * i),
                )
            )
    else:
        for x, y, radius, light in (
            (-0.38, 0.0, 0.46, 0.85),
            (0.38, 0.0, 0.46, 0.85),
            (0.0, -0.4, 0.54, 1.0),
            (0, 0.05, 0.45, 0.95),
        ):
            parts.append(Part(_ellipse(x, y, radius, radius), _darker(green, light)))
    return Thing(parts, "")


def car(rng: Rng) -> Thing:
    word, body = _pick(rng, "red", "blue", "yellow")
    roof, front = rng.uniform(-0.55, -0.42), rng.uniform(0.30, 0.45)
    parts = [
        Part(
            _polygon((-0.62, 0.0), (-0.42, roof), (front - 0.08, roof), (front + 0.22, 0.0)), body
        ),
        Part(
            _polygon((-0.47, -0.02), (-0.34, roof + 0.10), (-0.06, roof + 0.10), (-0.06, -0.02)),
            _GLASS,
        ),
        Part(
            _polygon(
                (0.03, -0.02),
                (0.03, roof + 0.10),
                (front - 0.12, roof + 0.10),
                (front + 0.08, -0.02),
            ),
            _GLASS,
        ),
        Part(
            _polygon(
                (-0.97, 0.05),
                (-0.85, -0.05),
                (0.80, -0.03),
                (0.97, 0.12),
                (0.97, 0.42),
                (-0.97, 0.42),
            ),
            body,
        ),
        Part(_box(-0.97, 0.30, 0.97, 0.44), _darker(body)),
        Part(_ellipse(0.90, 0.14, 0.07, 0.07), _CREAM),
    ]
    for x in (-0.53, 0.53):
        parts += [
            Part(_ellipse(x, 0.42, 0.25, 0.25), _BLACK),
            Part(_ellipse(x, 0.42, 0.11, 0.11), _GREY),
        ]
    return Thing(parts, word)


def boat(rng: Rng) -> Thing:
    hull = ((0.55, 0.30, 0.14), (0.66, 0.18, 0.14))[rng.integers(2)]
    mast, wind = rng.uniform(-0.1, 0.1), rng.uniform(0.0, 0.1)
    return Thing(
        [
            Part(_box(mast - 0.05, -0.92, mast + 0.05, 0.45), (0.38, 0.24, 0.12)),
            Part(
                _polygon((mast + 0.07, -0.88), (mast + 0.72 + wind, 0.28), (mast + 0.07, 0.28)),
                COLOURS["white"],
            ),
            Part(
                _polygon((mast - 0.08, -0.70), (mast - 0.62 + wind, 0.28), (mast - 0.08, 0.28)),
                (0.86, 0.86, 0.80),
            ),
            Part(_polygon((-0.95, 0.40), (0.95, 0.40), (0.62, 0.88), (-0.66, 0.88)), hull),
            Part(
                _polygon((-0.95, 0.40), (0.95, 0.40), (0.86, 0.53), (-0.86, 0.53)),
                _darker(hull, 1.35),
            ),
        ],
        "",
    )


def sun(rng: Rng) -> Thing:
    core = rng.uniform(0.55, 0.64)
    return Thing(
        [
            Part(_star(int(rng.integers(11, 15)), core + 0.07), (0.98, 0.60, 0.10)),
            Part(_ellipse(0, 0, core, core), (1.0, 0.84, 0.18)),
            Part(_ellipse(-0.12, -0.12, core * 0.55, core * 0.55), (1.0, 0.91, 0.42)),
        ],
        "",
    )


def moon(rng: Rng) -> Thing:
    bite, depth = rng.uniform(0.72, 0.80), rng.uniform(0.42, 0.52)
    outer = _ellipse(0, 0, 0.95, 0.95, start=0.12, end=0.88)
    inner = _ellipse(depth, 0, bite, 0.66, start=0.86, end=0.14)
    crescent = np.concatenate([outer, inner])
    pale = (0.90, 0.89, 0.76)
    craters = [
        Part(_ellipse(x, y, r, r), _darker(pale, 0.86))
        for x, y, r in ((-0.66, -0.15, 0.11), (-0.55, 0.38, 0.09), (-0.42, -0.55, 0.08))
    ]
    return Thing([Part(crescent, pale), *craters], "")


def star(rng: Rng) -> Thing:
    inner = rng.uniform(0.40, 0.48)
    gold = (0.98, 0.76, 0.08)
    return Thing(
        [
            Part(_star(5, inner), (0.70, 0.42, 0.05)),
            Part(_star(5, inner) * 0.82, gold),
            Part(_star(5, inner) * 0.4, (1.0, 0.90, 0.45)),
        ],
        "",
    )


def balloon(rng: Rng) -> Thing:
    word, colour = _pick(rng, "red", "blue", "purple")
    width, tail = rng.uniform(0.58, 0.68), rng.uniform(-0.12, 0.12)
    return Thing(
        [
            Part(
                _polygon((-0.035, 0.55), (0.035, 0.55), (tail + 0.035, 0.98), (tail - 0.035, 0.98)),
                (0.88, 0.88, 0.86),
            ),
            Part(_polygon((0, 0.42), (0.15, 0.64), (-0.15, 0.64)), _darker(colour)),
            Part(_ellipse(0, -0.22, width, 0.74), colour),
            Part(_ellipse(-0.24, -0.48, 0.13, 0.21, 0.4), (0.98, 0.90, 0.92)),
        ],
        word,
    )


def fish(rng: Rng) -> Thing:
    word, colour = _pick(rng, "orange", "blue")
    height = rng.uniform(0.42, 0.52)
    return Thing(
        [
            Part(_polygon((0.42, 0.0), (0.97, -0.48), (0.86, 0.0), (0.97, 0.48)), _darker(colour)),
            Part(_polygon((-0.25, -0.30), (0.25, -0.72), (0.30, -0.20)), _darker(colour)),
            Part(_ellipse(-0.15, 0, 0.78, height), colour),
            Part(_ellipse(-0.02, 0.0, 0.09, height * 0.96), COLOURS["white"]),
            Part(_polygon((-0.12, 0.10), (0.22, 0.36), (0.18, 0.02)), _darker(colour)),
            Part(_ellipse(-0.58, -0.12, 0.13, 0.13), COLOURS["white"]),
            Part(_ellipse(-0.60, -0.12, 0.07, 0.07), _BLACK),
        ],
        word,
    )


def flower(rng: Rng) -> Thing:
    word, colour = _pick(rng, "pink", "purple")
    count, radius = int(rng.integers(5, 8)), rng.uniform(0.26, 0.31)
    angles = 2 * np.pi * np.arange(count) / count + rng.random()
    petals = [
        Part(
            _ellipse(0.36 * np.cos(a), -0.35 + 0.36 * np.sin(a), radius, radius * 0.72, a),
            _darker(colour, 0.88 + 0.12 * (i % 2)),
        )
        for i, a in enumerate(angles)
    ]
    green = (0.22, 0.56, 0.20)
    return Thing(
        [
            Part(_box(-0.06, -0.2, 0.06, 0.97), green),
            Part(_ellipse(0.25, 0.62, 0.27, 0.12, -0.5), green),
            Part(_ellipse(-0.25, 0.74, 0.27, 0.12, 0.5), green),
            *petals,
            Part(_ellipse(0, -0.35, 0.20, 0.20), (0.98, 0.82, 0.18)),
        ],
        word,
    )


def mushroom(rng: Rng) -> Thing:
    stem, cap = rng.uniform(0.22, 0.30), rng.uniform(0.10, 0.22)
    dots = (
        (-0.50, -0.22, 0.13),
        (0.0, -0.52, 0.15),
        (0.50, -0.20, 0.13),
        (-0.10, -0.12, 0.10),
        (0.26, -0.34, 0.08),
    )
    return Thing(
        [
            Part(
                _polygon((-stem, 0.0), (stem, 0.0), (stem + 0.10, 0.95), (-stem - 0.10, 0.95)),
                _CREAM,
            ),
            Part(_ellipse(0, cap, 0.72, 0.14), _darker(_CREAM, 0.80)),
            Part(_ellipse(0, cap, 0.95, 1.05, start=0.5, end=1.0), (0.83, 0.13, 0.10)),
            *(Part(_ellipse(x, y, r, r * 0.85), (0.98, 0.97, 0.94)) for x, y, r in dots),
        ],
        "",
    )


def umbrella(rng: Rng) -> Thing:
    word, colour = _pick(rng, "purple", "green")
    rim = rng.uniform(0.0, 0.12)
    parts = [
        Part(_box(-0.05, -0.3, 0.05, 0.82), _darker(COLOURS["brown"], 0.6)),
        Part(_ellipse(0.14, 0.80, 0.19, 0.17, start=0.0, end=0.5), _darker(COLOURS["brown"], 0.6)),
    ]
    for i in range(4):
        left, right = -0.97 + 0.485 * i, -0.97 + 0.485 * (i + 1)
        dome = [
            (x, rim - 0.92 * np.sqrt(max(0.0, 1 - (x / 0.98) ** 2)))
            for x in np.linspace(left, right, 9)
        ]
        scallop = _ellipse((left + right) / 2, rim, 0.2425, -0.13, start=0.0, end=0.5)
        parts.append(
            Part(
                np.concatenate([np.array(dome), scallop]),
                colour if i % 2 else _darker(colour, 1.35),
            )
        )
    return Thing(parts, word)


def apple(rng: Rng) -> Thing:
    word, colour = _pick(rng, "red", "green")
    width = rng.uniform(0.48, 0.54)
    return Thing(
        [
            Part(_ellipse(-0.32, 0.18, width, 0.70), colour),
            Part(_ellipse(0.32, 0.18, width, 0.70), colour),
            Part(_ellipse(0, -0.42, 0.20, 0.10), _darker(colour, 0.6)),
            Part(
                _polygon((-0.05, -0.40), (0.05, -0.40), (0.13, -0.92), (0.02, -0.92)),
                COLOURS["brown"],
            ),
            Part(_ellipse(0.38, -0.74, 0.30, 0.14, -0.4), (0.30, 0.62, 0.18)),
            Part(_ellipse(-0.42, -0.10, 0.12, 0.20, 0.4), (0.98, 0.88, 0.84)),
        ],
        word,
    )


def cup(rng: Rng) -> Thing:
    word, colour = _pick(rng, "white", "blue")
    bottom = rng.uniform(0.46, 0.56)
    return Thing(
        [
            Part(_ellipse(0.58, 0.10, 0.38, 0.40), _darker(colour, 0.85)),
            Part(_ellipse(0.58, 0.10, 0.19, 0.21), (0.20, 0.16, 0.15)),
            Part(
                _polygon(
                    (-0.82, -0.55), (0.58, -0.55), (bottom - 0.06, 0.80), (-bottom - 0.18, 0.80)
                ),
                colour,
            ),
            Part(_box(-0.77, -0.05, 0.54, 0.18), (0.90, 0.35, 0.20)),
            Part(_ellipse(-0.12, -0.55, 0.70, 0.20), _darker(colour, 0.8)),
            Part(_ellipse(-0.12, -0.53, 0.58, 0.14), (0.28, 0.15, 0.08)),
        ],
        word,
    )


def rocket(rng: Rng) -> Thing:
    width = rng.uniform(0.30, 0.36)
    red = (0.84, 0.18, 0.16)
    body = np.concatenate(
        [
            _ellipse(0, -0.10, width, 0.86, start=0.5, end=1.0),
            np.array([(width, 0.52), (-width, 0.52)]),
        ]
    )
    nose = _ellipse(0, -0.10, width, 0.86, start=0.62, end=0.88)
    return Thing(
        [
            Part(_polygon((-0.22, 0.50), (0.22, 0.50), (0.0, 0.98)), (0.99, 0.66, 0.12)),
            Part(_polygon((-width, 0.05), (-0.72, 0.70), (-width, 0.56)), red),
            Part(_polygon((width, 0.05), (0.72, 0.70), (width, 0.56)), red),
            Part(body, (0.84, 0.86, 0.89)),
            Part(nose, red),
            Part(_ellipse(0, -0.18, 0.18, 0.18), (0.28, 0.32, 0.40)),
            Part(_ellipse(0, -0.18, 0.12, 0.12), _GLASS),
            Part(_box(-width, 0.36, width, 0.52), (0.45, 0.48, 0.55)),
        ],
        "",
    )


def heart(rng: Rng) -> Thing:
    t = np.linspace(0, 2 * np.pi, 60)
    shape = np.stack(
        [
            np.sin(t) ** 3,
            -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16.5,
        ],
        1,
    )
    shape = shape * (0.95, rng.uniform(0.84, 0.96)) + (0, -0.05)
    pink = (0.93, 0.18, 0.42)
    return Thing(
        [Part(shape, pink), Part(_ellipse(-0.46, -0.42, 0.20, 0.13, -0.6), (1.0, 0.72, 0.80))], ""
    )


def kite(rng: Rng) -> Thing:
    pairs = (("green", "yellow"), ("blue", "yellow"), ("red", "yellow"))
    word, other = pairs[rng.integers(3)]
    a, b, waist = COLOURS[word], COLOURS[other], rng.uniform(-0.32, -0.20)
    top, left, right, bottom, centre = (
        (0, -0.97),
        (-0.66, waist),
        (0.66, waist),
        (0, 0.56),
        (0, waist),
    )
    tail = [
        Part(
            _polygon(
                (x, y),
                (x - 0.20, y - 0.13),
                (x - 0.20, y + 0.13),
                (x, y),
                (x + 0.20, y - 0.13),
                (x + 0.20, y + 0.13),
            ),
            c,
        )
        for x, y, c in ((0.05, 0.70, a), (-0.05, 0.90, b))
    ]
    return Thing(
        [
            Part(_box(-0.035, 0.5, 0.035, 0.95), _BLACK),
            *tail,
            Part(_polygon(top, left, centre), a),
            Part(_polygon(top, right, centre), b),
            Part(_polygon(bottom, left, centre), b),
            Part(_polygon(bottom, right, centre), a),
        ],
        word,
    )


def cloud(rng: Rng) -> Thing:
    bumps = (
        (-0.55, 0.12, 0.36),
        (0.55, 0.14, 0.36),
        (-0.20, -0.16, rng.uniform(0.40, 0.48)),
        (0.26, -0.08, rng.uniform(0.36, 0.44)),
    )
    grey, light = (0.80, 0.83, 0.88), (0.97, 0.98, 1.0)
    low = [Part(_ellipse(x, y + 0.08, r, r), grey) for x, y, r in bumps]
    high = [Part(_ellipse(x, y - 0.02, r * 0.92, r * 0.88), light) for x, y, r in bumps]
    return Thing([*low, Part(_box(-0.62, 0.20, 0.62, 0.56), grey), *high], "")


def snowman(rng: Rng) -> Thing:
    white, head = (0.97, 0.98, 1.0), rng.uniform(0.27, 0.32)
    scarf = COLOURS["red"]
    parts = [
        Part(_ellipse(0, 0.52, 0.52, 0.45), _darker(white, 0.92)),
        Part(_ellipse(0, -0.02, 0.40, 0.36), _darker(white, 0.96)),
        Part(_ellipse(0, -0.45, head, head), white),
        Part(_box(-0.36, -0.74, 0.36, -0.64), _BLACK),
        Part(_box(-0.23, -0.98, 0.23, -0.66), _BLACK),
        Part(_box(-0.32, -0.27, 0.32, -0.15), scarf),
        Part(_box(0.10, -0.20, 0.24, 0.14), scarf),
        Part(_polygon((0, -0.47), (0, -0.38), (0.30, -0.40)), COLOURS["orange"]),
    ]
    parts += [
        Part(_ellipse(x, y, 0.05, 0.05), _BLACK)
        for x, y in ((-0.11, -0.53), (0.10, -0.53), (0, 0.10), (0, 0.40), (0, 0.60))
    ]
    return Thing(parts, "")


def cactus(rng: Rng) -> Thing:
    green, stem = (0.28, rng.uniform(0.58, 0.68), 0.38), rng.uniform(0.20, 0.25)
    left, right = rng.uniform(-0.30, -0.05), rng.uniform(-0.40, -0.15)
    pot = (0.80, 0.42, 0.22)
    parts = [
        Part(_ellipse(0, -0.60, stem, stem * 1.3), green),
        Part(_box(-stem, -0.60, stem, 0.55), green),
    ]
    for side, y in ((-1, left), (1, right)):
        reach = 0.56 * side
        parts += [
            Part(_box(min(0, reach), y + 0.18, max(0, reach), y + 0.40), green),
            Part(_ellipse(reach, y + 0.29, 0.14, 0.14), green),
            Part(_box(reach - 0.14, y - 0.12, reach + 0.14, y + 0.29), green),
            Part(_ellipse(reach, y - 0.12, 0.14, 0.16), green),
        ]
    parts += [
        Part(_box(x - 0.025, -0.72, x + 0.025, 0.5), _darker(green, 0.72)) for x in (-0.10, 0.10)
    ]
    parts += [
        Part(_polygon((-0.42, 0.50), (0.42, 0.50), (0.32, 0.97), (-0.32, 0.97)), pot),
        Part(_box(-0.48, 0.44, 0.48, 0.58), _darker(pot, 1.15)),
    ]
    return Thing(parts, "")


DRAWINGS: dict[str, Callable[[Rng], Thing]] = {
    "house": house, "tree": tree, "car": car, "boat": boat, "sun": sun, "moon": moon, "star": star,
    "balloon": balloon, "fish": fish, "flower": flower, "mushroom": mushroom, "umbrella": umbrella,
    "apple": apple, "cup": cup, "rocket": rocket, "heart": heart, "kite": kite, "cloud": cloud,
    "snowman": snowman, "cactus": cactus,
}  # fmt: skip

# Things that stand: they lean only a little. The others are drawn at larger angles.
UPRIGHT = frozenset(
    {"house", "tree", "car", "cup", "snowman", "cactus", "cloud", "mushroom", "boat"}
)
