"""Train a small CLIP from scratch on picturebook's captions: `disa pretrain-clip`.

The run folder, the loop and the optimizer are those of `disa.training`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import memory_errors_as
from disa.model.clip import ClipBackbone
from disa.picturebook import NOUNS, SYNONYMS
from disa.pretraining.byte_pairs import caption_ids, save_tokenizer, train_tokenizer
from disa.pretraining.captioned_pictures import render_pictures
from disa.pretraining.contrastive import mosaic_loss, quarters, scene_loss
from disa.pretraining.settings import RUNTIME_FIELDS, PretrainConfig
from disa.running.devices import choose_device
from disa.running.files import write_bytes, write_json
from disa.running.interruption import Interruption
from disa.running.processes import ALONE
from disa.running.records import values
from disa.training.engine import Engine
from disa.training.loop import Run
from disa.training.optimizer import Trainee, optimizer, set_learning_rate
from disa.training.run_folder import RunFolder
from disa.training.run_log import open_log

LARGEST_LOGIT_SCALE = 4.6052  # log 100, as in CLIP
NOUN_REPETITIONS = 50  # of each noun beside the captions


def pretrain(
    settings: PretrainConfig, folder: RunFolder, resume: bool = True, device: str = "auto"
) -> Path | None:
    """Train CLIP and return `folder.clip`; None after an interruption, which leaves a checkpoint.

    A run that is already in `folder` continues at its last checkpoint, unless `resume` is False.
    Steps depend on (seed, step) only, so an interrupted run ends as an uninterrupted one. Raises
    `DisaError` for a run with other settings in the folder, and for a loss that is not finite.
    """
    engine = Engine(settings.schedule(), str(choose_device(device)), ALONE)
    remedy = "set mosaics, scenes or vision_width lower"
    with folder.held(), memory_errors_as(f"{engine.device}: out of memory; {remedy}"):
        # Another run is refused before pictures are drawn, which takes minutes.
        data = values(settings)
        identity = {"pretraining": {name: data[name] for name in data.keys() - RUNTIME_FIELDS}}
        checkpoint = folder.checkpoint_to_continue(identity, resume)
        start = 0 if checkpoint is None else checkpoint.state["step"]
        folder.begin({"pretraining": data}, start)

        training = ClipTraining(settings, engine)
        run = Run(training, folder, identity)
        run.restore(checkpoint)
        with Interruption() as interruption, open_log(folder.log, settings.steps, start) as log:
            if not run.do_steps(training.batches(start), log, interruption):
                return None
            training.save_clip(folder.clip)
    return folder.clip


class ClipBatch(NamedTuple):
    """What one step learns from: scenes, or the cards of mosaics (four to a mosaic)."""

    pixels: Float[Tensor, "b 3 H W"]
    ids: Int[Tensor, "b l"]  # of the captions
    kept: Int[Tensor, " k"] | None  # the tokens that the network sees, ascending; None: all
    shift: tuple[int, int] | None  # patches (down, right) that mosaics are rolled by; None: scenes


class ClipTraining(Trainee):
    """Pictures, tokenizer, network and optimizer of a run."""

    model: ClipBackbone

    def __init__(self, settings: PretrainConfig, engine: Engine) -> None:
        """Draw the pictures and build the network. Raises `DisaError` for too long captions."""
        self.clip_settings = settings
        self.settings = settings.schedule()
        self.engine = engine
        self.cards = render_pictures("cards", settings.cards, settings.seed)
        self.scenes = render_pictures("scenes", settings.pool_scenes, settings.seed)

        # The nouns are added many times, so that the tokenizer splits none of them.
        nouns = [word for noun in NOUNS for word in (noun, *SYNONYMS.get(noun, ()))]
        texts = self.cards.captions + self.scenes.captions + nouns * NOUN_REPETITIONS
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
        self.model = ClipBackbone(config).to(engine.device)
        names = [name for name, _ in self.model.named_parameters()]
        self.adam = optimizer(self.model, {"clip": names}, self.settings)
        self.averages = {}

    def batches(self, start: int) -> Iterator[ClipBatch]:
        """Yield the batches of all steps from `start` on."""
        return (self._batch(step) for step in range(start, self.settings.steps))

    def step(self, step: int, batch: ClipBatch) -> dict[str, float]:
        """Do one optimizer step and return its loss and learning rate.

        Raises `FloatingPointError` if the loss is not finite.
        """
        engine = self.engine
        pixels, ids, kept, shift = batch
        # Both losses compare every picture (or quarter) with every caption of the batch.
        with engine.computing(self.model, last=True):
            if shift is None:
                loss = scene_loss(self.model, pixels, ids, kept)
            else:
                sharpness = self.clip_settings.local_sharpness
                loss = mosaic_loss(self.model, pixels, ids, shift, kept, sharpness)
        if not loss.isfinite():
            raise FloatingPointError(f"loss {loss.item()}")

        self.adam.zero_grad(set_to_none=True)
        engine.backward(loss)
        engine.clip(list(self.model.parameters()), self.adam, self.settings.clip_norm)

        # From here on the weights change.
        rate = set_learning_rate(self.adam, step, self.settings)
        self.adam.step()
        # A larger scale makes training unstable, as CLIP's authors found.
        with torch.no_grad():
            self.model.clip.logit_scale.clamp_(max=LARGEST_LOGIT_SCALE)
        return {"loss": loss.item(), "lr": rate}

    def save_clip(self, folder: Path) -> None:
        """Write CLIP as transformers reads it. Raises `DisaError` if the disk refuses."""
        save_tokenizer(self.tokenizer, folder, self.clip_settings.context)
        state = self.model.clip.state_dict()
        tensors = {name: tensor.contiguous() for name, tensor in state.items()}
        weights = save(tensors, {"format": "pt"})
        write_bytes(folder / "model.safetensors", weights)
        about = {"architectures": ["CLIPModel"], "model_type": "clip"}
        write_json(folder / "config.json", about | self.clip_config)

    def _batch(self, step: int) -> ClipBatch:
        """Draw random pictures, varied in colour, and the tokens that the network sees."""
        settings = self.clip_settings
        draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        is_scene = step % settings.scene_every == settings.scene_every - 1
        pictures = self.scenes if is_scene else self.cards
        all_ids = self.scene_ids if is_scene else self.card_ids
        count = settings.scenes if is_scene else 4 * settings.mosaics

        # The order of these draws is part of the bundled model's numbers.
        kept = self._draw_tokens(draw) if settings.drops_tokens(step) else None
        chosen = torch.randint(len(pictures.captions), (count,), generator=draw)
        pixels = augment(pictures.pixels[chosen], draw).to(self.engine.device)
        ids = all_ids[chosen].to(self.engine.device)
        # The padding behind the longest caption is cut off.
        ids = ids[:, : int((ids != 0).sum(1).max()) + 1]
        if is_scene:
            return ClipBatch(pixels, ids, kept, shift=None)

        down, right = torch.randint(settings.grid, (2,), generator=draw).tolist()
        if kept is not None:
            # A quarter of the mosaic without a token would have no loss.
            quarter_of_token = quarters(settings.grid, (down, right))
            while len(quarter_of_token[kept].unique()) < 4:
                kept = self._draw_tokens(draw)
        return ClipBatch(pixels, ids, kept, (down, right))

    def _draw_tokens(self, draw: torch.Generator) -> Int[Tensor, " k"]:
        order = torch.randperm(self.clip_settings.grid**2, generator=draw)
        return order[: self.clip_settings.kept_tokens].sort().values


def augment(pixels: UInt8[Tensor, "b 3 H W"], draw: torch.Generator) -> Float[Tensor, "b 3 H W"]:
    """Mirror pictures in half of the cases, and vary brightness and colour by a tenth."""
    # One gain for each picture and colour channel, from 0.9 to 1.1.
    mirrored = torch.rand(len(pixels), 1, 1, 1, generator=draw) < 0.5
    gain = 1 + 0.2 * (torch.rand(len(pixels), 3, 1, 1, generator=draw) - 0.5)
    return (torch.where(mirrored, pixels.flip(3), pixels).float() * gain).clamp(0, 255)
