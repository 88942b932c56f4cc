"""The loop of training: steps, checkpoints and evaluations, through interruptions."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError, memory_errors_as
from disa.running.interruption import Interruption
from disa.running.records import values
from disa.training.batches import training_batches
from disa.training.engine import open_engine
from disa.training.initial_weights import InitialWeights
from disa.training.learner import Learner
from disa.training.optimizer import Trainee, restore_run, run_tensors
from disa.training.run_folder import Checkpoint, RunFolder, write_checkpoint
from disa.training.run_log import RunLog, open_log
from disa.training.settings import RUNTIME_FIELDS, TrainConfig
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
    engine = learner.engine
    settings = learner.settings
    samples = learner.data.samples(settings, learner.config.backbone_image_size)
    evaluation = Evaluation(learner, folder)
    with folder.held() if engine.writes else nullcontext():
        # Only the first process reads the data's content, which may take a while.
        identity = _identity(learner) if engine.writes else {}
        run = Run(learner, folder, identity, evaluation)
        _begin(run, learner.data, resume)
        log_file = folder.log if engine.writes else None
        with (
            Interruption() as interruption,
            open_log(log_file, settings.steps, run.start, settings.log_every) as log,
            training_batches(samples, settings, run.start, engine.processes) as batches,
        ):
            _announce(learner, run, log)
            if not run.do_steps(batches, log, interruption):
                return None
            model, _ = learner.finished()
            if engine.writes:
                learner.export(folder.model, model)
            engine.wait()
    return folder.model


def _identity(learner: Learner) -> dict[str, Any]:
    """Return what makes a run what it is: a resumed run may change none of it."""
    settings = values(learner.settings)
    return {
        "model": values(learner.config),
        "training": {name: settings[name] for name in settings.keys() - RUNTIME_FIELDS},
        "data": learner.data.facts(),
        "start": learner.weights.facts(learner.tokenizer_file),
    }


def _begin(run: "Run", data: TrainingData, resume: bool) -> None:
    """Go back to the last checkpoint, if there is one, and describe this start."""
    engine = run.trainee.engine
    folder = run.folder
    path = folder.last_checkpoint()
    names = engine.processes.gathered(path.name if path else "")
    if len(set(names)) > 1:
        raise DisaError(
            f"{folder.path}: is not the same folder for all processes; choose an --out that all of "
            "them see"
        )
    run.restore(folder.checkpoint_to_continue(run.identity, resume))
    if engine.writes:
        # Masks were checked at the first start, and are known to be unchanged.
        if run.start == 0:
            data.check(run.trainee.settings.evaluate_images)
        facts = {**run.identity, "training": values(run.trainee.settings)}
        folder.begin(facts, run.start, engine.processes.count)
    engine.wait()  # no process trains on what another one may refuse


def _announce(learner: Learner, run: "Run", log: RunLog) -> None:
    """Say what is trained and, if nothing is measured on the way, why."""
    # `categories` 0 stands for all labels.
    settings = learner.settings
    data = learner.data
    labels = len(data.labels)
    per_step = min(settings.categories or labels, labels)
    trained = sum(parameter.numel() for parameter in learner.trained.values())
    total = sum(parameter.numel() for parameter in learner.model.parameters())
    log.say(
        f"{data.name}: {per_step} of {labels} labels a step; {total / 1e6:.1f} M parameters, "
        f"{trained / 1e6:.1f} M of them train"
    )
    if run.start == settings.steps:
        log.say(f"all {run.start} steps were done before: there is nothing left to train")
    if run.evaluation and run.evaluation.reason and settings.evaluate_images:
        log.say(f"not measured on the way: {run.evaluation.reason}")


@dataclass
class Run:
    """The steps of a run in one process, with their checkpoints and evaluations."""

    trainee: Trainee
    folder: RunFolder
    identity: Mapping[str, Any]  # its checkpoints say it
    evaluation: Evaluation | None = None
    start: int = 0  # the first step

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Go back to a checkpoint, if there is one. Raises `DisaError` if it does not fit."""
        if checkpoint is not None:
            trainee = self.trainee
            restore_run(checkpoint.tensors, trainee.model, trainee.adam, trainee.averages)
            trainee.engine.scale = checkpoint.state.get("scale")
            self.start = checkpoint.state["step"]

    def do_steps(self, batches: Iterable[Any], log: RunLog, interruption: Interruption) -> bool:
        """Do the steps that are left, each on a named tuple; False after an interruption.

        Raises `DisaError` for a full disk, and for a loss that is not finite.
        """
        trainee = self.trainee
        settings = trainee.settings
        # A run may have been interrupted in the evaluation after its last step.
        if self.start and not self._evaluate(self.start, log, interruption):
            return False

        for step, batch in enumerate(batches, self.start):
            try:
                numbers = trainee.step(step, batch)
            except FloatingPointError as error:
                raise self._keep_failure(step, batch, error) from None
            log.step(step, numbers)

            # Processes leave together: a signal may have reached only one of them.
            done = step + 1
            leaves = trainee.engine.any(interruption.asked)

            # An evaluation may take long or be interrupted: the steps before it are saved first.
            is_last = done == settings.steps
            is_due = done % settings.checkpoint_every == 0
            is_measured = self.evaluation is not None and self.evaluation.is_due(done)
            if leaves or is_last or is_due or is_measured:
                self._save(done)
            if leaves and not is_last:
                log.say(f"stopped after step {done}; run the same command again to continue")
                return False
            if not self._evaluate(done, log, interruption):
                return False
        return True

    def _save(self, done: int) -> None:
        trainee = self.trainee
        if trainee.engine.writes:
            state = {"step": done, "scale": trainee.engine.scale, **self.identity}
            tensors = run_tensors(trainee.model, trainee.adam, trainee.averages)
            checkpoint = Checkpoint(tensors, state)
            write_checkpoint(self.folder.checkpoints, checkpoint, trainee.settings.checkpoints)
        trainee.engine.wait()

    def _evaluate(self, done: int, log: RunLog, interruption: Interruption) -> bool:
        """Measure, if it is due and not done yet; False if interrupted."""
        if self.evaluation is None or not self.evaluation.is_due(done):
            return True
        return self.evaluation(done, log, interruption)

    def _keep_failure(self, step: int, batch: Any, error: FloatingPointError) -> DisaError:
        """Save the batch of a failed step, and return the error that names its file."""
        # Each process has another part of the batch, and any of them may be the cause.
        rank = self.trainee.engine.processes.rank
        name = f"failed-step-{step:08d}-process-{rank}.safetensors"
        path = self.folder.path / name
        outcome = f"its batch is in {path}"
        parts = batch._asdict().items()
        tensors = {name: part.contiguous() for name, part in parts if isinstance(part, Tensor)}
        try:
            save_file(tensors, path)
        except (OSError, SafetensorError) as refusal:
            outcome = f"its batch could not be saved ({refusal})"
        return DisaError(
            f"step {step}: {error}; {outcome}; train with a lower lr into another --out"
        )
