"""How much memory a call may take above the loaded model, and what of it cannot be divided.

The network works through views and labels in parts that follow the budget (`model/few.py`). Half of
the budget is for these parts, half for what is needed as a whole (decision D144).
"""

import re
from typing import NamedTuple

import torch

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.inference.protocol import Layout
from disa.model.few import MAX_MEMORY, share

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
HALF = 2  # parts of the budget
QUARTER = 4
# Numbers that CLIP holds at once per token and channel: measured on ViT-B/16.
CLIP_NUMBERS = 32
MIX = 75  # numbers per pixel while logits follow the edges of the image (model/enlarge.py)
BLENDED = 4  # maps of the canvas that exist at once while a label's views are blended


def parse_memory(value: int | str | None) -> int:
    """Return bytes: "500MB", "1.5 GB" or a number of bytes; None: as much as there is by default.

    Raises `DisaError` for anything else.
    """
    if value is None:
        return MAX_MEMORY
    number = str(value).strip().upper().removesuffix("B").strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?)", number)
    amount = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if isinstance(value, bool) or amount < 1:
        raise DisaError(f"max_memory {value!r}: give bytes, or a text such as 500MB or 1.5GB")
    return amount


class Needs(NamedTuple):
    """Bytes that a network needs at once for views of one layout."""

    view: int  # while CLIP looks at a view
    label: int  # of a view: its channels on the grid of tokens, through all of the head
    logits: int  # of a view and label, kept until the views are blended
    tokens: int  # of a view and label, whether or not the head computes it
    rest: int  # whatever the labels

    @classmethod
    def of(
        cls, config: ModelConfig, width: int, patch: int, layout: Layout, dtype: torch.dtype
    ) -> "Needs":
        """Return what a model needs whose CLIP has that width and patch, in that type."""
        pixels = layout.view[0] * layout.view[1]
        grid = pixels // patch**2
        canvas = layout.canvas[0] * layout.canvas[1]
        size = dtype.itemsize
        return cls(
            view=size * grid * width * CLIP_NUMBERS,
            label=size * grid * config.cost_channels,
            logits=4 * (pixels if config.decode_enlarge else 16 * grid),
            # Cosines, and the saliency that comes of them.
            tokens=size * grid * (len(config.backbone_templates) + 2 * config.disentangle),
            rest=4 * BLENDED * canvas + size * (MIX * pixels if config.decode_enlarge else 0),
        )


def check_memory(needs: Needs, layout: Layout, labels: int, computed: int) -> None:
    """Raise `DisaError` if the budget does not hold what cannot be divided.

    Of the labels, the head computes `computed` of each view.
    """
    logits = layout.views * computed * needs.logits
    whole = logits + computed * needs.label + labels * needs.tokens + needs.rest
    needed = HALF * max(whole, needs.view)
    if needed > share(1):
        raise DisaError(
            f"{labels} labels in {layout.views} views take {_shown(needed)} of memory, and "
            f"max_memory is {_shown(share(1))}; allow more, or choose a smaller size, less "
            "overlap, fewer labels or a gate"
        )


def fitting(bytes_each: int, most: int) -> int:
    """Return how many things of that size go together, at least one and at most `most`."""
    return max(1, min(most, share(QUARTER) // bytes_each))


def _shown(amount: int) -> str:
    if amount < 10**6:
        return f"{amount / 1e3:.0f} kB"
    return f"{amount / 1e6:.0f} MB" if amount < 10**9 else f"{amount / 1e9:.1f} GB"
