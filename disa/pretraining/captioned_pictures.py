"""The captioned pictures of contrastive training: rendered once by all cores, kept in memory as bytes.

`(seed, counts) -> cards m 3 S/2 S/2, scenes n 3 S S`, uint8, with one caption each.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from rich.progress import track
from torch import Tensor

from disa.data.parallel import process_pool
from disa.picturebook import SIZE, TRAIN_SEED, render, render_card

_CHUNK = 250  # pictures that one worker renders at a time


class Pictures(NamedTuple):
    """Pictures and their captions, in the same order."""

    pixels: UInt8[Tensor, "m 3 H W"]
    captions: list[str]


def render_pictures(kind: str, count: int, seed: int) -> Pictures:
    """Render `count` "cards" or "scenes" of the training world; `seed` chooses which."""
    side = SIZE // 2 if kind == "cards" else SIZE
    pixels = torch.empty(count, 3, side, side, dtype=torch.uint8)
    captions: list[str] = []
    chunks = [
        (kind, seed * 10_000_000 + first, min(_CHUNK, count - first))
        for first in range(0, count, _CHUNK)
    ]
    with _workers(len(chunks)) as workers:
        rendered = workers.map(_render_chunk, chunks) if workers else map(_render_chunk, chunks)
        for number, part in enumerate(
            track(rendered, f"drawing {count:,} {kind}", len(chunks), disable=not workers)
        ):
            pixels[number * _CHUNK : number * _CHUNK + len(part.captions)] = part.pixels
            captions += part.captions
    return Pictures(pixels, captions)


def _workers(chunks: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    """Return a process per core, or none where there is nothing to share out."""
    if chunks < 2:
        return nullcontext()
    return process_pool(os.cpu_count() or 1, "close other programs, or draw fewer pictures")


def _render_chunk(chunk: tuple[str, int, int]) -> Pictures:
    kind, first, count = chunk
    draw, side = (render_card, SIZE // 2) if kind == "cards" else (render, SIZE)
    drawn = [draw(TRAIN_SEED, first + index, side) for index in range(count)]
    pixels = torch.stack([torch.from_numpy(picture.image).permute(2, 0, 1) for picture in drawn])
    return Pictures(pixels, [picture.caption for picture in drawn])
