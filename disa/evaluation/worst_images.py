"""The images that a model is worst at, as pictures: truth and prediction side by side."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disa.data.dataset import Dataset
from disa.data.images import Pixels
from disa.evaluation.predictions import PredictionFolder
from disa.evaluation.score import Scores, read_label_map
from disa.inference.overlay import overlay
from disa.running.files import write_whole

COUNT = 20


def save_worst(out: Path, folder: PredictionFolder, scores: Scores) -> None:
    """Write RANK_ID_truth.png and RANK_ID_prediction.png of the worst images, the worst first."""
    dataset = folder.dataset
    for rank, name in enumerate(scores.worst(COUNT), start=1):
        index = folder.ids.index(name)
        picture = dataset.image(index)
        labels = dataset.labels(index)
        truth = np.where(labels == dataset.ignored, -1, labels.astype(np.int32))
        stem = out / f"{rank:02d}_{name}"
        _save(Path(f"{stem}_truth.png"), picture, truth, dataset)
        prediction = read_label_map(folder.file(name)).numpy()
        _save(Path(f"{stem}_prediction.png"), picture, prediction, dataset)


def _save(path: Path, picture: Pixels, labels: NDArray[Any], dataset: Dataset) -> None:
    """Draw a label map; negative values are not drawn."""
    shown = [int(category) for category in np.unique(labels) if category >= 0]
    # The legend names the categories that the map holds: number them anew.
    index = np.full(len(dataset.vocabulary.categories) + 1, -1)  # the last place serves -1
    index[shown] = range(len(shown))
    names = [dataset.vocabulary.categories[category].name for category in shown]
    drawn = overlay(picture, index[labels], names, beside=True)
    write_whole(path, partial(drawn.save, format="PNG"))
