"""How often each category is taken for each other one, and the usual numbers drawn from it.

Signature: batches of (prediction, target) -> counts `t t` -> mIoU, pixel accuracy, mean accuracy,
    fwIoU.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Confusion:
    """Counts pixels by (true, predicted) category, batch by batch, on their device.

    Every number is a share in 0..1. Categories without a pixel in any target take no part in the
        means, except in
    `miou_all`; what is predicted as them still counts against the others, as in the usual
        benchmarks.
    """

    def __init__(self, categories: int, ignored: int = 255) -> None:
        self.categories, self.ignored = categories, ignored
        self.counts: Int[Tensor, "t t"] = torch.zeros(categories, categories, dtype=torch.int64)

    def update(self, prediction: Int[Tensor, "*size"], target: Int[Tensor, "*size"]) -> None:
        """Count the pixels of one batch.

        Those whose target is `ignored` (255, or 65535 in 16 bits) are left out.

        Raises `ValueError` for a category outside `0 .. categories - 1`.
        """
        valid = target != self.ignored
        true, taken = target[valid].long(), prediction[valid].long()
        for name, values in (("target", true), ("prediction", taken)):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self.categories:
                raise ValueError(f"{name} holds a category outside 0 .. {self.categories - 1}")
        counts = torch.bincount(true * self.categories + taken, minlength=self.categories**2)
        self.counts = self.counts.to(counts.device) + counts.view(self.categories, self.categories)

    def merge(self, other: "Confusion") -> None:
        """Add the counts of another matrix of the same categories."""
        self.counts = self.counts + other.counts.to(self.counts.device)

    @property
    def hits(self) -> Int[Tensor, " t"]:
        """Pixels of each category that were predicted rightly, on the CPU."""
        return self.counts.diagonal().cpu()

    @property
    def pixels(self) -> Int[Tensor, " t"]:
        """Pixels of each category in the targets."""
        return self.counts.sum(1).cpu()

    @property
    def present(self) -> Bool[Tensor, " t"]:
        """Which categories have at least one pixel in the targets."""
        return self.pixels > 0

    @property
    def iou(self) -> Float[Tensor, " t"]:
        """Intersection over union per category; NaN where a category is in no target."""
        hits, pixels = self.hits, self.pixels
        union = self.counts.sum(0).cpu() + pixels - hits
        return torch.where(pixels > 0, hits.double() / union, torch.nan)

    @property
    def accuracy(self) -> Float[Tensor, " t"]:
        """Share of each category's pixels that were found; NaN where a category is in no target."""
        return self.hits.double() / self.pixels

    @property
    def miou(self) -> float:
        """Mean IoU over the categories present."""
        return float(self.iou.nanmean())

    @property
    def miou_all(self) -> float:
        """Mean IoU over all categories.

        One that is in no target counts as 0, whatever was predicted (D71).
        """
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
