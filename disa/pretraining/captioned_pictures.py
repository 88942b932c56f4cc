"""The captioned pictures of contrastive training: drawn once by all cores, kept in memory."""

import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from disa.data.parallel import process_pool
from disa.picturebook import SIZE, TRAIN_SEED, render, render_card
from disa.running.terminal import counted

CHUNK = 250  # pictures that one process draws at a time
SEED_STRIDE = 10_000_000  # pictures between those of two seeds


class Pictures(NamedTuple):
    """Pictures and their captions, in the same order."""

    pixels: UInt8[Tensor, "m 3 H W"]
    captions: list[str]


def render_pictures(kind: str, count: int, seed: int) -> Pictures:
    """Draw `count` "cards" or "scenes" of the training world; `seed` chooses which."""
    # Four cards fill the picture of a mosaic.
    side = SIZE // 2 if kind == "cards" else SIZE
    first_of_all = seed * SEED_STRIDE
    chunks = [
        (kind, first_of_all + first, min(CHUNK, count - first)) for first in range(0, count, CHUNK)
    ]
    # One tensor from the start: 60,000 small ones and their stack would take twice the memory.
    pixels = torch.empty(count, 3, side, side, dtype=torch.uint8)
    captions: list[str] = []
    with _workers(len(chunks)) as workers, counted(f"drawing {kind}") as report:
        drawn = workers.map(_draw_chunk, chunks) if workers else map(_draw_chunk, chunks)
        for chunk in drawn:
            done = len(captions) + len(chunk.captions)
            pixels[len(captions) : done] = chunk.pixels
            captions += chunk.captions
            report(done, count)
    return Pictures(pixels, captions)


def _workers(chunks: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    """Return a process per core, or none where there is nothing to share out."""
    # To start processes takes longer than to draw one chunk.
    if chunks < 2:
        return nullcontext()
    return process_pool(os.cpu_count() or 1, "close other programs, or draw fewer pictures")


def _draw_chunk(chunk: tuple[str, int, int]) -> Pictures:
    kind, first, count = chunk
    if kind == "cards":
        drawn = [render_card(TRAIN_SEED, index, SIZE // 2) for index in range(first, first + count)]
    else:
        drawn = [render(TRAIN_SEED, index, SIZE) for index in range(first, first + count)]
    pixels = torch.stack([torch.from_numpy(picture.image).permute(2, 0, 1) for picture in drawn])
    return Pictures(pixels, [picture.caption for picture in drawn])
