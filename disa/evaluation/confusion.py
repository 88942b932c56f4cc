"""How often each category is taken for each other one, and the usual numbers drawn from it.

Signature: batches of (prediction, target) -> counts `t t` -> mIoU, pixel accuracy, mean accuracy, fwIoU.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from disa.model.losses import IGNORED


class Confusion:
    """Counts pixels by (true, predicted) category, batch by batch, on their device.

    Every number is a share in 0..1. Categories without a pixel in any target take no part in the means; what is
    predicted as them still counts against the others, as in the usual benchmarks.
    """

    def __init__(self, categories: int) -> None:
        self.categories = categories
        self.counts: Int[Tensor, "t t"] = torch.zeros(categories, categories, dtype=torch.int64)

    def update(self, prediction: Int[Tensor, "*size"], target: Int[Tensor, "*size"]) -> None:
        """Count the pixels of one batch; those whose target is `IGNORED` (255) are left out.

        Raises `ValueError` for a category outside `0 .. categories - 1`.
        """
        valid = target != IGNORED
        true, taken = target[valid].long(), prediction[valid].long()
        for name, values in (("target", true), ("prediction", taken)):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self.categories:
                raise ValueError(f"{name} holds a category outside 0 .. {self.categories - 1}")
        counts = torch.bincount(true * self.categories + taken, minlength=self.categories**2)
        self.counts = self.counts.to(counts.device) + counts.view(self.categories, self.categories)

    @property
    def present(self) -> Tensor:
        """Which categories have at least one pixel in the targets."""
        return self.counts.sum(1) > 0

    @property
    def iou(self) -> Tensor:
        """Intersection over union per category; NaN where a category is in no target."""
        hit = self.counts.diagonal().double()
        union = self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal()
        return torch.where(self.present, hit / union, torch.nan)

    @property
    def accuracy(self) -> Tensor:
        """Share of each category's pixels that were found; NaN where a category is in no target."""
        return self.counts.diagonal().double() / self.counts.sum(1)

    @property
    def miou(self) -> float:
        """Mean IoU over the categories present."""
        return float(self.iou.nanmean())

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy over the categories present."""
        return float(self.accuracy.nanmean())

    @property
    def pixel_accuracy(self) -> float:
        """Share of all pixels that are right; NaN without any."""
        return float(self.counts.diagonal().sum().double() / self.counts.sum())

    @property
    def fwiou(self) -> float:
        """Mean IoU weighted by the categories' pixels; NaN without any."""
        return float((self.iou.nan_to_num() * self.counts.sum(1)).sum() / self.counts.sum())
