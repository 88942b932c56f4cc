"""The training loop of segmentation: from CLIP's weights and a source of samples to a model folder.

Signature: (ModelConfig, TrainConfig, Source, run folder) -> run folder/model, loadable by `disa.load`.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from disa.config import ModelConfig
from disa.data.picturebook import WORDS
from disa.errors import DisaError
from disa.evaluation.picturebook import evaluate
from disa.files import prepare_folder
from disa.model.losses import segmentation_loss
from disa.training.checkpoint import (
    Checkpoint,
    checkpoints,
    read_checkpoint,
    restore_run,
    run_tensors,
    write_checkpoint,
)
from disa.training.interruption import Interruption
from disa.training.optimizer import optimizer, set_learning_rate
from disa.training.progress import RunLog
from disa.training.samples import PICTUREBOOK, Source
from disa.training.scenes import choose_labels, relabel, step_generator, training_batches
from disa.training.settings import TrainConfig, bf16_warning
from disa.training.start import copy_tokenizer, start_model


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

    `out` also gets log.jsonl and the last two checkpoints.
    `clip` is a CLIP folder in transformers' format: it decides the backbone (`config.backbone_clip`) and the
    tokenizer. `init` is a model folder to continue from instead. With `resume`, a run that was interrupted in `out`
    goes on where its last checkpoint left it. Raises `DisaError` for unusable folders or masks, contradicting settings,
    a full disk and a loss that is not a number.
    """
    torch.manual_seed(settings.seed)
    run = Run(config, settings, clip, init, torch.device(device), source)
    start, earlier = _begin(run, out, resume)
    if not start:
        source.check(console)
    size = settings.image_size or run.config.backbone_image_size
    begun, done = time.monotonic(), start
    log = RunLog(out / "log.jsonl", settings.steps, start, settings.log_every, console)
    batches = training_batches(source.samples(settings, size), settings, start)
    with Interruption() as interruption, log, closing(batches):
        if warning := bf16_warning(settings.bf16, device):
            log.say(warning)
        for step, (pixels, target) in enumerate(batches, start):
            try:
                numbers = run.step(step, pixels, target)
            except FloatingPointError as error:
                raise _keep_failure(out, step, pixels, target, error) from None
            log.step(step, numbers)
            done, last = step + 1, step + 1 == settings.steps
            if settings.evaluate_every and done % settings.evaluate_every == 0 and not last:
                run.evaluate(log, done)
            if interruption.asked or last or done % settings.checkpoint_every == 0:
                seconds = earlier + time.monotonic() - begun
                write_checkpoint(out / "checkpoints", Checkpoint(run.tensors(), run.state(done, seconds)))
            if interruption.asked and not last:
                log.say(f"stopped after step {done}; the same command goes on from there")
                return None
        run.export(out / "model")
        run.evaluate(log, done)
    return out / "model"


def _begin(run: "Run", out: Path, resume: bool) -> tuple[int, float]:
    """Return the step to start at and the seconds trained before it; refuse to write over another run."""
    prepare_folder(out)
    found = checkpoints(out / "checkpoints")
    if not found:
        return 0, 0.0
    if not resume:
        raise DisaError(f"{out}: holds a run already; add --resume to go on with it, or choose another --out")
    checkpoint = read_checkpoint(found[-1])
    return run.restore(checkpoint, found[-1]), float(checkpoint.state["seconds"])


def _keep_failure(out: Path, step: int, pixels: Tensor, target: Tensor, error: Exception) -> DisaError:
    path = out / f"failed-step-{step:08d}.safetensors"
    save_file({"pixels": pixels, "target": target}, path)
    return DisaError(f"step {step}: {error}; its batch is in {path}; train with a lower lr into another --out")


class Run:
    """The moving parts of a run: model, optimizer, averaged weights, prompts."""

    def __init__(
        self,
        config: ModelConfig,
        settings: TrainConfig,
        clip: Path | None,
        init: Path | None,
        device: torch.device,
        source: Source = PICTUREBOOK,
    ) -> None:
        """Build the model, from CLIP's weights or from a whole model's."""
        self.settings, self.device, self.source = settings, device, source
        self.model, self.words, self.tokenizer = start_model(config, clip, init)
        self.config = self.model.config
        self.model.to(device).train()
        self.adam = optimizer(self.model, self.model.parameter_groups(), settings)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.averages = {n: p.detach().clone() for n, p in self.trained.items()} if settings.ema else {}
        templates = settings.templates or self.config.backbone_templates
        ids = self.words.tokenize(source.labels, templates)  # t, templates, l
        used = int(ids.flatten(0, 1).any(0).nonzero().max()) + 1
        self.prompts = ids[..., :used].to(device)  # the tower is causal: padding behind the end changes nothing
        self.text: Tensor | None = None  # of a text tower that does not train

    def step(self, step: int, pixels: Tensor, target: Tensor) -> dict[str, float]:
        """Do one optimizer step and return its losses, learning rate and gradient norm.

        Raises `FloatingPointError` when loss or gradient is not finite; the weights are then still those before.
        """
        chosen = choose_labels(target, step, self.settings, len(self.source.labels))
        target = relabel(target.to(self.device), chosen)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16):
            text = self.embed(step)[chosen]
            prediction = self.model(pixels.to(self.device).float(), text)
        prediction = type(prediction)(*(None if value is None else value.float() for value in prediction))
        losses = segmentation_loss(prediction, target, self.config)
        self.adam.zero_grad(set_to_none=True)
        losses["total"].backward()
        norm = clip_grad_norm_(list(self.trained.values()), self.settings.clip_norm)
        numbers = {name: loss.item() for name, loss in losses.items()}
        numbers = {"loss": numbers.pop("total"), **numbers, "norm": norm.item()}
        if bad := [f"{name} {value}" for name, value in numbers.items() if not torch.tensor(value).isfinite()]:
            raise FloatingPointError(", ".join(bad))
        numbers["lr"] = set_learning_rate(self.adam, step, self.settings)
        self.adam.step()
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(self.trained[name], 1 - self.settings.ema)
        return numbers

    def embed(self, step: int) -> Tensor:
        """Return the text embeddings `t p d` of all labels, with gradient if the text tower trains."""
        if self.text is None or self.text.requires_grad:
            ids = self.prompts
            if self.settings.templates:
                wanted = len(self.config.backbone_templates)
                ids = ids[:, torch.randperm(ids.shape[1], generator=step_generator(step, self.settings))[:wanted]]
            text = self.model.encode_text(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
            if self.settings.templates:
                return text
            self.text = text
        return self.text

    def state(self, done: int, seconds: float) -> dict[str, object]:
        """Return what a checkpoint says of itself."""
        return {
            "step": done,
            "seconds": seconds,
            "model": self.config.to_dict(),
            "training": self.settings.to_dict(),
            "source": self.source.facts,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds."""
        return run_tensors(self.model, self.adam, self.averages)

    def restore(self, checkpoint: Checkpoint, path: Path) -> int:
        """Go back to a checkpoint and return its step. Raises `DisaError` if it is of another run."""
        if ModelConfig.from_dict(checkpoint.state["model"]) != self.config:
            raise DisaError(f"{path}: is of another model configuration; give the same one, or choose another --out")
        if (there := checkpoint.state.get("source", PICTUREBOOK.facts)) != self.source.facts:
            said = f"{there['name']} ({there.get('images', 'drawn')} images)"
            raise DisaError(
                f"{path}: was trained on {said}, as it was then; give the same data, or choose another --out"
            )
        there = checkpoint.state["training"]
        if names := self.settings.conflicts(TrainConfig.from_dict(there)):
            said = ", ".join(f"{name}={there[name]}" for name in names)
            raise DisaError(f"{path}: was made with {said}; give the same settings, or choose another --out")
        restore_run(checkpoint.tensors, self.model, self.adam, self.averages)
        return int(checkpoint.state["step"])

    def export(self, folder: Path) -> None:
        """Write the model's folder, with the averaged weights if there are any."""
        with self.averaged():
            try:
                self.model.save_pretrained(folder)
                copy_tokenizer(self.tokenizer, folder)
            except OSError as error:
                raise DisaError(f"{folder}: cannot be written ({error.strerror}); free space, then --resume") from error

    def evaluate(self, log: RunLog, done: int) -> None:
        """Measure the model on test scenes and log the result; training goes on as if nothing had happened.

        Data sets on disk have an evaluator of their own, `disa evaluate`.
        """
        if not self.settings.evaluate_scenes or self.source is not PICTUREBOOK:
            return
        with self.averaged():
            self.model.eval()
            self.words.clear()
            size = self.config.backbone_image_size
            result = evaluate(self.model, self.words(WORDS), scenes=self.settings.evaluate_scenes, size=size)
            self.model.train()
        groups = "  ".join(f"{name} {value or 0:.1f}" for name, value in result["groups"].items())
        log.say(f"step {done}: mIoU {result['miou'] or 0:.1f}  {groups}")
        log.write({"step": done - 1, "evaluation": {name: result[name] for name in ("miou", "groups", "itm_auc")}})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model its averaged weights for a while, if the run keeps any."""
        current = {name: self.trained[name].detach().clone() for name in self.averages}
        self.model.load_state_dict(self.averages, strict=False)
        try:
            yield
        finally:
            self.model.load_state_dict(current, strict=False)
