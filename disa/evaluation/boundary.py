"""Boundary IoU: the IoU of what lies within a few pixels of a category's outline, true against predicted.

Signature: batches of (prediction, target) `b H W` -> IoU per category. Source: Cheng et al., CVPR 2021; unlike there,
the picture's own edge is no outline, or every background would get it right for nothing.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

WIDTH = 0.02  # of the outline's band, as a share of the picture's diagonal


class Boundary:
    """Counts pixels of the outlines' bands, batch by batch."""

    def __init__(self, categories: int) -> None:
        self.both, self.true, self.found = (torch.zeros(categories, dtype=torch.int64) for _ in range(3))

    def update(self, prediction: Int[Tensor, "b H W"], target: Int[Tensor, "b H W"]) -> None:
        """Count one batch of label maps without ignored pixels."""
        true, found = band(target), band(prediction)
        count = len(self.true)
        self.true += torch.bincount(target[true].long(), minlength=count)
        self.found += torch.bincount(prediction[found].long(), minlength=count)
        self.both += torch.bincount(target[true & found & (target == prediction)].long(), minlength=count)

    @property
    def iou(self) -> Float[Tensor, " t"]:
        """Boundary IoU per category; NaN where a category has no outline in any target."""
        return torch.where(self.true > 0, self.both.double() / (self.true + self.found - self.both), torch.nan)


def band(labels: Int[Tensor, "b H W"]) -> Bool[Tensor, "b H W"]:
    """Return the pixels that have another label near: within `WIDTH` of the diagonal, at least one pixel."""
    reach = max(1, round(WIDTH * math.hypot(*labels.shape[-2:])))
    maps = labels[:, None].float()
    largest, smallest = (sign * F.max_pool2d(sign * maps, 2 * reach + 1, stride=1, padding=reach) for sign in (1, -1))
    return (largest != smallest)[:, 0]
