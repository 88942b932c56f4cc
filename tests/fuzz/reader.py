"""What a reader of the harness is, and what several of them write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

HEIGHT, WIDTH = SIZE = (12, 20)
LABELS = ("boat|ship", "sea")


class Reader(NamedTuple):
    """`write` fills a folder, of which the `files` are damaged; `read` gets it and the damaged."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path, Path], object]
    files: tuple[str, ...] = ("*",)
    tries: int = 20  # in the tests


def pixels(channels: int = 3) -> np.ndarray:
    shape = (*SIZE, channels) if channels > 1 else SIZE
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
