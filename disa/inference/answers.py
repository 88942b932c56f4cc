"""What a model says of a picture, view by view, and what that means per pixel: views -> Answer -> labels H W.

Labels are resized a few at a time: memory does not grow with their number.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from disa.inference.windows import Layout, blend

CHUNK = 2**22  # pixels times labels that are resized and compared at once


class Answer(NamedTuple):
    """The model's outputs for every view of one picture. The last two are None without the SDM."""

    layout: Layout
    logits: Float[Tensor, "v t h4 w4"]
    saliency: Float[Tensor, "v t h w"] | None
    matched: Float[Tensor, "v t"] | None

    def best_label(self, shape: Sequence[int]) -> tuple[Int[Tensor, "H W"], Float[Tensor, "H W"]]:
        """Return the best label's index, the first of equals, and its probability at every pixel of that size."""
        best = torch.full(tuple(shape), -1.0, device=self.logits.device)
        labels = torch.zeros_like(best, dtype=torch.int32)
        for first, maps in self.probabilities(self.logits.shape[1], shape):
            score, index = maps.max(0)
            won = score > best
            labels = torch.where(won, index.int() + first, labels)
            best = torch.where(won, score, best)
        return labels, best

    def probabilities(
        self, count: int, shape: Sequence[int]
    ) -> Iterator[tuple[int, Float[Tensor, "m H W"]]]:
        """Yield the first `count` labels' probabilities at that size, some labels at a time, with the first's index."""
        pixels = max(shape[0] * shape[1], self.layout.canvas[0] * self.layout.canvas[1])
        step = max(1, CHUNK // pixels)
        for first in range(0, count, step):
            maps = blend(self.layout, self.logits[:, first : min(first + step, count)])
            yield (
                first,
                interpolate(maps[None], tuple(shape), mode="bilinear", align_corners=False)[0],
            )
