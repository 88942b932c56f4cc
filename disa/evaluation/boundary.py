"""Boundary IoU: the IoU of the bands along a category's outlines, true against predicted.

Source: Cheng et al., CVPR 2021. Unlike there, the picture's own edge is no outline, or every
background would get it right for nothing. Nor is the border of an ignored region (decision D70).
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
        self.categories = categories
        self.ignored = ignored
        # Pixels of each category in both bands, in the target's, in the prediction's.
        self.counts: Int[Tensor, "3 t"] = torch.zeros(3, categories, dtype=torch.int64)

    def update(self, prediction: Int[Tensor, "b H W"], target: Int[Tensor, "b H W"]) -> None:
        """Count one batch of label maps. Where the target is `ignored`, both are unknown (D70)."""
        known = target != self.ignored
        true = band(target, known)
        predicted = band(prediction, known)
        both = true & predicted & (target == prediction)
        counts = torch.stack(
            [
                torch.bincount(target[both].long(), minlength=self.categories),
                torch.bincount(target[true].long(), minlength=self.categories),
                torch.bincount(prediction[predicted].long(), minlength=self.categories),
            ]
        )
        self.counts = self.counts.to(target.device) + counts

    def merge(self, other: "Boundary") -> None:
        """Add what another one has counted of the same categories."""
        self.counts = self.counts + other.counts.to(self.counts.device)

    @property
    def iou(self) -> Float[Tensor, " t"]:
        """Boundary IoU per category; NaN where a category has no outline in any target."""
        both, true, predicted = self.counts.cpu()
        return torch.where(true > 0, both.double() / (true + predicted - both), torch.nan)


def band(
    labels: Int[Tensor, "b H W"], known: Bool[Tensor, "b H W"] | None = None
) -> Bool[Tensor, "b H W"]:
    """Return the pixels with another label within `WIDTH` of the diagonal, at least one pixel.

    Pixels that are not `known` are in no band and make none.
    """
    if known is None:
        known = torch.ones_like(labels, dtype=torch.bool)
    reach = max(1, round(WIDTH * math.hypot(*labels.shape[-2:])))

    # A pixel is in a band if the largest and the smallest label near it differ. The smallest is
    # found as the largest of the negative values; both go together: 2 b H W.
    signed = torch.stack([labels.int(), -labels.int()]).masked_fill(~known, NOTHING)
    along_rows = _largest_near(signed, reach)
    columns = _largest_near(rearrange(along_rows, "s b H W -> s b W H"), reach)
    largest, negated_smallest = rearrange(columns, "s b W H -> s b H W")
    return known & (largest != -negated_smallest)


def _largest_near(values: Int[Tensor, "*rows W"], reach: int) -> Int[Tensor, "*rows W"]:
    """Return the maximum over `reach` places to both sides, in log2 passes, by doubling."""
    largest = F.pad(values, (reach, reach), value=NOTHING)
    covered = 1  # places that each maximum has seen
    while covered < 2 * reach + 1:
        step = min(covered, 2 * reach + 1 - covered)
        largest = torch.maximum(largest[..., :-step], largest[..., step:])
        covered += step
    return largest
