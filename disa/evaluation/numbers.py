"""A benchmark's numbers, ready for JSON: (tally, categories) -> mIoU and its companions, all in percent."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, tensor

from disa.data.vocabulary import Category
from disa.evaluation.tally import Tally

KINDS = ("thing", "stuff")


def numbers(tally: Tally, categories: Sequence[Category]) -> dict[str, Any]:
    """Return what has been measured, in percent; None where there is nothing to measure.

    `miou` averages over the categories present in the images counted, `miou_all` over all of them (D71). `things` and
    `stuff` are the means over the present categories of either kind.
    """
    confusion, boundary = tally.confusion, tally.boundary
    iou, edge, accuracy, pixels = confusion.iou, boundary.iou, confusion.accuracy, confusion.pixels
    result: dict[str, Any] = {
        "images": int(tally.done.sum()),
        "categories": len(categories),
        "categories_present": int(confusion.present.sum()),
        "miou": _percent(confusion.miou),
        "miou_all": _percent(confusion.miou_all),
        "pixel_accuracy": _percent(confusion.pixel_accuracy),
        "mean_accuracy": _percent(confusion.mean_accuracy),
        "fwiou": _percent(confusion.fwiou),
        "boundary_iou": _percent(float(edge.nanmean())),
    }
    for kind in KINDS:
        chosen = tensor([category.kind == kind for category in categories]) & confusion.present
        result["things" if kind == "thing" else kind] = {
            "categories_present": int(chosen.sum()),
            "miou": _mean(iou, chosen),
            "mean_accuracy": _mean(accuracy, chosen),
            "boundary_iou": _mean(edge, chosen),
        }
    result["per_category"] = [
        {
            "index": index,
            "name": category.name,
            "kind": category.kind,
            "pixels": int(pixels[index]),
            "iou": _percent(float(iou[index])),
            "accuracy": _percent(float(accuracy[index])),
            "boundary_iou": _percent(float(edge[index])),
        }
        for index, category in enumerate(categories)
    ]
    return result


def _mean(shares: Float[Tensor, " t"], chosen: Bool[Tensor, " t"]) -> float | None:
    return _percent(float(shares[chosen].nanmean()))


def _percent(share: float) -> float | None:
    return 100 * share if share == share else None  # JSON knows no NaN
