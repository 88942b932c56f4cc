"""The training loop of segmentation: from CLIP's weights and data to a model folder."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from disa.config import ModelConfig
from disa.errors import DisaError, memory_errors_as
from disa.model.count import parameters
from disa.running.interruption import Interruption
from disa.training.batches import Batch, training_batches
from disa.training.checkpoint import write_checkpoint
from disa.training.engine import Engine, open_engine
from disa.training.initial_weights import InitialWeights
from disa.training.learner import Learner
from disa.training.run_folder import RunFolder
from disa.training.run_log import RunLog, open_log
from disa.training.settings import TrainConfig, plain_data
from disa.training.training_data import TrainingData
from disa.training.validation import Evaluation

# What to change when a step does not fit into memory.
LESS_MEMORY = (
    "use --micro-batch 1 (the same batch in parts), --recompute, or --categories with fewer labels "
    "than there are"
)


def train(
    config: ModelConfig,
    settings: TrainConfig,
    weights: InitialWeights,
    data: TrainingData,
    folder: RunFolder,
    resume: bool = True,
    device: str = "auto",
) -> Path | None:
    """Train and return `folder.model`; None after an interruption, which leaves a checkpoint.

    A run that is already in `folder` continues at its last checkpoint, unless `resume` is False.
    Where torchrun has started several processes, they share each batch. Raises `DisaError` for
    unusable folders or masks, contradicting settings, data or weights that changed since the run
    began, too little memory, a full disk, and a loss that is not finite.
    """
    torch.manual_seed(settings.seed)
    with (
        open_engine(settings, device) as engine,
        memory_errors_as(f"{engine.device}: out of memory; {LESS_MEMORY}"),
    ):
        # In a function of its own, so that the copies of the network are gone before the processes
        # part: freed afterwards, they may wait for each other forever.
        return _train(Learner(config, settings, weights, engine, data), folder, resume)


def _train(learner: Learner, folder: RunFolder, resume: bool) -> Path | None:
    training = _Training(learner, folder)
    with folder.held() if learner.engine.writes else nullcontext():
        return training.run(resume)


class _Training:
    """One run in one process."""

    def __init__(self, learner: Learner, folder: RunFolder) -> None:
        self.learner = learner
        self.folder = folder
        self.engine: Engine = learner.engine
        self.settings = learner.settings
        self.data = learner.data
        size = learner.config.backbone_image_size
        self.samples = self.data.samples(self.settings, size)
        self.evaluation = Evaluation(self.data, self.settings, size, self.engine, folder.evaluation)
        self.identity: dict[str, Any] = {}
        self.start = 0
        self.seconds = 0.0  # of training before this start

    def run(self, resume: bool) -> Path | None:
        """Do what is left of the run."""
        engine = self.engine
        settings = self.settings
        self._begin(resume)
        log_file = self.folder.log if engine.writes else None
        with (
            Interruption() as interruption,
            open_log(log_file, settings.steps, self.start, settings.log_every) as log,
            training_batches(self.samples, settings, self.start, engine.processes) as batches,
        ):
            self._announce(log)
            self.begun = time.monotonic()
            # A run may have been interrupted in the evaluation after its last step.
            if self.start and not self._evaluate(self.start, log, interruption):
                return None

            for step, batch in enumerate(batches, self.start):
                try:
                    numbers = self.learner.step(step, batch)
                except FloatingPointError as error:
                    raise self._keep_failure(step, batch, error) from None
                log.step(step, numbers)

                # Processes leave together: a signal may have reached only one of them.
                done = step + 1
                leaves = engine.any(interruption.asked)
                is_last = done == settings.steps
                is_due = done % settings.checkpoint_every == 0
                if leaves or is_last or is_due or self._evaluation_is_due(done):
                    self._save(done)
                if leaves and not is_last:
                    log.say(f"stopped after step {done}; run the same command again to continue")
                    return None
                if not self._evaluate(done, log, interruption):
                    return None

            model, _ = self.learner.finished()
            if engine.writes:
                self.learner.export(self.folder.model, model)
            engine.wait()
        return self.folder.model

    def _begin(self, resume: bool) -> None:
        """Go back to the last checkpoint, if there is one, and describe this start."""
        path = self.folder.last_checkpoint()
        names = self.engine.processes.gathered(path.name if path else "")
        if len(set(names)) > 1:
            raise DisaError(
                f"{self.folder.path}: is not the same folder for all processes; choose an --out "
                "that all of them see"
            )
        # Only the first process reads the data's content, which may take a while.
        if self.engine.writes:
            self.identity = self.learner.identity()
        checkpoint = self.folder.checkpoint_to_continue(self.identity, resume)
        if checkpoint is not None:
            self.learner.restore(checkpoint)
            self.start = checkpoint.state["step"]
            self.seconds = checkpoint.state["seconds"]
        # Masks were checked at the first start, and are known to be unchanged.
        if self.engine.writes:
            if not self.start:
                self.data.check(self.settings.evaluate_images)
            facts = self.identity | {"training": plain_data(self.settings)}
            self.folder.begin(facts, self.start, self.engine.processes.count)
        self.engine.wait()  # no process trains on what another one may refuse

    def _announce(self, log: RunLog) -> None:
        """Say what is trained and, if nothing is measured on the way, why."""
        learner = self.learner
        labels = len(self.data.labels)
        per_step = min(self.settings.categories or labels, labels)
        trained = sum(parameter.numel() for parameter in learner.trained.values())
        total = parameters(learner.model)["total"]
        log.say(
            f"{self.data.name}: {per_step} of {labels} labels a step; {total / 1e6:.1f} M "
            f"parameters, {trained / 1e6:.1f} M of them train"
        )
        if self.start == self.settings.steps:
            log.say(f"all {self.start} steps were done before: there is nothing left to train")
        if self.evaluation.reason and self.settings.evaluate_images:
            log.say(f"not measured on the way: {self.evaluation.reason}")

    def _save(self, done: int) -> None:
        seconds = self.seconds + time.monotonic() - self.begun
        if self.engine.writes:
            checkpoint = self.learner.checkpoint(self.identity, done, seconds)
            write_checkpoint(self.folder.checkpoints, checkpoint, self.settings.checkpoints)
        self.engine.wait()

    def _evaluation_is_due(self, done: int) -> bool:
        if self.evaluation.reason:
            return False
        every = self.settings.evaluate_every
        return done == self.settings.steps or (every > 0 and done % every == 0)

    def _evaluate(self, done: int, log: RunLog, interruption: Interruption) -> bool:
        """Measure, if it is due and not done yet, and keep the best model; False if interrupted."""
        images = self.evaluation.images
        if not self._evaluation_is_due(done) or self.folder.is_evaluated(done, images):
            return True
        model, encoder = self.learner.finished()
        measured = self.evaluation(done, model, encoder, lambda: interruption.asked)
        if measured is None:
            log.say(
                f"stopped in the evaluation after step {done}; run the same command again to "
                "continue"
            )
            return False
        log.say(f"step {done}: {measured.line}")
        if self.engine.writes and self.folder.is_best(measured.miou, images):
            self.learner.export(self.folder.best, model)
            self.folder.keep_best(done, measured.miou, images)
            log.say(f"step {done}: the best so far; it is in {self.folder.best}")
        # The last thing to write: with it, a resumed run takes the evaluation for done.
        log.write({"step": done - 1, "evaluation": measured.record})
        self.engine.wait()
        return True

    def _keep_failure(self, step: int, batch: Batch, error: FloatingPointError) -> DisaError:
        name = f"failed-step-{step:08d}-process-{self.engine.processes.rank}.safetensors"
        path = self.folder.path / name
        pixels, target = batch
        outcome = f"its batch is in {path}"
        try:
            save_file({"pixels": pixels, "target": target}, path)
        except (OSError, SafetensorError) as refusal:
            outcome = f"its batch could not be saved ({refusal})"
        return DisaError(
            f"step {step}: {error}; {outcome}; train with a lower lr into another --out"
        )
