"""The training loop of segmentation: from CLIP's weights and a source of samples to a model folder.

Signature: (ModelConfig, TrainConfig, Source, run folder) -> run folder/model, loadable by `disa.load`.
"""

import time
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError, memory_errors_as
from disa.model.count import parameters
from disa.running.interruption import Interruption
from disa.training.checkpoint import Checkpoint, checkpoints, read_checkpoint, write_checkpoint
from disa.training.engine import Engine, open_engine
from disa.training.learner import Learner
from disa.training.run_folder import RunFolder
from disa.training.run_log import RunLog
from disa.training.samples import PICTUREBOOK, Source
from disa.training.scenes import WORKER_DIED, training_batches, worker_died
from disa.training.settings import TrainConfig
from disa.training.validation import Evaluation


def train(
    config: ModelConfig,
    settings: TrainConfig,
    out: Path,
    clip: Path | None = None,
    init: Path | None = None,
    *,
    source: Source = PICTUREBOOK,
    resume: bool = False,
    device: str = "cpu",
    console: Console | None = None,
) -> Path | None:
    """Train on `source` and return `out/model`, or None after an interruption, which leaves a checkpoint.

    `out` becomes a run folder (`run_folder.py` says what is in it). `clip` is a CLIP in any form that
    `clip_files.load_clip` reads, or `start.RANDOM`: it decides the backbone (`config.backbone_clip`) and the tokenizer.
    `init` is a model folder to continue from instead. With `resume`, a run that was interrupted in `out` goes on where
    its last checkpoint left it. Started by torchrun or `accelerate launch`, several processes share each batch.

    Raises `DisaError` for unusable folders or masks, contradicting settings, too little memory, a full disk and a loss
    that is not a number.
    """
    with (
        open_engine(settings, device) as engine,
        memory_errors_as(f"{engine.device}: out of memory; {LESS_MEMORY}"),
    ):
        try:
            training = _Training(config, settings, out, clip, init, source, engine, console)
            with training.folder.held() if engine.writes else nullcontext():
                return training.run(resume)
        except RuntimeError as error:
            if worker_died(error):
                raise DisaError(WORKER_DIED) from error
            raise


# What to change when a step does not fit into memory.
LESS_MEMORY = "set micro_batch=1 (the same batch in parts), recompute=true, or categories to fewer than there are"


class _Training:
    """One run on one process."""

    def __init__(
        self,
        config: ModelConfig,
        settings: TrainConfig,
        out: Path,
        clip: Path | None,
        init: Path | None,
        source: Source,
        engine: Engine,
        console: Console | None,
    ) -> None:
        self.settings, self.source, self.engine = settings, source, engine
        self.console = console or Console(stderr=True, quiet=not engine.writes)
        torch.manual_seed(settings.seed)
        self.learner = Learner(config, settings, clip, init, engine, source)
        self.size = settings.image_size or self.learner.config.backbone_image_size
        self.folder = RunFolder(out)
        self.evaluation = Evaluation(source, settings, engine, self.folder.evaluation)
        self.samples = source.samples(settings, self.size)

    def run(self, resume: bool) -> Path | None:
        """Do what is left of the run."""
        settings, engine, folder = self.settings, self.engine, self.folder
        start, self.earlier = self._begin(resume)
        if engine.writes:
            folder.clear(start)
            if not start:
                self.source.check(self.console, settings.evaluate_images)
        engine.wait()  # nobody trains on what may be refused
        if engine.writes:
            folder.describe(self.learner.state(start, self.earlier), engine.processes.count)
        where = folder.log if engine.writes else None
        log = RunLog(where, settings.steps, start, settings.log_every, self.console)
        batches = training_batches(
            self.samples, settings, start, engine.processes.rank, engine.processes.count
        )
        self.begun = time.monotonic()
        with Interruption() as interruption, log, closing(batches):
            self._announce(log)
            if start and not self._evaluate(start, log, interruption):
                return None
            for step, (pixels, target) in enumerate(batches, start):
                try:
                    numbers = self.learner.step(step, pixels, target)
                except FloatingPointError as error:
                    raise self._keep_failure(step, pixels, target, error) from None
                log.step(step, numbers)
                done = step + 1
                asked = bool(
                    engine.summed(torch.tensor(int(interruption.asked), device=engine.device))
                )
                if (
                    asked
                    or done == settings.steps
                    or self._is_due(done)
                    or done % settings.checkpoint_every == 0
                ):
                    self._save(done)
                if asked and done < settings.steps:
                    log.say(f"stopped after step {done}; the same command goes on from there")
                    return None
                if not self._evaluate(done, log, interruption):
                    return None
            model, _ = self.learner.finished()
            if engine.writes:
                self.learner.export(folder.model, model)
            engine.wait()
        return folder.model

    def _begin(self, resume: bool) -> tuple[int, float]:
        """Return the step to start at and the seconds trained before it; refuse to write over another run."""
        found = checkpoints(self.folder.checkpoints)
        if len(set(self.engine.processes.gathered(found[-1].name if found else ""))) > 1:
            raise DisaError(
                f"{self.folder.path}: is not the same folder for all processes; choose an --out that all see"
            )
        if not found:
            return 0, 0.0
        if not resume:
            raise DisaError(
                f"{self.folder.path}: holds a run already; add --resume to go on with it, or choose another --out"
            )
        checkpoint = read_checkpoint(found[-1])
        return self.learner.restore(checkpoint, found[-1]), float(checkpoint.state["seconds"])

    def _announce(self, log: RunLog) -> None:
        """Say what is trained and, if nothing measures it on the way, why."""
        learner = self.learner
        labels = len(self.source.labels)
        per_step = min(self.settings.categories or labels, labels)
        trained = sum(parameter.numel() for parameter in learner.trained.values())
        total = parameters(learner.model)["total"]
        log.say(
            f"{self.source.name}: {per_step} of {labels} labels a step; {total / 1e6:.1f} M "
            f"parameters, {trained / 1e6:.1f} M of them train"
        )
        if self.evaluation.reason and self.settings.evaluate_images:
            log.say(f"not measured on the way: {self.evaluation.reason}")

    def _save(self, done: int) -> None:
        seconds = self.earlier + time.monotonic() - self.begun
        checkpoint = Checkpoint(self.learner.tensors(), self.learner.state(done, seconds))
        if self.engine.writes:
            write_checkpoint(self.folder.checkpoints, checkpoint, self.settings.checkpoints)
        self.engine.wait()

    def _is_due(self, done: int) -> bool:
        every = self.settings.evaluate_every
        return not self.evaluation.reason and (
            done == self.settings.steps or (every > 0 and done % every == 0)
        )

    def _evaluate(self, done: int, log: RunLog, interruption: Interruption) -> bool:
        """Measure if it is due and not done yet, and keep the model if it is the best; False if it was interrupted."""
        if not self._is_due(done) or self.folder.is_evaluated(done, self.evaluation.images):
            return True
        model, words = self.learner.finished()
        found = self.evaluation(done, model, words, lambda: interruption.asked)
        if found is None:
            log.say(
                f"stopped in the evaluation after step {done}; the same command goes on from there"
            )
            return False
        log.say(f"step {done}: {found.line}")
        if self.engine.writes and self.folder.is_best(found.miou, self.evaluation.images):
            self.learner.export(self.folder.best, model)
            self.folder.keep_best(done, found.miou, self.evaluation.images)
            log.say(f"step {done}: the best so far; it is in {self.folder.best}")
        log.write(
            {"step": done - 1, "evaluation": found.record}
        )  # last: a resumed run takes it for done
        self.engine.wait()
        return True

    def _keep_failure(
        self, step: int, pixels: Tensor, target: Tensor, error: Exception
    ) -> DisaError:
        path = (
            self.folder.path
            / f"failed-step-{step:08d}-process-{self.engine.processes.rank}.safetensors"
        )
        kept = f"its batch is in {path}"
        try:
            save_file({"pixels": pixels, "target": target}, path)
        except (OSError, SafetensorError) as refused:
            kept = f"its batch could not be kept ({refused})"
        return DisaError(f"step {step}: {error}; {kept}; train with a lower lr into another --out")
