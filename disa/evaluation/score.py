"""Count a folder of label maps, of any model, against a data set: mIoU and its companions."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.data.dataset import Dataset
from disa.data.masks import read_indices
from disa.data.vocabulary import Category
from disa.errors import DisaError
from disa.evaluation.boundary import Boundary
from disa.evaluation.confusion import Confusion
from disa.running.files import text_sha256


class Scores:
    """The counts of a data set's images, each image's own mIoU, and the content of the masks."""

    def __init__(self, categories: int, ignored: int) -> None:
        self.confusion = Confusion(categories, ignored)
        self.boundary = Boundary(categories, ignored)
        # id -> mIoU in 0..1 over the categories that the image holds; NaN if all of it is ignored
        self.images: dict[str, float] = {}
        self.masks: list[str] = []

    def add(
        self,
        name: str,
        prediction: Int[Tensor, "H W"],
        target: Int[Tensor, "H W"],
        mask_content: str = "",
    ) -> None:
        """Count one image. Raises `ValueError` for a category out of range."""
        single = Confusion(self.confusion.categories, self.confusion.ignored)
        single.update(prediction, target)
        self.confusion.merge(single)
        self.boundary.update(prediction[None], target[None])
        self.images[name] = single.miou
        self.masks.append(f"{name} {mask_content}")

    @property
    def masks_sha256(self) -> str:
        """What tells these masks from others, or from the same after a correction."""
        return text_sha256(self.masks)

    def worst(self, count: int) -> list[str]:
        """Return the ids of the `count` images with the lowest mIoU, the lowest first."""
        measured = {name: miou for name, miou in self.images.items() if not np.isnan(miou)}
        return sorted(measured, key=lambda name: measured[name])[:count]


def score(
    folder: Path,
    dataset: Dataset,
    ids: Sequence[str] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Return the counts of the maps FOLDER/ID.png against the masks of a data set.

    A map is an index PNG (grey or palette, 8 or 16 bits) of its image's size that holds categories'
    positions in the vocabulary. `ids` are the data set's first ids, by default all. Raises
    `DisaError` that names the file for a map that is missing, of another size, or holds a value
    that is no category where the mask is not ignored.
    """
    ids = dataset.ids if ids is None else ids
    scores = Scores(len(dataset.vocabulary.categories), dataset.ignored)
    for index, name in enumerate(ids):
        path = folder / f"{name}.png"
        if not path.is_file():
            raise DisaError(
                f"{path}: no such file; {folder} must hold a label map for each of the "
                f"{len(ids)} images, named by its id"
            )
        prediction = read_label_map(path)
        target = torch.from_numpy(dataset.labels(index).astype(np.int32))
        if prediction.shape != target.shape:
            height, width = target.shape
            raise DisaError(
                f"{path}: is {prediction.shape[1]} x {prediction.shape[0]} pixels, the mask is "
                f"{width} x {height}; predict at the size of the picture"
            )
        try:
            scores.add(name, prediction, target, dataset.mask_content(index))
        except ValueError as error:
            raise DisaError(
                f"{path}: {error}; the categories of {dataset.name} are numbered from 0"
            ) from None
        report(index + 1, len(ids))
    return scores


def read_label_map(path: Path) -> Int[Tensor, "H W"]:
    """Return the values of an index PNG. Raises `DisaError` if it is damaged or no index PNG."""
    return torch.from_numpy(read_indices(path).astype(np.int32))


def numbers(scores: Scores, categories: Sequence[Category]) -> dict[str, Any]:
    """Return what was measured, in percent; None where there is nothing to measure.

    `miou` averages over the categories present in the images counted, `miou_all` over all of them
    (decision D71). `things` and `stuff` are the means over the present categories of either kind.
    """
    confusion = scores.confusion
    result: dict[str, Any] = {
        "images": len(scores.images),
        "categories": len(categories),
        "categories_present": int(confusion.present.sum()),
        "miou": percent(confusion.miou),
        "miou_all": percent(confusion.miou_all),
        "pixel_accuracy": percent(confusion.pixel_accuracy),
        "mean_accuracy": percent(confusion.mean_accuracy),
        "fwiou": percent(confusion.fwiou),
        "boundary_iou": percent(float(scores.boundary.iou.nanmean())),
    }
    for name, kind in (("things", "thing"), ("stuff", "stuff")):
        of_kind = torch.tensor([category.kind == kind for category in categories])
        result[name] = _means(scores, of_kind & confusion.present)
    result["per_category"] = [
        {
            "index": index,
            "name": category.name,
            "kind": category.kind,
            "pixels": int(confusion.pixels[index]),
            "iou": percent(float(confusion.iou[index])),
            "accuracy": percent(float(confusion.accuracy[index])),
            "boundary_iou": percent(float(scores.boundary.iou[index])),
        }
        for index, category in enumerate(categories)
    ]
    return result


def percent(share: float) -> float | None:
    """Return a share in percent; None for NaN, which JSON does not know."""
    return None if math.isnan(share) else 100 * share


def _means(scores: Scores, chosen: Bool[Tensor, " t"]) -> dict[str, Any]:
    def mean(shares: Float[Tensor, " t"]) -> float | None:
        return percent(float(shares[chosen].nanmean()))

    return {
        "categories_present": int(chosen.sum()),
        "miou": mean(scores.confusion.iou),
        "mean_accuracy": mean(scores.confusion.accuracy),
        "boundary_iou": mean(scores.boundary.iou),
    }
