"""Pixels counted over a data set, and the usual numbers drawn from them.

All counts are on the CPU, where label maps are read.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

WIDTH = 0.02  # of the outline's band, as a share of the picture's diagonal
NOTHING = -(2**31)  # less than any label and its negative


class Confusion:
    """Counts pixels by (true, predicted) category.

    Every number is a share in 0..1. A category without a pixel in any target takes part in no mean
    but `miou_all`. What is predicted as it still counts against the others, as in the usual
    benchmarks.
    """

    def __init__(self, categories: int, ignored: int = 255) -> None:
        self.categories = categories
        self.ignored = ignored
        self.counts: Int[Tensor, "t t"] = torch.zeros(categories, categories, dtype=torch.int64)

    def update(self, prediction: Int[Tensor, "*size"], target: Int[Tensor, "*size"]) -> None:
        """Count the pixels of one batch, without those whose target is `ignored`.

        Raises `ValueError` for a category outside `0 .. categories - 1`.
        """
        is_counted = target != self.ignored
        true = target[is_counted].long()
        predicted = prediction[is_counted].long()
        for name, values in (("target", true), ("prediction", predicted)):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self.categories:
                raise ValueError(f"{name} holds a category outside 0 .. {self.categories - 1}")

        # Each pair of categories has a number of its own, so one histogram counts them all.
        pairs = true * self.categories + predicted
        counts = torch.bincount(pairs, minlength=self.categories**2)
        self.counts += counts.view(self.categories, self.categories)

    @property
    def hits(self) -> Int[Tensor, " t"]:
        """Pixels of each category that were predicted rightly."""
        return self.counts.diagonal()

    @property
    def pixels(self) -> Int[Tensor, " t"]:
        """Pixels of each category in the targets."""
        return self.counts.sum(1)

    @property
    def present(self) -> Bool[Tensor, " t"]:
        """Which categories have at least one pixel in the targets."""
        return self.pixels > 0

    @property
    def iou(self) -> Float[Tensor, " t"]:
        """Intersection over union per category; NaN where a category is in no target."""
        # Predicted or true, without counting twice what is both: (t,).
        union = self.counts.sum(0) + self.pixels - self.hits
        return torch.where(self.present, self.hits.double() / union, torch.nan)

    @property
    def accuracy(self) -> Float[Tensor, " t"]:
        """Share of each category's pixels that are right; NaN where a category is in no target."""
        return self.hits.double() / self.pixels

    @property
    def miou(self) -> float:
        """Mean IoU over the categories present."""
        return float(self.iou.nanmean())

    @property
    def miou_all(self) -> float:
        """Mean IoU over all categories; one that is in no target counts as 0 (decision D71)."""
        return float(self.iou.nan_to_num().mean())

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy over the categories present."""
        return float(self.accuracy.nanmean())

    @property
    def pixel_accuracy(self) -> float:
        """Share of all pixels that are right; NaN without any."""
        return float(self.hits.sum().double() / self.pixels.sum())

    @property
    def fwiou(self) -> float:
        """Mean IoU weighted by the categories' pixels; NaN without any."""
        pixels = self.pixels
        return float((self.iou.nan_to_num() * pixels).sum() / pixels.sum())


class Boundary:
    """Counts for Boundary IoU: the IoU of the bands along a category's outlines.

    Source: Cheng et al., CVPR 2021. Unlike there, the picture's own edge is no outline, or every
    background would get it right for nothing. Nor is the border of an ignored region (decision
    D70).
    """

    def __init__(self, categories: int, ignored: int = 255) -> None:
        self.categories = categories
        self.ignored = ignored
        # Pixels of each category in both bands, in the target's, in the prediction's.
        self.counts: Int[Tensor, "3 t"] = torch.zeros(3, categories, dtype=torch.int64)

    def update(self, prediction: Int[Tensor, "b H W"], target: Int[Tensor, "b H W"]) -> None:
        """Count one batch of label maps, without the pixels whose target is `ignored`."""
        known = target != self.ignored
        # The same pixels are known in both maps, so an ignored region makes no band in either.
        true = band(target, known)
        predicted = band(prediction, known)
        both = true & predicted & (target == prediction)
        for row, labels in enumerate((target[both], target[true], prediction[predicted])):
            self.counts[row] += torch.bincount(labels.long(), minlength=self.categories)

    @property
    def iou(self) -> Float[Tensor, " t"]:
        """Boundary IoU per category, in 0..1; NaN where no target has an outline of it."""
        both, true, predicted = self.counts
        return torch.where(true > 0, both.double() / (true + predicted - both), torch.nan)


def band(labels: Int[Tensor, "b H W"], known: Bool[Tensor, "b H W"]) -> Bool[Tensor, "b H W"]:
    """Return the pixels with another label within `WIDTH` of the diagonal, at least one pixel.

    Pixels that are not `known` are in no band and make none.
    """
    reach = max(1, round(WIDTH * math.hypot(*labels.shape[-2:])))

    # A pixel is in a band if the largest and the smallest label near it differ. The smallest is
    # the largest of the negative values, so one pass finds both: (2, b, H, W).
    signed = torch.stack([labels.int(), -labels.int()]).masked_fill(~known, NOTHING)

    # The maximum over a square is the maximum over its rows, then over its columns.
    along_rows = _largest_near(signed, reach)
    columns = _largest_near(rearrange(along_rows, "s b H W -> s b W H"), reach)
    largest, negated_smallest = rearrange(columns, "s b W H -> s b H W")
    return known & (largest != -negated_smallest)


def _largest_near(values: Int[Tensor, "*rows W"], reach: int) -> Int[Tensor, "*rows W"]:
    """Return the maximum over `reach` places to both sides, in log2 passes (decision D174)."""
    largest = F.pad(values, (reach, reach), value=NOTHING)
    covered = 1  # places that each maximum has seen
    while covered < 2 * reach + 1:
        # The last pass overlaps the one before, where the width is no power of two.
        step = min(covered, 2 * reach + 1 - covered)
        largest = torch.maximum(largest[..., :-step], largest[..., step:])
        covered += step
    return largest
