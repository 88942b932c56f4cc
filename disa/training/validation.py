"""The evaluations on the way of a run, by the evaluator of `disa evaluate`."""

from typing import Any

from disa.data.dataset import Dataset
from disa.data.drawn import PICTUREBOOK
from disa.errors import DisaError
from disa.evaluation.drawn_world import group_numbers
from disa.evaluation.network_probe import probe
from disa.evaluation.predictions import PredictionFolder, Predictor, predict
from disa.evaluation.score import Scores, numbers, percent_text, score
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter
from disa.running.drafts import remove_folder
from disa.running.interruption import Interruption
from disa.training.learner import Learner
from disa.training.run_folder import RunFolder
from disa.training.run_log import RunLog, read_log

# One view: a fifth of the time of the published protocol, which `disa evaluate` has (D88).
PROTOCOL = Protocol("whole")
LESS_MEMORY = "set evaluate_images=0 and measure the model afterwards (disa evaluate --help)"


class Evaluation:
    """What a run is measured on, and how; label maps on disk make an interruption cheap."""

    def __init__(self, learner: Learner, folder: RunFolder) -> None:
        """Open the images.

        Raises `DisaError` if there are none although the settings ask for evaluations on the way.
        """
        self.learner = learner
        self.folder = folder
        self.dataset: Dataset | None = None
        self.images = 0
        self.reason = ""  # why nothing is measured
        settings = learner.settings
        if settings.evaluate_images == 0:
            self.reason = "evaluate_images=0"
            return
        try:
            size = learner.config.backbone_image_size
            self.dataset = learner.data.validation(settings.evaluate_images, size)
        except DisaError as error:
            self.reason = f"there is no split val ({error})"
            if settings.evaluate_every:
                raise DisaError(
                    f"evaluate_every={settings.evaluate_every}: {self.reason}; add it, or set "
                    "evaluate_every=0"
                ) from None
        else:
            self.images = min(settings.evaluate_images, len(self.dataset.ids))

    def is_due(self, done: int) -> bool:
        """Whether the settings ask for an evaluation after `done` steps."""
        settings = self.learner.settings
        if self.dataset is None:
            return False
        every = settings.evaluate_every
        return done == settings.steps or (every > 0 and done % every == 0)

    def __call__(self, done: int, log: RunLog, interruption: Interruption) -> bool:
        """Measure the model after `done` steps, unless the log has it; False if interrupted.

        Every process must call it, with the same weights.
        """
        if self._is_logged(done):
            return True
        engine = self.learner.engine
        dataset = self.dataset
        assert dataset is not None
        predictions = self._predictions(done, dataset)

        # Every process predicts its share of the images; the first one counts all of them.
        model, encoder = self.learner.finished()
        segmenter = Segmenter(model, encoder.tokenizer, engine.device)
        predictor = Predictor(lambda: segmenter, dataset.vocabulary, PROTOCOL)
        finished = predict(
            predictions,
            predictor,
            processes=engine.processes,
            interrupted=lambda: interruption.asked,
            less_memory=LESS_MEMORY,
        )
        if not finished:
            log.say(
                f"stopped in the evaluation after step {done}; run the same command again to "
                "continue"
            )
            return False

        if engine.writes:
            scores = score(predictions.path, dataset, predictions.ids)
            line, record = self._measured(scores, segmenter, dataset)
            log.say(f"step {done}: {line}")
            miou = record["miou"]
            if self.folder.is_best(miou, self.images):
                self.learner.export(self.folder.best, model)
                self.folder.keep_best(done, miou, self.images)
                log.say(f"step {done}: the best so far; it is in {self.folder.best}")
            # The last thing to write: with it, a resumed run takes the evaluation for done.
            log.write({"step": done - 1, "evaluation": record})
        engine.wait()
        return True

    def _is_logged(self, done: int) -> bool:
        """Whether the log has the evaluation on as many images after `done` steps."""
        return any(
            record["step"] == done - 1 and record["evaluation"]["images"] == self.images
            for record in read_log(self.folder.log)
            if "evaluation" in record
        )

    def _predictions(self, done: int, dataset: Dataset) -> PredictionFolder:
        """Open the folder of this evaluation's label maps, and remove those of other steps."""
        path = self.folder.evaluation / f"step-{done}-images-{self.images}"
        predictions = PredictionFolder(path, dataset, self.images)
        # Maps of an older step, or on other images, belong to an evaluation that is over.
        engine = self.learner.engine
        if engine.writes:
            for other in self.folder.evaluation.glob("step-*"):
                if other != path:
                    remove_folder(other)
            predictions.open({"step": done})
        engine.wait()
        return predictions

    def _measured(
        self, scores: Scores, segmenter: Segmenter, dataset: Dataset
    ) -> tuple[str, dict[str, Any]]:
        """Return a line for people and numbers for the log, mIoU in percent among them."""
        # Picturebook alone has nouns without masks in training, which count as a group.
        images = len(scores.images)
        if dataset.name == PICTUREBOOK:
            result = group_numbers(scores, probe(segmenter, dataset, images))
            groups = "  ".join(
                f"{name.replace('_', ' ')} {percent_text(value, 1)}"
                for name, value in result["groups"].items()
            )
            line = f"mIoU {percent_text(result['miou'], 1)}  {groups}"
            logged = ("miou", "groups", "itm_auc")
        else:
            result = numbers(scores, dataset.vocabulary.categories)
            of_all = "" if images == len(dataset.ids) else f" of {len(dataset.ids)}"
            line = (
                f"mIoU {percent_text(result['miou'], 1)}  "
                f"pixel accuracy {percent_text(result['pixel_accuracy'], 1)}  "
                f"({images}{of_all} images of {dataset.name}, one view)"
            )
            logged = ("miou", "pixel_accuracy", "boundary_iou")
        return line, {name: result[name] for name in logged} | {"images": images}
