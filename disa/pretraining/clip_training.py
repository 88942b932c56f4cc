"""Train a small CLIP from scratch on picturebook's captions: `disa pretrain-clip`."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError, memory_errors_as
from disa.model.backbone import Backbone
from disa.picturebook import NOUNS, SYNONYMS
from disa.pretraining.byte_pairs import caption_ids, save_tokenizer, train_tokenizer
from disa.pretraining.captioned_pictures import Pictures, render_pictures
from disa.pretraining.contrastive import mosaic_loss, quarters, scene_loss
from disa.pretraining.settings import RUNTIME_FIELDS, PretrainConfig
from disa.running.devices import choose_device
from disa.running.files import write_json, write_whole
from disa.running.interruption import Interruption
from disa.training.checkpoint import Checkpoint, restore_run, run_tensors, write_checkpoint
from disa.training.engine import check_precision
from disa.training.optimizer import optimizer, set_learning_rate
from disa.training.run_folder import RunFolder
from disa.training.run_log import open_log
from disa.training.settings import plain_data

LARGEST_LOGIT_SCALE = 4.6052  # log 100, as in CLIP
WORD_REPETITIONS = 50  # of each noun beside the captions


def pretrain(
    settings: PretrainConfig, folder: RunFolder, resume: bool = True, device: str = "auto"
) -> Path | None:
    """Train CLIP and return `folder.clip`; None after an interruption, which leaves a checkpoint.

    A run that is already in `folder` continues at its last checkpoint, unless `resume` is False.
    Steps depend on (seed, step) only, so an interrupted run ends as an uninterrupted one. Raises
    `DisaError` for a run with other settings in the folder, and for a loss that is not finite.
    """
    where = choose_device(device)
    check_precision(settings.precision, str(where))
    with (
        folder.held(),
        memory_errors_as(f"{where}: out of memory; set mosaics, scenes or vision_width lower"),
    ):
        data = plain_data(settings)
        identity = {"pretraining": {name: data[name] for name in data.keys() - RUNTIME_FIELDS}}
        checkpoint = folder.checkpoint_to_continue(identity, resume)
        start = 0 if checkpoint is None else int(checkpoint.state["step"])
        folder.begin({"pretraining": data}, start)

        training = ClipTraining(settings, where)
        save_tokenizer(training.tokenizer, folder.clip, settings.context)
        if checkpoint is not None:
            restore_run(checkpoint.tensors, training.backbone, training.adam, {})
        if not _run_steps(training, folder, identity, start):
            return None
        training.save_clip(folder.clip)
        return folder.clip


def _run_steps(
    training: "ClipTraining", folder: RunFolder, identity: dict[str, Any], start: int
) -> bool:
    """Do the steps from `start` on, and write checkpoints; False if interrupted."""
    settings = training.settings
    with Interruption() as interruption, open_log(folder.log, settings.steps, start) as log:
        for step in range(start, settings.steps):
            numbers = training.step(step)
            if not math.isfinite(numbers["loss"]):
                raise DisaError(
                    f"step {step}: the loss is {numbers['loss']}; train with a lower lr into "
                    "another --out"
                )
            log.step(step, numbers)

            done = step + 1
            is_last = done == settings.steps
            if interruption.asked or is_last or done % settings.checkpoint_every == 0:
                tensors = run_tensors(training.backbone, training.adam, {})
                checkpoint = Checkpoint(tensors, {"step": done, **identity})
                write_checkpoint(folder.checkpoints, checkpoint)
            if interruption.asked and not is_last:
                log.say(f"stopped after step {done}; run the same command again to continue")
                return False
    return True


class ClipTraining:
    """Pictures, tokenizer, network and optimizer of a run."""

    def __init__(self, settings: PretrainConfig, device: torch.device) -> None:
        """Draw the pictures and build the network. Raises `DisaError` for too long captions."""
        self.settings = settings
        self.schedule = settings.schedule()
        self.device = device
        self.cards = render_pictures("cards", settings.cards, settings.seed)
        self.scenes = render_pictures("scenes", settings.pool_scenes, settings.seed)

        # The nouns are added many times, so that the tokenizer splits none of them.
        words = [word for noun in NOUNS for word in (noun, *SYNONYMS.get(noun, ()))]
        texts = self.cards.captions + self.scenes.captions + words * WORD_REPETITIONS
        self.tokenizer: Tokenizer = train_tokenizer(texts, settings.vocabulary)
        context = settings.context
        self.card_ids = caption_ids(self.tokenizer, self.cards.captions, context)
        self.scene_ids = caption_ids(self.tokenizer, self.scenes.captions, context)

        # The weights' random start comes after everything else that might draw.
        torch.manual_seed(settings.seed)
        self.clip_config = settings.clip_config(self.tokenizer.get_vocab_size())
        # The guidance of a decoder plays no part here, but a backbone has two blocks for it.
        layers = settings.vision_layers
        config = ModelConfig(
            self.clip_config,
            backbone_guidance_blocks=(max(0, layers - 4), layers - 2),
            backbone_finetune="full",
        )
        self.backbone = Backbone(config).to(device)
        names = [name for name, _ in self.backbone.named_parameters()]
        self.adam = optimizer(self.backbone, {"clip": names}, self.schedule)

    def step(self, step: int) -> dict[str, float]:
        """Do one optimizer step; return its loss and learning rate."""
        settings = self.settings
        rate = set_learning_rate(self.adam, step, self.schedule)
        draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        is_scene = step % settings.scene_every == settings.scene_every - 1

        # The order of these draws is part of the bundled model's numbers.
        kept = self._draw_tokens(draw) if settings.drops_tokens(step) else None
        pixels, ids = self._batch(is_scene, draw)
        down, right = torch.randint(settings.grid, (2,), generator=draw).tolist()
        if kept is not None and not is_scene:
            # A quarter of the mosaic without a token would have no loss.
            quarter_of_token = quarters(settings.grid, (down, right))
            while len(quarter_of_token[kept].unique()) < 4:
                kept = self._draw_tokens(draw)

        is_half = settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_half):
            if is_scene:
                loss = scene_loss(self.backbone, pixels, ids, kept)
            else:
                sharpness = settings.local_sharpness
                loss = mosaic_loss(self.backbone, pixels, ids, (down, right), kept, sharpness)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.backbone.parameters(), settings.clip_norm)
        self.adam.step()
        with torch.no_grad():
            self.backbone.clip.logit_scale.clamp_(max=LARGEST_LOGIT_SCALE)
        return {"loss": loss.item(), "lr": rate}

    def save_clip(self, folder: Path) -> None:
        """Write CLIP as transformers reads it. Raises `DisaError` if the disk refuses."""
        state = self.backbone.clip.state_dict()
        tensors = {name: tensor.contiguous() for name, tensor in state.items()}
        weights = save(tensors, {"format": "pt"})
        write_whole(folder / "model.safetensors", lambda file: file.write(weights))
        about = {"architectures": ["CLIPModel"], "model_type": "clip"}
        write_json(folder / "config.json", about | self.clip_config)

    def _batch(
        self, is_scene: bool, draw: torch.Generator
    ) -> tuple[Float[Tensor, "b 3 H W"], Int[Tensor, "b l"]]:
        """Return random pictures, varied in colour, and their captions."""
        settings = self.settings
        pictures: Pictures = self.scenes if is_scene else self.cards
        all_ids = self.scene_ids if is_scene else self.card_ids
        count = settings.scenes if is_scene else 4 * settings.mosaics
        chosen = torch.randint(len(pictures.captions), (count,), generator=draw)
        pixels = augment(pictures.pixels[chosen], draw).to(self.device)
        ids = all_ids[chosen].to(self.device)
        # The padding behind the longest caption is cut off.
        return pixels, ids[:, : int((ids != 0).sum(1).max()) + 1]

    def _draw_tokens(self, draw: torch.Generator) -> Int[Tensor, " k"]:
        """Return the indices of the tokens that a step sees, ascending."""
        order = torch.randperm(self.settings.grid**2, generator=draw)
        return order[: self.settings.kept_tokens].sort().values


def augment(pixels: UInt8[Tensor, "b 3 H W"], draw: torch.Generator) -> Float[Tensor, "b 3 H W"]:
    """Mirror pictures in half of the cases, and vary brightness and colour by a tenth."""
    mirrored = torch.rand(len(pixels), 1, 1, 1, generator=draw) < 0.5
    gain = 1 + 0.2 * (torch.rand(len(pixels), 3, 1, 1, generator=draw) - 0.5)
    return (torch.where(mirrored, pixels.flip(3), pixels).float() * gain).clamp(0, 255)
