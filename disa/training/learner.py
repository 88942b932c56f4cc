"""The moving parts of a run, and what one optimizer step does with them."""

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from disa.config import IGNORED, ModelConfig
from disa.inference.text import TextEncoder
from disa.model.disa import Disa, Prediction
from disa.model.losses import loss_counts, segmentation_loss
from disa.running.terminal import warn
from disa.training.batches import Batch, choose_labels, relabel
from disa.training.engine import Engine
from disa.training.initial_weights import InitialWeights, copy_tokenizer
from disa.training.optimizer import Trainee, optimizer, set_learning_rate
from disa.training.settings import TrainConfig
from disa.training.training_data import TrainingData
from disa.weights.model_folder import save
from disa.weights.tokenizer import encoder_tokenizer


class BothTowers(nn.Module):
    """Text and image towers in one forward pass: the unit whose gradients processes share."""

    def __init__(self, model: Disa) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        pixels: Float[Tensor, "b 3 H W"],
        embeddings: Float[Tensor, "m p d"] | None,
        ids: Int[Tensor, "m p l"] | None,
    ) -> Prediction:
        """Return the prediction for embedded prompts, or for token ids where the text trains."""
        if ids is not None:
            embeddings = self.model.encode_text(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
        assert embeddings is not None
        return self.model(pixels, embeddings)


class Prompts:
    """Token ids of every label in every prompt; embeddings where the text tower stands still."""

    def __init__(self, model: Disa, encoder: TextEncoder, labels: tuple[str, ...]) -> None:
        ids = encoder.tokenize(labels, model.config.backbone_templates)  # t, p, l

        self.ids = ids.to(next(model.parameters()).device)
        self.embeddings: Float[Tensor, "t p d"] | None = None
        trained = model.parameter_groups()["clip"]
        if not any(name.startswith("backbone.clip.text") for name in trained):
            with torch.no_grad():
                embeddings = model.encode_text(self.ids.flatten(0, 1))
            self.embeddings = embeddings.unflatten(0, self.ids.shape[:2])

    def of(
        self, chosen: Int[Tensor, " m"]
    ) -> tuple[Float[Tensor, "m p d"] | None, Int[Tensor, "m p l"] | None]:
        """Return the chosen labels' embeddings or their token ids; the other one is None."""
        chosen = chosen.to(self.ids.device)
        if self.embeddings is None:
            return None, self.ids[chosen]
        return self.embeddings[chosen], None


class Learner(Trainee):
    """Network, optimizer, averaged weights and prompts of a run."""

    model: Disa

    def __init__(
        self,
        config: ModelConfig,
        settings: TrainConfig,
        weights: InitialWeights,
        engine: Engine,
        data: TrainingData,
    ) -> None:
        """Build the network on the engine's device.

        Raises `DisaError` for weights that cannot be read or do not fit the settings.
        """
        self.settings = settings
        self.weights = weights
        self.engine = engine
        self.data = data

        # The CLIP or model decides the tokenizer, as its embeddings belong to those token ids.
        self.tokenizer_file = weights.tokenizer_file(config)
        self.model = weights.build(config)
        self.config = self.model.config  # with the shape of the CLIP that was given
        tokenizer = encoder_tokenizer(self.tokenizer_file, self.config.backbone_clip)
        self.encoder = TextEncoder(self.model, tokenizer)
        self.model.to(engine.device).train()
        if data.things is None:
            _freeze_things(self.model, data.name)
        if settings.recompute:
            checkpoint_activations(self.model)

        # The optimizer decides which parameters train, so whatever asks for them comes after it.
        self.adam = optimizer(self.model, self.model.parameter_groups(), settings)
        self.prompts = Prompts(self.model, self.encoder, data.labels)
        if settings.compile:
            self.model.compile()

        # Where labels fill all the places, the tokens for empty places get no gradient (D97).
        is_unpadded = len(data.labels) >= self.config.refine_padding
        unused = self.config.refine_category and is_unpadded
        self.towers = engine.prepare(BothTowers(self.model), unused=unused)

        named = self.model.named_parameters()
        self.trained = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.averages = {}
        if settings.ema:
            self.averages = {name: p.detach().clone() for name, p in self.trained.items()}

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """Do one optimizer step with this process's share of a batch; return the batch's losses.

        Raises `FloatingPointError` if the loss or the gradient is not finite; the weights are then
        still those from before.
        """
        losses = self.gradients(step, batch)
        # By now every process has the gradient of the whole batch.
        parameters = list(self.trained.values())
        norm = self.engine.clip(parameters, self.adam, self.settings.clip_norm)

        numbers = {"loss": losses.pop("total"), **losses, "norm": norm}
        for name, value in numbers.items():
            # fp16 may overflow: it leaves such a step out and lowers its scale.
            may_overflow = name == "norm" and self.engine.scaler is not None
            if not math.isfinite(value) and not may_overflow:
                raise FloatingPointError(f"{name} {value}")

        # From here on the weights change.
        numbers["lr"] = set_learning_rate(self.adam, step, self.settings)
        self.engine.update(self.adam, norm)
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(self.trained[name], 1 - self.settings.ema)
        return numbers

    def gradients(self, step: int, batch: Batch) -> dict[str, float]:
        """Set the gradients of a step and return the losses of the whole batch by name.

        The batch is computed in as many parts as `micro_batch` asks for.
        """
        engine = self.engine
        settings = self.settings
        pixels, target = batch
        target = target.to(engine.device)

        # All processes train the same labels: those present in any process's images, and some more.
        pixels_per_label = torch.bincount(
            target[target != IGNORED].flatten(), minlength=len(self.data.labels)
        )
        present = engine.processes.summed(pixels_per_label) > 0
        chosen = choose_labels(present, settings.categories, step, settings.seed)
        target = relabel(target, chosen)
        counts = engine.processes.summed(loss_counts(target, self.config))
        embeddings, ids = self.prompts.of(chosen)  # m p d or m p l
        is_thing = None
        if self.data.things is not None:
            is_thing = torch.tensor(self.data.things)[chosen].to(engine.device)

        # Each part adds its share of the gradient; the counts above make the shares add up to the
        # whole batch's (decision D83).
        self.adam.zero_grad(set_to_none=True)
        size = settings.micro_batch or len(pixels)
        starts = range(0, len(pixels), size)
        sums: dict[str, Tensor] = {}
        for start in starts:
            part = slice(start, start + size)
            images = pixels[part].to(engine.device).float()
            with engine.computing(self.towers, last=start == starts[-1]):
                # The loss is computed in 32 bits whatever the network is (decision D43).
                prediction = self.towers(images, embeddings, ids).float()
                losses = segmentation_loss(prediction, target[part], self.config, counts, is_thing)
                engine.backward(losses["total"])
            for name, loss in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(loss)) + loss.detach()

        # Each process has its own share of every loss.
        batch_losses = engine.processes.summed(torch.stack(list(sums.values())))
        return dict(zip(sums, batch_losses.tolist(), strict=True))

    def finished(self) -> tuple[Disa, TextEncoder]:
        """Return a copy of the model in evaluation mode, with averaged weights if there are any."""
        # A model of its own: the one that trains may be compiled, wrapped or about to change.
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
        save(model, folder)
        copy_tokenizer(self.tokenizer_file, folder)


def _freeze_things(model: Disa, dataset: str) -> None:
    """Leave the part that knows things as it is, if there is one, and say so."""
    if model.things is None:
        return
    # It would get no gradient, for which the processes' copies would wait.
    model.things.requires_grad_(False)
    warn(
        f"{dataset} does not say which labels are things, so what the model knows of them is not "
        'trained; add "kind": "thing" or "stuff" to classes.json'
    )


def checkpoint_activations(model: Disa) -> None:
    """Let every block of the network keep its inputs only; gradients stay the same.

    Wrapped are CLIP's image blocks, its text tower as a whole, both halves of the SDM, each level
    of the refinement, and the decoder.
    """
    backbone = model.backbone
    _wrap(backbone, "run_block")
    _wrap(backbone, "encode_text")
    parts: list[nn.Module | None] = [model.saliency, model.disentangle, model.decode]
    for part in (*parts, *model.refine.levels):
        if part is not None:  # the baseline has no SDM
            _wrap(part, "forward")


def _wrap(owner: nn.Module, name: str) -> None:
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    def checkpointed(*arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return method(*arguments)
        return checkpoint(method, *arguments, use_reentrant=False)

    setattr(owner, name, checkpointed)
