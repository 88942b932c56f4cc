"""Count a folder of label maps, of any model, against a data set: mIoU and its companions."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from disa.data.dataset import Dataset
from disa.data.images import Pixels, write_png
from disa.data.masks import read_indices
from disa.data.vocabulary import Category
from disa.errors import DisaError
from disa.evaluation.counts import Boundary, Confusion
from disa.inference.overlay import overlay
from disa.running.files import text_sha256

WORST = 20  # images that `save_worst` draws


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
        # Counted alone first, because each image has an mIoU of its own.
        single = Confusion(self.confusion.categories, self.confusion.ignored)
        single.update(prediction, target)
        self.confusion.counts += single.counts
        self.boundary.update(prediction[None], target[None])
        # Its counts (t, t) are not kept: those of all images would fill the memory.
        self.images[name] = single.miou
        self.masks.append(f"{name} {mask_content}")

    @property
    def masks_sha256(self) -> str:
        """Digest of the masks' content; it changes when a mask is corrected."""
        return text_sha256(self.masks)

    def worst(self, count: int) -> list[str]:
        """Return the ids of the `count` images with the lowest mIoU, the lowest first."""
        measured = {name: miou for name, miou in self.images.items() if not math.isnan(miou)}
        return sorted(measured, key=measured.__getitem__)[:count]


def score(
    folder: Path,
    dataset: Dataset,
    ids: Sequence[str] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Return the counts of the maps FOLDER/ID.png against the masks of a data set.

    A map is an index PNG (grey or palette, 8 or 16 bits) of its image's size. Its values are
    categories' positions in the vocabulary. `ids` are the data set's first ids, by default all.
    Raises `DisaError` that names the file for a map that is missing, of another size, or holds a
    value that is no category where the mask is not ignored.
    """
    ids = dataset.ids if ids is None else ids
    scores = Scores(len(dataset.vocabulary.categories), dataset.ignored)
    for index, name in enumerate(ids):
        path = folder / f"{name}.png"
        if not path.is_file():
            raise DisaError(f"{path}: no such file; the folder needs a label map for each image")
        # torch cannot compare unsigned types of different widths.
        prediction = torch.from_numpy(read_indices(path).astype(np.int32))
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
    # Most data sets have both kinds, and a model is often much better at one of them.
    for name, kind in (("things", "thing"), ("stuff", "stuff")):
        of_kind = torch.tensor([category.kind == kind for category in categories])
        result[name] = _means(scores, of_kind & confusion.present)
    # Every property counts the whole matrix, so each is asked for once and not for every category.
    columns = (confusion.pixels, confusion.iou, confusion.accuracy, scores.boundary.iou)
    rows = zip(categories, *(column.tolist() for column in columns), strict=True)
    result["per_category"] = [
        {
            "index": index,
            "name": category.name,
            "kind": category.kind,
            "pixels": pixels,
            "iou": percent(iou),
            "accuracy": percent(accuracy),
            "boundary_iou": percent(boundary_iou),
        }
        for index, (category, pixels, iou, accuracy, boundary_iou) in enumerate(rows)
    ]
    return result


def percent(share: float) -> float | None:
    """Return a share in percent; None for NaN, which JSON does not know."""
    return None if math.isnan(share) else 100 * share


def percent_text(value: float | None, digits: int = 2) -> str:
    """Return a percentage, by default with one digit more than papers print; "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _means(scores: Scores, chosen: Bool[Tensor, " t"]) -> dict[str, Any]:
    def mean(shares: Float[Tensor, " t"]) -> float | None:
        return percent(float(shares[chosen].nanmean()))

    return {
        "categories_present": int(chosen.sum()),
        "miou": mean(scores.confusion.iou),
        "mean_accuracy": mean(scores.confusion.accuracy),
        "boundary_iou": mean(scores.boundary.iou),
    }


def save_worst(out: Path, folder: Path, dataset: Dataset, scores: Scores) -> None:
    """Draw the `WORST` images with the lowest mIoU; FOLDER holds their label maps.

    OUT gets RANK_ID_truth.png and RANK_ID_prediction.png of each. Raises `DisaError` if the disk
    refuses.
    """
    for rank, name in enumerate(scores.worst(WORST), start=1):
        index = dataset.ids.index(name)
        picture = dataset.image(index)
        labels = dataset.labels(index).astype(np.int32)
        truth = np.where(labels == dataset.ignored, -1, labels)
        prediction = read_indices(folder / f"{name}.png").astype(np.int32)
        for title, drawn in (("truth", truth), ("prediction", prediction)):
            panel = _drawn(picture, drawn, dataset)
            write_png(out / f"{rank:02d}_{name}_{title}.png", panel)


def _drawn(picture: Pixels, labels: NDArray[np.int32], dataset: Dataset) -> Pixels:
    """Draw a label map beside its picture; negative values are not drawn."""
    # The legend names only categories that the map holds, so these are numbered anew.
    shown = [int(category) for category in np.unique(labels) if category >= 0]
    index = np.full(len(dataset.vocabulary.categories) + 1, -1)  # the last place serves -1
    index[shown] = range(len(shown))
    names = [dataset.vocabulary.categories[category].name for category in shown]
    return np.asarray(overlay(picture, index[labels], names, beside=True))
