"""How good a model is while it trains, by the evaluator of `disa evaluate`."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from disa.data.dataset import Dataset
from disa.data.drawn import PICTUREBOOK
from disa.errors import DisaError
from disa.evaluation.drawn_world import group_numbers
from disa.evaluation.network_probe import probe
from disa.evaluation.predictions import PredictionFolder, Predictor, predict
from disa.evaluation.score import Scores, numbers, score
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter
from disa.inference.text import TextEncoder
from disa.model.disa import Disa
from disa.picturebook import UNSEEN
from disa.training.engine import Engine
from disa.training.settings import TrainConfig
from disa.training.training_data import TrainingData

# One view: a fifth of the time of the published protocol, which `disa evaluate` has (D88).
PROTOCOL = Protocol("whole")
LESS_MEMORY = "set evaluate_images=0 and measure the model afterwards (disa evaluate --help)"


class Measured(NamedTuple):
    """What an evaluation gave: percent, a line for people, numbers for the log."""

    miou: float | None
    line: str
    record: dict[str, Any]


class Evaluation:
    """What a run is measured on; the label maps are on disk, so an interruption loses little."""

    def __init__(
        self, data: TrainingData, settings: TrainConfig, size: int, engine: Engine, folder: Path
    ) -> None:
        """Open the images; label maps go into `folder`. Drawn scenes are `size` pixels a side.

        Raises `DisaError` if there are none although the settings ask for evaluations on the way.
        """
        self.engine = engine
        self.folder = folder
        self.dataset: Dataset | None = None
        self.images = 0
        self.reason = ""  # why nothing is measured
        if settings.evaluate_images == 0:
            self.reason = "evaluate_images=0"
            return
        try:
            self.dataset = data.validation(settings.evaluate_images, size)
        except DisaError as error:
            self.reason = f"there is no split val ({error})"
            if settings.evaluate_every:
                raise DisaError(
                    f"evaluate_every={settings.evaluate_every}: {self.reason}; add it, or set "
                    "evaluate_every=0"
                ) from None
        else:
            self.images = min(settings.evaluate_images, len(self.dataset.ids))

    def __call__(
        self, step: int, model: Disa, encoder: TextEncoder, interrupted: Callable[[], bool]
    ) -> Measured | None:
        """Measure; None if interrupted. Every process must call it, with the same model."""
        dataset = self.dataset
        assert dataset is not None
        maps = self.folder / f"step-{step}-images-{self.images}"
        folder = PredictionFolder(maps, dataset, self.images)
        if self.engine.writes:
            for path in self.folder.glob("step-*"):
                if path != maps:  # of another step: it is over
                    shutil.rmtree(path, ignore_errors=True)
            folder.open({"step": step})
        self.engine.wait()

        # Every process predicts its share of the images; the first one counts all of them.
        segmenter = Segmenter(model, encoder.tokenizer, self.engine.device)
        predictor = Predictor(lambda: segmenter, dataset.vocabulary, PROTOCOL)
        finished = predict(
            folder,
            predictor,
            processes=self.engine.processes,
            interrupted=interrupted,
            less_memory=LESS_MEMORY,
        )
        if not finished:
            return None
        measured = None
        if self.engine.writes:
            scores = score(maps, dataset, folder.ids)
            measured = self._measured(scores, segmenter, dataset)
        return self.engine.processes.gathered(measured)[0]

    def _measured(self, scores: Scores, segmenter: Segmenter, dataset: Dataset) -> Measured:
        images = len(scores.images)
        if dataset.name == PICTUREBOOK:
            result = group_numbers(scores, probe(segmenter, dataset, images, UNSEEN))
            groups = "  ".join(
                f"{name.replace('_', ' ')} {_percent(value)}"
                for name, value in result["groups"].items()
            )
            record = {name: result[name] for name in ("miou", "groups", "itm_auc")}
            line = f"mIoU {_percent(result['miou'])}  {groups}"
            return Measured(result["miou"], line, record | {"images": images})

        result = numbers(scores, dataset.vocabulary.categories)
        record = {name: result[name] for name in ("miou", "pixel_accuracy", "boundary_iou")}
        of_all = "" if images == len(dataset.ids) else f" of {len(dataset.ids)}"
        line = (
            f"mIoU {_percent(result['miou'])}  "
            f"pixel accuracy {_percent(result['pixel_accuracy'])}  "
            f"({images}{of_all} images of {dataset.name}, one view)"
        )
        return Measured(result["miou"], line, record | {"images": images})


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
