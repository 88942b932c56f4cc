"""`disa evaluate`: a benchmark's name and a model -> a table, a JSON file, the worst scenes as pictures."""

from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from disa.data.picturebook import WORDS
from disa.errors import DisaError
from disa.evaluation.picturebook import Failure, evaluate
from disa.evaluation.report import table, write_report
from disa.files import prepare_folder, write_whole
from disa.inference.bundle import load
from disa.inference.catalogue import model_folder
from disa.inference.render import overlay
from disa.model.dense import DenseClip

DATASETS = ("picturebook",)


def run(
    dataset: str,
    model: str,
    *,
    json: Path | None,
    limit: int,
    device: str,
    save_worst: Path | None,
    dense_clip: bool = False,
) -> None:
    """Measure a model on the first `limit` test scenes; `dense_clip`: its CLIP alone, without the head.

    `save_worst` receives the 20 worst scenes, truth and prediction. Raises `DisaError`; what can be refused is refused
    before the model is loaded.
    """
    if dataset not in DATASETS:
        raise DisaError(f'unknown data set "{dataset}"; use {", ".join(DATASETS)}')
    folder = model_folder(model)
    for place in (save_worst, None if json is None else json.parent):
        if place is not None:
            prepare_folder(place)
    segmenter = load(model, device)
    measured = DenseClip(segmenter.model.backbone, segmenter.model.config).eval() if dense_clip else segmenter.model
    size = segmenter.model.config.backbone_image_size
    worst: list[Failure] | None = None if save_worst is None else []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scenes", total=limit)
        numbers = evaluate(
            measured, segmenter.text(WORDS), scenes=limit, size=size, worst=worst,
            progress=lambda done: progress.update(task, completed=done),
        )  # fmt: skip
    name = f"{model}, CLIP alone" if dense_clip else model
    if json is not None:
        write_report(json, {"dataset": dataset, "dense_clip": dense_clip} | numbers, model, folder)
    if save_worst is not None:
        for rank, failure in enumerate(worst or [], start=1):
            _save(failure, save_worst / f"{rank:02d}_scene{failure.number:05d}")
    Console().print(table(numbers, f"{dataset}: {name}"))


def _save(failure: Failure, stem: Path) -> None:
    for kind, labels in (("truth", failure.scene.labels), ("prediction", failure.labels)):
        shown, index = np.unique(labels, return_inverse=True)
        words = [WORDS[category] for category in shown]
        drawn = overlay(failure.scene.image, index.reshape(labels.shape), words, beside=True)
        write_whole(stem.with_name(f"{stem.name}_{kind}.png"), partial(drawn.save, format="PNG"))
