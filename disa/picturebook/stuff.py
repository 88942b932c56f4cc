"""The textures of backgrounds: points of the unit square become colours.

A texture takes the points' coordinates `u` (to the right) and `v` (down), both (H, W), and returns
(H, W, 3) in 0..1. It draws as many random numbers for few points as for many, so that it is the
same picture at any resolution.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image

Field = Float[np.ndarray, "H W"]
Colours = Float[np.ndarray, "H W 3"]
Rng = np.random.Generator


def noise(u: Field, v: Field, cells: tuple[int, int], rng: Rng) -> Field:
    """Return smooth noise in 0..1, with `cells` (down, across) random values in the unit square."""
    lattice = Image.fromarray(rng.random((cells[0] + 2, cells[1] + 2), dtype=np.float32))
    step = (u[0, 1] - u[0, 0]) / 2
    # The picture's window in the lattice, which has one more value on every side.
    left = 1 + cells[1] * (u[0, 0] - step)
    right = 1 + cells[1] * (u[0, -1] + step)
    top = 1 + cells[0] * (v[0, 0] - step)
    bottom = 1 + cells[0] * (v[-1, 0] + step)
    box = (left, top, right, bottom)
    return np.asarray(lattice.resize(u.shape[::-1], Image.Resampling.BICUBIC, box=box))


def fractal(u: Field, v: Field, cells: int, rng: Rng, octaves: int = 3) -> Field:
    """Return the mean of `octaves` noises, each twice as fine and half as strong as the last."""
    total = sum(noise(u, v, (cells << i, cells << i), rng) / 2**i for i in range(octaves))
    return np.asarray(total / (2 - 2.0 ** (1 - octaves)), dtype=np.float32)


def _mix(weight: Field, low: tuple[float, ...], high: tuple[float, ...]) -> Colours:
    weight = np.clip(weight, 0, 1)[..., None]
    return np.asarray(low, np.float32) * (1 - weight) + np.asarray(high, np.float32) * weight


def _jitter(
    colour: tuple[float, float, float], rng: Rng, amount: float = 0.05
) -> tuple[float, ...]:
    return tuple(
        np.clip(
            np.asarray(colour) * rng.uniform(1 - amount, 1 + amount)
            + rng.uniform(-amount / 2, amount / 2, 3),
            0,
            1,
        )
    )


def _joint(position: Field, width: float) -> Field:
    """Return 1 within `width` of a whole number of `position`, falling smoothly to 0."""
    distance = np.abs(position - np.round(position))
    return np.clip(1.5 - distance / width, 0, 1)


def sky(u: Field, v: Field, rng: Rng) -> Colours:
    top, haze = _jitter((0.36, 0.62, 0.93), rng), _jitter((0.72, 0.87, 0.98), rng)
    return _mix(v * rng.uniform(0.6, 1.0) + 0.25 * (fractal(u, v, 2, rng) - 0.5), top, haze)


def night_sky(u: Field, v: Field, rng: Rng) -> Colours:
    colours = _mix(v, _jitter((0.03, 0.04, 0.14), rng), _jitter((0.10, 0.10, 0.28), rng))
    light = np.zeros_like(u)
    for x, y, radius in zip(
        rng.random(45), rng.random(45), rng.uniform(0.004, 0.011, 45), strict=True
    ):
        rows, columns = (
            np.searchsorted(axis, (at - 2 * radius, at + 2 * radius))
            for axis, at in ((v[:, 0], y), (u[0], x))
        )
        spot = np.s_[slice(*rows), slice(*columns)]
        light[spot] = np.maximum(
            light[spot], np.clip(2 - np.hypot(u[spot] - x, v[spot] - y) / radius, 0, 1)
        )
    return colours + (np.asarray((1.0, 1.0, 0.9), np.float32) - colours) * light[..., None]


def sea(u: Field, v: Field, rng: Rng) -> Colours:
    bend = fractal(u, v, 3, rng)
    waves = np.sin(
        2
        * np.pi
        * (
            rng.uniform(6, 9) * v
            + 1.3 * bend
            + 0.12 * np.sin(2 * np.pi * (rng.uniform(2, 4) * u + rng.random()))
        )
    )
    return _mix(
        0.5 + 0.5 * waves**3, _jitter((0.02, 0.33, 0.55), rng), _jitter((0.16, 0.62, 0.75), rng)
    )


def grass(u: Field, v: Field, rng: Rng) -> Colours:
    blades = noise(u, v, (9, 60), rng)
    return _mix(
        0.65 * blades + 0.35 * fractal(u, v, 4, rng),
        _jitter((0.12, 0.36, 0.08), rng),
        _jitter((0.48, 0.76, 0.24), rng),
    )


def sand(u: Field, v: Field, rng: Rng) -> Colours:
    ripples = np.sin(
        2
        * np.pi
        * (rng.uniform(5, 8) * (v + rng.uniform(-0.3, 0.3) * u) + 1.2 * fractal(u, v, 3, rng))
    )
    grain = noise(u, v, (60, 60), rng)
    return _mix(
        0.5 + 0.22 * ripples + 0.5 * (grain - 0.5),
        _jitter((0.80, 0.66, 0.42), rng),
        _jitter((0.96, 0.87, 0.66), rng),
    )


def snow(u: Field, v: Field, rng: Rng) -> Colours:
    drift = fractal(u, v, 2, rng)
    return _mix(
        1.6 * drift - 0.3,
        _jitter((0.78, 0.85, 0.95), rng, 0.03),
        _jitter((0.98, 0.99, 1.0), rng, 0.02),
    )


def road(u: Field, v: Field, rng: Rng) -> Colours:
    asphalt = _mix(
        noise(u, v, (50, 50), rng),
        _jitter((0.24, 0.24, 0.26), rng),
        _jitter((0.38, 0.38, 0.40), rng),
    )
    lanes, offset = rng.integers(2, 4), rng.random()
    line = _joint(lanes * v + offset, 0.06) * (np.mod(3 * u + rng.random(), 1) < 0.6)
    return asphalt + (np.asarray((0.93, 0.90, 0.75), np.float32) - asphalt) * line[..., None]


def brick_wall(u: Field, v: Field, rng: Rng) -> Colours:
    rows, columns = rng.integers(9, 13), rng.uniform(4.5, 6.0)
    row = np.floor(v * rows)
    across = u * columns + 0.5 * np.mod(row, 2)
    shade = rng.random((16, 16), dtype=np.float32)[
        row.astype(int) % 16, np.floor(across).astype(int) % 16
    ]
    bricks = _mix(
        0.75 * shade + 0.25 * noise(u, v, (40, 40), rng),
        _jitter((0.58, 0.20, 0.13), rng),
        _jitter((0.78, 0.36, 0.24), rng),
    )
    mortar = np.maximum(_joint(v * rows, 0.09), _joint(across, 0.05))[..., None]
    return bricks + (np.asarray(_jitter((0.80, 0.77, 0.72), rng), np.float32) - bricks) * mortar


def wooden_floor(u: Field, v: Field, rng: Rng) -> Colours:
    planks = rng.uniform(4.5, 6.5)
    plank = np.floor(u * planks).astype(int)
    shift = rng.random(16, dtype=np.float32)
    grain = np.sin(2 * np.pi * (9 * u + 1.6 * noise(u, v, (3, 9), rng) + 3 * shift[plank % 16]))
    wood = _mix(
        0.45 + 0.3 * grain + 0.5 * (shift[plank % 16] - 0.5),
        _jitter((0.42, 0.25, 0.11), rng),
        _jitter((0.70, 0.47, 0.25), rng),
    )
    return wood * (1 - 0.75 * _joint(u * planks, 0.04)[..., None])


def stone_wall(u: Field, v: Field, rng: Rng) -> Colours:
    side = 6
    centres = rng.random((side + 2, side + 2, 2), dtype=np.float32)
    shade = rng.random((side + 2, side + 2), dtype=np.float32)
    column = np.floor(u * side).astype(int)
    row = np.floor(v * side).astype(int)
    first = np.full_like(u, np.inf)  # distance to the nearest centre
    second = np.full_like(u, np.inf)  # and to the next one
    stone = np.zeros_like(u)
    # The nearest centre lies in the point's own cell of the grid or in one beside it.
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            x, y = centres[row + down, column + right].transpose(2, 0, 1)
            distance = np.hypot(
                u - (column + right - 1 + x) / side, v - (row + down - 1 + y) / side
            )
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            stone = np.where(nearer, shade[row + down, column + right], stone)
            first = np.minimum(first, distance)
    stones = _mix(
        0.7 * stone + 0.3 * noise(u, v, (30, 30), rng),
        _jitter((0.42, 0.42, 0.40), rng),
        _jitter((0.68, 0.67, 0.62), rng),
    )
    return stones * (1 - 0.65 * np.clip(1.5 - (second - first) / 0.02, 0, 1)[..., None])


def lava(u: Field, v: Field, rng: Rng) -> Colours:
    heat = np.abs(fractal(u, v, 4, rng, 3) - 0.5) * 2
    crust = _mix(5 * heat - 0.3, _jitter((1.0, 0.62, 0.10), rng), _jitter((0.75, 0.16, 0.03), rng))
    return crust * (1 - np.clip(9 * heat - 2.2, 0, 0.85))[..., None]


def tiled_floor(u: Field, v: Field, rng: Rng) -> Colours:
    count = rng.uniform(5, 8)
    odd = np.mod(np.floor(u * count) + np.floor(v * count), 2)
    tiles = _mix(
        odd + 0.12 * (noise(u, v, (20, 20), rng) - 0.5),
        _jitter((0.30, 0.55, 0.53), rng),
        _jitter((0.90, 0.92, 0.88), rng),
    )
    grout = np.maximum(_joint(u * count, 0.04), _joint(v * count, 0.04))[..., None]
    return tiles * (1 - 0.4 * grout)


def wheat_field(u: Field, v: Field, rng: Rng) -> Colours:
    lean = u + 0.12 * (noise(u, v, (2, 4), rng) - 0.5)
    stalks = np.sin(2 * np.pi * (rng.uniform(20, 24) * lean + 0.8 * noise(u, v, (6, 20), rng)))
    ears = noise(u, v, (14, 40), rng)
    return _mix(
        0.5 + 0.3 * stalks + 0.7 * (ears - 0.5),
        _jitter((0.62, 0.42, 0.06), rng),
        _jitter((0.97, 0.82, 0.28), rng),
    )


def carpet(u: Field, v: Field, rng: Rng) -> Colours:
    count = rng.uniform(4, 6)
    diamonds = np.abs(np.mod(u * count, 1) - 0.5) + np.abs(np.mod(v * count, 1) - 0.5)
    pattern = np.clip((np.abs(diamonds - 0.33) - 0.07) * 20 + 0.5, 0, 1)
    weave = 0.5 + 0.5 * np.sin(2 * np.pi * 40 * v)
    return (
        _mix(1 - pattern, _jitter((0.42, 0.07, 0.28), rng), _jitter((0.86, 0.66, 0.50), rng))
        * (0.9 + 0.1 * weave)[..., None]
    )


TEXTURES: dict[str, Callable[[Field, Field, Rng], Colours]] = {
    "sky": sky, "night sky": night_sky, "sea": sea, "grass": grass, "sand": sand, "snow": snow,
    "road": road, "brick wall": brick_wall, "wooden floor": wooden_floor, "stone wall": stone_wall,
    "lava": lava, "tiled floor": tiled_floor, "wheat field": wheat_field, "carpet": carpet,
}  # fmt: skip

# Where a region goes when one lies above another: small is up, and what is not listed is ground.
HEIGHT: dict[str, int] = {
    "sky": 0,
    "night sky": 0,
    "brick wall": 1,
    "stone wall": 1,
    "sea": 2,
    "wheat field": 2,
}
