"""How often each category is taken for each other one, and the usual numbers drawn from it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Confusion:
    """Counts pixels by (true, predicted) category, batch by batch, on their device.

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
        union = self.counts.sum(0).cpu() + self.pixels - self.hits
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
