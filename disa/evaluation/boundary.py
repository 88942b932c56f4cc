"""Boundary IoU: the IoU of the bands along a category's outlines, true against predicted.

Signature: batches of (prediction, target) `b H W` -> IoU per category. Source: Cheng et al., CVPR
    2021; unlike there,
the picture's own edge is no outline, or every background would get it right for nothing. Nor is the
    border of an
ignored region (D70).
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

WIDTH = 0.02  # of the outline's band, as a share of the picture's diagonal
NOTHING = -(2**31)  # less than any label and its negative


class Boundary:
    """Counts pixels of the outlines' bands, batch by batch, on their device."""

    def __init__(self, categories: int, ignored: int = 255) -> None:
        self.categories, self.ignored = categories, ignored
        # pixels of each category in both bands, in the target's, in the prediction's
        self.counts: Int[Tensor, "3 t"] = torch.zeros(3, categories, dtype=torch.int64)

    def update(self, prediction: Int[Tensor, "b H W"], target: Int[Tensor, "b H W"]) -> None:
        """Count one batch of label maps.

        Pixels whose target is `ignored` are unknown in both of them (D70).
        """
        known = target != self.ignored
        true, found = band(target, known), band(prediction, known)
        both = true & found & (target == prediction)
        counts = [
            torch.bincount(labels[places].long(), minlength=self.categories)
            for labels, places in ((target, both), (target, true), (prediction, found))
        ]
        self.counts = self.counts.to(target.device) + torch.stack(counts)

    def merge(self, other: "Boundary") -> None:
        """Add what another one has counted of the same categories."""
        self.counts = self.counts + other.counts.to(self.counts.device)

    @property
    def iou(self) -> Float[Tensor, " t"]:
        """Boundary IoU per category, on the CPU.

        NaN where a category has no outline in any target.
        """
        both, true, found = self.counts.cpu()
        return torch.where(true > 0, both.double() / (true + found - both), torch.nan)


def band(
    labels: Int[Tensor, "b H W"], known: Bool[Tensor, "b H W"] | None = None
) -> Bool[Tensor, "b H W"]:
    """Return the pixels with another label within `WIDTH` of the diagonal, at least one pixel.

    Pixels that are not `known` are in no band and make none.
    """
    known = torch.ones_like(labels, dtype=torch.bool) if known is None else known
    reach = max(1, round(WIDTH * math.hypot(*labels.shape[-2:])))
    both_ways = torch.stack([labels.int(), -labels.int()]).masked_fill(~known, NOTHING)
    rows = _largest_near(both_ways, reach)
    largest, negated = rearrange(
        _largest_near(rearrange(rows, "s b H W -> s b W H"), reach), "s b W H -> s b H W"
    )
    return known & (largest != -negated)


def _largest_near(values: Int[Tensor, "*rows W"], reach: int) -> Int[Tensor, "*rows W"]:
    """Return the maximum over `reach` places to both sides, in log2 passes, by doubling."""
    spread, covered, width = F.pad(values, (reach, reach), value=NOTHING), 1, 2 * reach + 1
    while covered < width:
        step = min(covered, width - covered)
        spread = torch.maximum(spread[..., :-step], spread[..., step:])
        covered += step
    return spread
