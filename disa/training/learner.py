"""The moving parts of a run, and what one optimizer step does with them."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.inference.text import TextEncoder
from disa.model.disa import Disa, Prediction
from disa.model.losses import IGNORED, loss_counts, segmentation_loss
from disa.training.activation_checkpointing import checkpoint_activations
from disa.training.checkpoint import Checkpoint, restore_run, run_tensors
from disa.training.engine import Engine
from disa.training.initial_weights import copy_tokenizer, start_identity, start_model
from disa.training.optimizer import optimizer, set_learning_rate
from disa.training.samples import PICTUREBOOK, Source
from disa.training.scenes import choose_labels, relabel, step_generator
from disa.training.settings import TrainConfig
from disa.weights.model_folder import save


class Pass(nn.Module):
    """Text and image towers in one forward pass: the unit whose gradients processes share."""

    def __init__(self, model: Disa) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        pixels: Float[Tensor, "b 3 H W"],
        text: Float[Tensor, "t p d"] | None,
        ids: Int[Tensor, "t p l"] | None,
    ) -> Prediction:
        """Return the prediction for text embeddings, or for token ids where the text trains."""
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
        self.settings = settings
        self.engine = engine
        self.source = source
        self.model, self.encoder, self.tokenizer_file = start_model(config, clip, init)
        self.origin = start_identity(clip, init, self.tokenizer_file)
        self.config = self.model.config
        self.model.to(engine.device).train()
        if settings.recompute:
            checkpoint_activations(self.model)

        # Token ids of every label in every template. The text tower is causal, so the padding
        # behind the longest text changes nothing and is cut off.
        templates = settings.templates or self.config.backbone_templates
        ids = self.encoder.tokenize(source.labels, templates)  # t, templates, l
        longest = int(ids.flatten(0, 1).any(0).nonzero().max()) + 1
        self.prompt_ids = ids[..., :longest].to(engine.device)

        self.adam = optimizer(self.model, self.model.parameter_groups(), settings)
        # A text tower that stands still embeds its prompts once.
        self.prompt_embeddings = None if self._text_trains() else self._embed_prompts()
        if settings.compile:
            self.model.compile()

        # With as many labels as padding there is no padding, and its tokens get no gradient (D97).
        is_unpadded = len(source.labels) >= self.config.refine_padding
        unused = self.config.refine_category and is_unpadded
        self.forward = engine.prepare(Pass(self.model), unused=unused)
        self.trained = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
        self.averages: dict[str, Tensor] = {}
        if settings.ema:
            self.averages = {name: p.detach().clone() for name, p in self.trained.items()}

    def step(self, step: int, pixels: Tensor, target: Int[Tensor, "b H W"]) -> dict[str, float]:
        """Do one optimizer step with this process's share of a batch; return the batch's losses.

        Raises `FloatingPointError` if the loss or the gradient is not finite; the weights are then
        still those from before.
        """
        losses = self.gradients(step, pixels, target)
        parameters = list(self.trained.values())
        norm = self.engine.clip(parameters, self.adam, self.settings.clip_norm)

        # fp16 may overflow: it leaves such a step out and lowers its scale.
        numbers = {"loss": losses.pop("total"), **losses, "norm": norm}
        checked = [name for name in numbers if name != "norm" or self.engine.scaler is None]
        infinite = [
            f"{name} {numbers[name]}"
            for name in checked
            if not torch.tensor(numbers[name]).isfinite()
        ]
        if infinite:
            raise FloatingPointError(", ".join(infinite))

        numbers["lr"] = set_learning_rate(self.adam, step, self.settings)
        self.engine.update(self.adam, norm)
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(self.trained[name], 1 - self.settings.ema)
        return numbers

    def gradients(
        self, step: int, pixels: Tensor, target: Int[Tensor, "b H W"]
    ) -> dict[str, float]:
        """Set the gradients of a step and return the losses of the whole batch by name.

        The batch is computed in as many parts as `micro_batch` asks for.
        """
        engine = self.engine
        target = target.to(engine.device)

        # All processes train the same labels: those present in any process's images, and some more.
        present = engine.summed(_pixels_per_label(target, len(self.source.labels))) > 0
        chosen = choose_labels(present, step, self.settings)
        target = relabel(target, chosen)
        counts = engine.summed(loss_counts(target, self.config))
        prompts = self._prompts(step, chosen)

        self.adam.zero_grad(set_to_none=True)
        size = self.settings.micro_batch or len(pixels)
        starts = range(0, len(pixels), size)
        sums: dict[str, Tensor] = {}
        for start in starts:
            part = slice(start, start + size)
            images = pixels[part].to(engine.device).float()
            with engine.computing(self.forward, last=start == starts[-1]):
                # The loss is computed in 32 bit whatever the network is (decision D43).
                prediction = self.forward(images, *prompts).float()
                losses = segmentation_loss(prediction, target[part], self.config, counts)
                engine.backward(losses["total"])
            for name, loss in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(loss)) + loss.detach()

        together = engine.summed(torch.stack(list(sums.values())))
        return dict(zip(sums, together.tolist(), strict=True))

    def state(self, step: int, seconds: float) -> dict[str, Any]:
        """Return what a checkpoint after `step` steps says of itself."""
        return {
            "step": step,
            "seconds": seconds,
            "model": self.config.to_dict(),
            "training": self.settings.to_dict(),
            "source": self.source.facts,
            "began_from": self.origin,
            "scale": self.engine.scale,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds."""
        return run_tensors(self.model, self.adam, self.averages)

    def restore(self, checkpoint: Checkpoint, path: Path) -> int:
        """Go back to a checkpoint and return its step. Raises `DisaError` if it is another run's."""
        state = checkpoint.state
        if not {"model", "training", "source", "began_from", "scale"} <= state.keys():
            raise DisaError(
                f"{path}: is of another command or an older version; choose another --out"
            )
        if ModelConfig.from_dict(state["model"]) != self.config:
            raise DisaError(
                f"{path}: has another model configuration; give the same one, or choose another "
                "--out"
            )
        if (before := state["source"]) != self.source.facts:
            raise DisaError(
                f"{path}: was trained on {before['name']} ({before.get('images', 'drawn')} images) "
                "as it was then; give the same data, or choose another --out"
            )
        if state["began_from"] != self.origin:
            raise DisaError(
                f"{path}: began from other weights or another tokenizer; give the same --clip or "
                "--init, or choose another --out"
            )
        settings = state["training"]
        if names := self.settings.conflicts(TrainConfig.from_dict(settings)):
            values = ", ".join(f"{name}={settings[name]}" for name in names)
            raise DisaError(
                f"{path}: was made with {values}; give the same settings, or choose another --out"
            )
        restore_run(checkpoint.tensors, self.model, self.adam, self.averages)
        self.engine.scale = state["scale"]
        return int(state["step"])

    def finished(self) -> tuple[Disa, TextEncoder]:
        """Return a copy of the model in evaluation mode, with the averaged weights if there are any."""
        with torch.device("meta"):
            model = Disa(self.config)
        state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        state |= {name: value.clone() for name, value in self.averages.items()}
        model.load_state_dict(state, assign=True)
        model.backbone.restore_buffers()
        model.requires_grad_(False)
        return model.eval(), TextEncoder(model, self.encoder.tokenizer)

    def export(self, folder: Path, model: Disa) -> None:
        """Write a model's folder. Raises `DisaError` if the disk refuses."""
        try:
            save(model, folder)
            copy_tokenizer(self.tokenizer_file, folder)
        except OSError as error:
            raise DisaError(
                f"{folder}: cannot be written ({error.strerror}); free space, then --resume"
            ) from error

    def _text_trains(self) -> bool:
        names = self.model.parameter_groups()["clip"]
        return any(name.startswith("backbone.clip.text") for name in names)

    @torch.no_grad()
    def _embed_prompts(self) -> Float[Tensor, "t p d"]:
        ids = self.prompt_ids
        return self.model.encode_text(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])

    def _prompts(self, step: int, chosen: Int[Tensor, " m"]) -> tuple[Tensor | None, Tensor | None]:
        """Return the chosen labels' embeddings `m p d` or token ids `m p l`, the other one None.

        Templates are drawn anew for each step.
        """
        embedded = self.prompt_embeddings is not None
        values = self.prompt_embeddings if embedded else self.prompt_ids
        assert values is not None
        values = values[chosen.to(values.device)]
        if self.settings.templates:
            wanted = len(self.config.backbone_templates)
            order = torch.randperm(values.shape[1], generator=step_generator(step, self.settings))
            values = values[:, order[:wanted].to(values.device)]
        return (values, None) if embedded else (None, values)


def _pixels_per_label(target: Int[Tensor, "b H W"], labels: int) -> Int[Tensor, " t"]:
    return torch.bincount(target[target != IGNORED].flatten(), minlength=labels)
