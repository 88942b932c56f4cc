"""The picturebook benchmark: test scenes that no training run has seen, all categories competing.

Signature: (model, text `t p d` of WORDS) -> a dictionary of numbers, ready for JSON.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.evaluation.boundary import Boundary
from disa.evaluation.confusion import Confusion
from disa.evaluation.localisation import Localisation
from disa.picturebook import TEST_SEED, THINGS, WORDS, Scene, group, render

GROUPS = ("seen_things", "unseen_things", "seen_stuff", "unseen_stuff")
SCENES = 500


class Failure(NamedTuple):
    """A test scene on which the model does badly."""

    miou: float  # over the categories that the scene holds, 0..1
    number: int  # of the scene
    scene: Scene
    labels: np.ndarray  # (H, W) int, index into WORDS: the prediction


def evaluate(
    model: nn.Module,
    text: Float[Tensor, "t p d"],
    *,
    scenes: int = SCENES,
    size: int = 96,
    batch: int = 10,
    worst: list[Failure] | None = None,
    keep: int = 20,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Return the benchmark's numbers for a model in evaluation mode (`Disa` or `DenseClip`).

    IoUs and accuracies are in percent, `itm_auc` and `saliency_ap` in 0..1; each of them is given for the four groups
    (`groups` holds the mIoU's), for seen, unseen and all categories. `size` is the scenes' side in pixels: the
    model's own. Numbers of the SDM are None for a model without it. A list given as `worst` receives the `keep` worst
    scenes, worst first; `progress` is told how many scenes are done.
    """
    confusion, boundary = Confusion(len(WORDS)), Boundary(len(WORDS))
    things = torch.tensor([word in THINGS for word in WORDS])
    localisation: Localisation | None = Localisation(len(WORDS), things)
    failures: list[Failure] = []
    for first, several in _batches(scenes, size, batch):
        labels = torch.from_numpy(np.stack([scene.labels for scene in several])).long()
        pixels = torch.from_numpy(np.stack([scene.image.transpose(2, 0, 1) for scene in several]))
        with torch.inference_mode():
            prediction = model(pixels.to(text.device, text.dtype), text)
            found = best_labels(prediction.logits, size)
            confusion.update(found, labels)
            boundary.update(found, labels)
            localisation = localisation if prediction.saliency is not None else None
            if localisation is not None:
                localisation.update(prediction, labels)
        for offset, scene in enumerate(several if worst is not None else []):
            single = Confusion(len(WORDS))
            single.update(found[offset], labels[offset])
            heapq.heappush(
                failures, Failure(-single.miou, first + offset, scene, found[offset].numpy())
            )
            if len(failures) > keep:
                heapq.heappop(failures)
        progress(first + len(several))
    if worst is not None:
        worst.extend(
            failure._replace(miou=-failure.miou) for failure in sorted(failures, reverse=True)
        )
    return {"scenes": scenes, "size": size} | _numbers(confusion, boundary, localisation)


def best_labels(logits: Float[Tensor, "b t h4 w4"], size: int) -> Int[Tensor, "b H W"]:
    """Return the likeliest category of every pixel, as the segmenter finds it: probabilities resized, then compared."""
    scores = logits.float().sigmoid()
    return F.interpolate(scores, (size, size), mode="bilinear", align_corners=False).argmax(1).cpu()


def _batches(scenes: int, size: int, batch: int) -> Iterator[tuple[int, list[Scene]]]:
    for first in range(0, scenes, batch):
        yield (
            first,
            [render(TEST_SEED, index, size) for index in range(first, min(first + batch, scenes))],
        )


def _numbers(
    confusion: Confusion, boundary: Boundary, localisation: Localisation | None
) -> dict[str, Any]:
    per_class = {"iou": _percent(confusion.iou), "accuracy": _percent(confusion.accuracy)}
    per_class["boundary_iou"] = _percent(boundary.iou)
    if localisation is not None:
        per_class["itm_auc"] = localisation.auc().tolist()
        per_class["saliency_ap"] = localisation.saliency_precision().tolist()
        per_class["split_iou"] = _percent(localisation.split_iou())
    means = {name: _means(values) for name, values in per_class.items()}
    return {
        "miou": means["iou"]["all"],
        "pixel_accuracy": 100 * confusion.pixel_accuracy,
        "mean_accuracy": means["accuracy"]["all"],
        "fwiou": 100 * confusion.fwiou,
        "groups": {name: means["iou"][name] for name in GROUPS},
        "boundary_iou": means["boundary_iou"],
        "itm_auc": means.get("itm_auc"),
        "saliency_ap": means.get("saliency_ap"),
        "split_iou": means.get("split_iou"),
        "foreground_iou": None if localisation is None else 100 * localisation.foreground_iou(),
        "background_iou": None if localisation is None else 100 * localisation.background_iou(),
        "per_class": {
            word: {"group": group(word)}
            | {name: _plain(values[index]) for name, values in per_class.items()}
            for index, word in enumerate(WORDS)
        },
    }


def _means(values: list[float]) -> dict[str, float | None]:
    """Return the means over the four groups, the seen, the unseen and all categories, of the values that are known."""

    def mean(begin: str) -> float | None:
        known = [
            v
            for word, v in zip(WORDS, values, strict=True)
            if group(word).startswith(begin) and v == v
        ]
        return sum(known) / len(known) if known else None

    return {name: mean(name) for name in (*GROUPS, "seen", "unseen")} | {"all": mean("")}


def _percent(shares: Tensor) -> list[float]:
    return (100 * shares.double()).tolist()


def _plain(value: float) -> float | None:
    return value if value == value else None  # JSON knows no NaN
