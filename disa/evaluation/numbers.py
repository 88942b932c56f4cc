"""A benchmark's numbers, ready for JSON: mIoU and its companions, all in percent."""

import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, tensor

from disa.data.vocabulary import Category
from disa.evaluation.score import Scores


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
        of_kind = tensor([category.kind == kind for category in categories])
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
