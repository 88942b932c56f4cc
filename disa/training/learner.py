"""The moving parts of a run, and what one optimizer step does with them.

Signature: (step, pixels `b 3 H W`, target `b H W`) -> losses, gradient norm, learning rate; the weights have moved.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.inference.text import TextEncoder
from disa.model.disa import Disa, Prediction
from disa.model.losses import IGNORED, loss_counts, segmentation_loss
from disa.training.checkpoint import Checkpoint, restore_run, run_tensors
from disa.training.engine import Engine
from disa.training.initial_weights import copy_tokenizer, start_identity, start_model
from disa.training.optimizer import optimizer, set_learning_rate
from disa.training.samples import PICTUREBOOK, Source
from disa.training.scenes import choose_labels, relabel, step_generator
from disa.training.settings import TrainConfig
from disa.training.shards import whole
from disa.weights.model_folder import save


class Pass(nn.Module):
    """Text and image towers in one forward pass, which is what several processes share the gradients of."""

    def __init__(self, model: Disa) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, text: Tensor | None, ids: Tensor | None) -> Prediction:
        """Return the prediction for text embeddings `t p d`, or for token ids `t p l` where the text tower trains."""
        if ids is not None:
            text = self.model.encode_text(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
        assert text is not None
        return self.model(pixels, text)


class Learner:
    """Model, optimizer, averaged weights, prompts."""

    def __init__(
        self,
        config: ModelConfig,
        settings: TrainConfig,
        clip: Path | None,
        init: Path | None,
        engine: Engine,
        source: Source = PICTUREBOOK,
    ) -> None:
        """Build the model, from CLIP's weights or from a whole model's."""
        self.settings, self.engine, self.source = settings, engine, source
        self.model, self.words, self.tokenizer = start_model(config, clip, init)
        self.began_from = start_identity(clip, init, self.tokenizer)
        self.config = self.model.config
        self.model.to(engine.device).train()
        self.model.recompute = settings.recompute
        templates = settings.templates or self.config.backbone_templates
        ids = self.words.tokenize(source.labels, templates)  # t, templates, l
        used = int(ids.flatten(0, 1).any(0).nonzero().max()) + 1
        self.prompts = ids[..., :used].to(
            engine.device
        )  # the tower is causal: padding behind the end changes nothing
        adam = optimizer(self.model, self.model.parameter_groups(), settings)
        self.text = None if self._text_trains() else self._embedded()
        if settings.compile:
            self.model.compile()
        # with as many labels as padding there is none, and its tokens get no gradient
        unpadded = self.config.refine_category and len(source.labels) >= self.config.refine_padding
        self.forward, self.adam = engine.prepare(Pass(self.model), adam, unused=unpadded)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.averages = (
            {n: p.detach().clone() for n, p in self.trained.items()} if settings.ema else {}
        )

    def step(self, step: int, pixels: Tensor, target: Tensor) -> dict[str, float]:
        """Do one optimizer step with this process's share of a batch; return what the whole batch's losses are.

        Raises `FloatingPointError` when loss or gradient is not finite; the weights are then still those before.
        """
        losses = self.gradients(step, pixels, target)
        norm = self.engine.clipped(list(self.trained.values()), self.settings.clip_norm)
        numbers = {"loss": losses.pop("total"), **losses, "norm": norm}
        unheard = (
            {"norm"} if self.engine.fp16 else set()
        )  # fp16 leaves such a step out and scales down
        bad = [
            f"{n} {v}"
            for n, v in numbers.items()
            if n not in unheard and not torch.tensor(v).isfinite()
        ]
        if bad:
            raise FloatingPointError(", ".join(bad))
        numbers["lr"] = set_learning_rate(self.adam, step, self.settings)
        self.engine.update(self.adam, norm)
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(self.trained[name], 1 - self.settings.ema)
        return numbers

    def gradients(self, step: int, pixels: Tensor, target: Tensor) -> dict[str, float]:
        """Set the gradients of a step, in as many parts as `micro_batch` asks for, and return the losses by name."""
        device, settings, count = self.engine.device, self.settings, len(self.source.labels)
        target = target.to(device)
        chosen = choose_labels(self.engine.summed(_present(target, count)) > 0, step, settings)
        target = relabel(target, chosen)
        counts = self.engine.summed(loss_counts(target, len(chosen), self.config))
        prompts = self._prompts(step, chosen)
        self.adam.zero_grad(set_to_none=True)
        size, sums = settings.micro_batch or len(pixels), dict[str, Tensor]()
        starts = range(0, len(pixels), size)
        for start in starts:
            part = slice(start, start + size)
            with self.engine.collecting(self.forward, last=start == starts[-1]):
                prediction = self.forward(pixels[part].to(device).float(), *prompts).float()
                losses = segmentation_loss(prediction, target[part], self.config, counts)
                self.engine.backward(losses["total"])
            for name, loss in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(loss)) + loss.detach()
        together = self.engine.summed(torch.stack(list(sums.values())))
        return dict(zip(sums, together.tolist(), strict=True))

    def state(self, done: int, seconds: float) -> dict[str, Any]:
        """Return what a checkpoint says of itself."""
        return {
            "step": done,
            "seconds": seconds,
            "model": self.config.to_dict(),
            "training": self.settings.to_dict(),
            "source": self.source.facts,
            "began_from": self.began_from,
            "scale": self.engine.scale,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds, whole; all processes must ask."""
        return run_tensors(self.model, self.adam, self.averages)

    def restore(self, checkpoint: Checkpoint, path: Path) -> int:
        """Go back to a checkpoint and return its step. Raises `DisaError` if it is of another run."""
        if not {"model", "training", "source", "began_from", "scale"} <= checkpoint.state.keys():
            raise DisaError(
                f"{path}: is of another command, or of an older version of it; choose another --out"
            )
        if ModelConfig.from_dict(checkpoint.state["model"]) != self.config:
            raise DisaError(
                f"{path}: is of another model configuration; give the same one, or choose another --out"
            )
        if (there := checkpoint.state["source"]) != self.source.facts:
            said = f"{there['name']} ({there.get('images', 'drawn')} images)"
            raise DisaError(
                f"{path}: was trained on {said}, as it was then; give the same data, or choose another --out"
            )
        if checkpoint.state["began_from"] != self.began_from:
            raise DisaError(
                f"{path}: began from other weights or words; give the same --clip or --init, or choose another --out"
            )
        there = checkpoint.state["training"]
        if names := self.settings.conflicts(TrainConfig.from_dict(there)):
            said = ", ".join(f"{name}={there[name]}" for name in names)
            raise DisaError(
                f"{path}: was made with {said}; give the same settings, or choose another --out"
            )
        restore_run(checkpoint.tensors, self.model, self.adam, self.averages)
        self.engine.scale = checkpoint.state["scale"]
        return int(checkpoint.state["step"])

    def finished(self) -> tuple[Disa, TextEncoder]:
        """Return a copy of the model as it would be used, with the averaged weights if there are any.

        All processes must ask; each gets a whole model on its device, in evaluation mode.
        """
        with torch.device("meta"):
            model = Disa(self.config)
        state = {
            name: whole(value.detach()).clone() for name, value in self.model.state_dict().items()
        }
        state |= {name: whole(value).clone() for name, value in self.averages.items()}
        model.load_state_dict(state, assign=True)
        model.backbone.restore_buffers()
        model.requires_grad_(False)
        return model.eval(), TextEncoder(model, self.words.tokenizer)

    def export(self, folder: Path, model: Disa) -> None:
        """Write a model's folder. Raises `DisaError` if the disk refuses."""
        try:
            save(model, folder)
            copy_tokenizer(self.tokenizer, folder)
        except OSError as error:
            raise DisaError(
                f"{folder}: cannot be written ({error.strerror}); free space, then --resume"
            ) from error

    def _text_trains(self) -> bool:
        return any(
            name.startswith("backbone.clip.text") for name in self.model.parameter_groups()["clip"]
        )

    @torch.no_grad()
    def _embedded(self) -> Tensor:
        ids = self.prompts
        return self.model.encode_text(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])

    def _prompts(self, step: int, chosen: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the embeddings `t p d` or the token ids `t p l` of the chosen labels; templates are drawn by step."""
        values = self.prompts if self.text is None else self.text
        values = values[chosen.to(values.device)]
        if self.settings.templates:
            wanted = len(self.config.backbone_templates)
            order = torch.randperm(values.shape[1], generator=step_generator(step, self.settings))
            values = values[:, order[:wanted].to(values.device)]
        return (None, values) if self.text is None else (values, None)


def _present(target: Tensor, count: int) -> Tensor:
    """Return how many pixels each of `count` labels has, `t` (integers)."""
    return torch.bincount(target[target != IGNORED].flatten(), minlength=count)
