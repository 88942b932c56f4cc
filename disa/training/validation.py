"""How good a model is on the way: (source, model) -> numbers by the evaluators of `disa evaluate`, shared by processes.

Signature: (Source, settings) -> Evaluation; called with a whole model, it returns what goes into log and terminal.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from disa.data.dataset import Dataset
from disa.errors import DisaError
from disa.evaluation.benchmark import Watch, measure
from disa.evaluation.numbers import numbers
from disa.evaluation.picturebook import evaluate
from disa.evaluation.predictor import Predictor, Settings
from disa.evaluation.resume import Run, State
from disa.inference.segmenter import Segmenter
from disa.inference.text import TextEncoder
from disa.model.disa import Disa
from disa.picturebook import WORDS
from disa.running.files import prepare_folder
from disa.training.engine import Engine
from disa.training.samples import PICTUREBOOK, Source
from disa.training.settings import TrainConfig

PROTOCOL = (
    "whole"  # one view: a fifth of the time of the published protocol, which `disa evaluate` has
)


class Measured(NamedTuple):
    """What an evaluation found: percent, a line for people, numbers for the log."""

    miou: float | None
    line: str
    record: dict[str, Any]


class Evaluation:
    """What a run is measured on while it goes on; counts are kept in a folder, so an interruption loses little."""

    def __init__(self, source: Source, settings: TrainConfig, engine: Engine, folder: Path) -> None:
        """Open the images; counts go into `folder`.

        Raises `DisaError` if there are no images although the settings ask for evaluations on the way.
        """
        self.source, self.settings, self.engine, self.folder = source, settings, engine, folder
        self.dataset: Dataset | None = None
        self.reason = "evaluate_images=0" if settings.evaluate_images == 0 else ""
        if source.validation is not None and not self.reason:
            try:
                self.dataset = source.validation()
            except DisaError as error:
                if settings.evaluate_every:
                    said = f"evaluate_every={settings.evaluate_every}: there is no split val to measure on ({error})"
                    raise DisaError(f"{said}; add it, or set evaluate_every=0") from None
                self.reason = f"there is no split val ({error})"

    @property
    def images(self) -> int:
        """How many images, or scenes, an evaluation has."""
        wanted = self.settings.evaluate_images
        return wanted if self.dataset is None else min(wanted, len(self.dataset.ids))

    def __call__(
        self,
        step: int,
        model: Disa,
        words: TextEncoder,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Measured | None:
        """Measure; None if it was interrupted. Every process must call it, with the same model."""
        if self.dataset is None:
            return self._picturebook(model, words, interrupted)
        return self._dataset(step, model, words, interrupted)

    def _picturebook(
        self, model: Disa, words: TextEncoder, interrupted: Callable[[], bool]
    ) -> Measured | None:
        assert self.source is PICTUREBOOK
        size, scenes = model.config.backbone_image_size, self.images

        def progress(done: int) -> None:
            if interrupted():
                raise _Left

        found: dict[str, Any] | None = {"miou": None, "groups": {}}
        if self.engine.writes:
            try:
                found = evaluate(model, words(WORDS), scenes=scenes, size=size, progress=progress)
            except _Left:
                found = None
        if any(self.engine.processes.gathered(found is None)):  # all of them leave, or none
            return None
        assert found is not None
        groups = "  ".join(
            f"{name.replace('_', ' ')} {_percent(value)}" for name, value in found["groups"].items()
        )
        record = {"images": scenes} | {
            name: found.get(name) for name in ("miou", "groups", "itm_auc")
        }
        return Measured(found["miou"], f"mIoU {_percent(found['miou'])}  {groups}", record)

    def _dataset(
        self, step: int, model: Disa, words: TextEncoder, interrupted: Callable[[], bool]
    ) -> Measured | None:
        assert self.dataset is not None
        dataset, images = self.dataset, self.images
        folder = self.folder / f"step-{step}-images-{images}"
        segmenter = Segmenter(model, words.tokenizer, self.engine.device)
        predict = Predictor(
            lambda: segmenter, dataset.vocabulary, Settings(protocol=PROTOCOL, limit=images)
        )
        run = Run(
            {"step": step, "images": images},
            images,
            len(dataset.vocabulary.categories),
            dataset.ignored,
        )
        if self.engine.writes:
            for path in self.folder.glob("step-*"):
                if path != folder:  # of another step: it is over
                    shutil.rmtree(path, ignore_errors=True)
            prepare_folder(folder)
        self.engine.wait()
        watch = Watch(interrupted=interrupted)
        counted = measure(
            dataset,
            predict,
            State(folder, run),
            processes=self.engine.processes,
            less_memory="set evaluate_images=0 and measure the model afterwards (disa evaluate --help)",
            watch=watch,
        )
        if counted is None:
            return None
        found = numbers(counted.tally, dataset.vocabulary.categories)
        record = {
            name: found[name] for name in ("miou", "pixel_accuracy", "boundary_iou", "images")
        }
        whole = "" if images == len(dataset.ids) else f" of {len(dataset.ids)}"
        line = f"mIoU {_percent(found['miou'])}  pixel accuracy {_percent(found['pixel_accuracy'])}"
        return Measured(
            found["miou"], f"{line}  ({images}{whole} images of {dataset.name}, one view)", record
        )


class _Left(Exception):
    """Somebody wants to stop, in the middle of an evaluation."""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
