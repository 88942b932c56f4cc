"""The worst images as pictures: (picture, truth, prediction) -> two overlays beside the original."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disa.data.dataset import Dataset
from disa.data.images import Pixels
from disa.evaluation.sitting import Predict
from disa.evaluation.tally import Tally
from disa.inference.render import overlay
from disa.running.files import write_whole

KEPT = 20
Array = NDArray[Any]


def save_worst(folder: Path, dataset: Dataset, predict: Predict, tally: Tally) -> None:
    """Write truth and prediction of the `KEPT` images with the lowest mIoU, the lowest first.

    They are predicted once more, so that no picture need be kept before it is known to be among the worst.
    """
    words = [category.name for category in dataset.vocabulary.categories]
    for rank, position in enumerate(tally.worst(KEPT), start=1):
        picture, labels = dataset.image(position), dataset.labels(position)
        found = predict(picture).cpu().numpy()
        truth = np.where(labels == dataset.ignored, -1, labels.astype(np.int32))
        save_both(folder / f"{rank:02d}_{dataset.ids[position]}", picture, truth, found, words)


def save_both(
    stem: Path, picture: Pixels, truth: Array, found: Array, words: Sequence[str]
) -> None:
    """Write STEM_truth.png and STEM_prediction.png; labels are indices into `words`, negative where ignored."""
    for kind, labels in (("truth", truth), ("prediction", found)):
        shown = [int(category) for category in np.unique(labels) if category >= 0]
        index = np.full(len(words) + 1, -1)  # the last place serves the ignored pixels
        index[shown] = range(len(shown))
        drawn = overlay(
            picture, index[labels], [words[category] for category in shown], beside=True
        )
        write_whole(stem.with_name(f"{stem.name}_{kind}.png"), partial(drawn.save, format="PNG"))
