"""Train a small CLIP from scratch on picturebook captions: `disa pretrain-clip`.

`(PretrainConfig, folder) -> folder/clip` with transformers' `config.json` and `model.safetensors`, and a tokenizer.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor
from torch.optim import AdamW

from disa.config import ModelConfig
from disa.errors import DisaError, memory_errors_as
from disa.model.backbone import Backbone
from disa.picturebook import SIZE, SYNONYMS, WORDS
from disa.pretraining.byte_pairs import caption_ids, save_tokenizer, train_tokenizer
from disa.pretraining.captioned_pictures import Pictures, render_pictures
from disa.pretraining.contrastive import mosaic_loss, quarters, scene_loss
from disa.recipes import small_clip
from disa.running.files import write_json, write_whole
from disa.running.interruption import Interruption
from disa.training.checkpoint import (
    Checkpoint,
    checkpoints,
    read_checkpoint,
    read_state,
    restore_run,
    run_tensors,
    write_checkpoint,
)  # fmt: skip
from disa.training.engine import check_precision
from disa.training.optimizer import optimizer, set_learning_rate
from disa.training.run_folder import RunFolder
from disa.training.run_log import RunLog

SETTINGS = "pretraining"  # where a checkpoint and run.json have them
FREE = ("checkpoint_every",)  # on resume: it changes no number
_LEAST_TOKENS = 8  # that a step sees: fewer are seldom in all four quarters
_MOST_BYTES = 16e9  # of pictures in memory; the bundled model's take 0.9 GB


@dataclass(frozen=True)
class PretrainConfig:
    """One contrastive run. The architecture is fixed by the fields of the first group."""

    vision_width: int = 160
    vision_layers: int = 5
    vision_heads: int = 5
    patch: int = 8  # pixels per side
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4
    context: int = 40  # tokens of a caption or prompt
    vocabulary: int = 1024  # entries of the tokenizer, at most
    embedding_width: int = 128  # d

    steps: int = 1800
    mosaics: int = 64  # pictures of four cards in a mosaic batch
    scenes: int = 96  # pictures in a scene batch
    scene_every: int = 3  # every so many steps the batch is of scenes
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 200  # steps
    clip_norm: float = 1.0
    clip_lr_scale: float = 1.0  # there is no head to be faster than
    local_sharpness: float = (
        4.0  # how much more a caption looks at a quarter's tokens that fit it; 0: at all alike
    )
    keep_tokens: float = 0.5  # share of the patch tokens that a step sees
    all_tokens_from: float = 0.85  # share of the steps after which it sees all
    precision: Literal["fp32", "bf16"] = "bf16"  # of the forward pass
    cards: int = 60_000  # pictures drawn before the first step
    pool_scenes: int = 16_000
    seed: int = 0
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        """Refuse impossible numbers before anything is drawn."""
        counts = (
            "steps",
            "mosaics",
            "scenes",
            "scene_every",
            "cards",
            "pool_scenes",
            "checkpoint_every",
        )
        for name in (*counts, "embedding_width", "context", "vocabulary"):
            if getattr(self, name) < 1:
                raise DisaError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("warmup", "seed", "weight_decay", "clip_lr_scale", "local_sharpness"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DisaError(f"{name}={getattr(self, name)}: must not be negative")
        for name in ("lr", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise DisaError(f"{name}={getattr(self, name)}: must be above 0")
        if not 0 < self.keep_tokens <= 1:
            raise DisaError(f"keep_tokens={self.keep_tokens}: must be above 0 and at most 1")
        if not 0 <= self.all_tokens_from <= 1:
            raise DisaError(f"all_tokens_from={self.all_tokens_from}: must be 0 to 1")
        for name, most in (("seed", 2**31 - 1), ("mosaics", 4096), ("scenes", 4096)):
            if (
                getattr(self, name) > most
            ):  # a slip of the hand that would fill the memory, or no generator takes
                raise DisaError(f"{name}={getattr(self, name)}: must be at most {most}")
        held = 3 * SIZE**2 * (self.cards / 4 + self.pool_scenes)
        if held > _MOST_BYTES:
            raise DisaError(
                f"cards={self.cards}, pool_scenes={self.pool_scenes}: the pictures would take {held / 1e9:,.0f} GB of "
                f"memory; at most {_MOST_BYTES / 1e9:.0f} GB are allowed"
            )
        for tower in ("vision", "text"):
            width, heads = getattr(self, f"{tower}_width"), getattr(self, f"{tower}_heads")
            if heads < 1 or width < 1 or width % heads:
                raise DisaError(f"{tower}_heads={heads}: must divide {tower}_width={width}")
        if self.vision_layers < 2 or self.text_layers < 1:
            raise DisaError(
                f"vision_layers={self.vision_layers}, text_layers={self.text_layers}: must be at least 2 and 1"
            )
        if self.patch < 1 or SIZE % self.patch or (SIZE // self.patch) % 2:
            raise DisaError(
                f"patch={self.patch}: the {SIZE} pixels of a scene must be an even number of patches"
            )
        tokens = (SIZE // self.patch) ** 2
        if round(self.keep_tokens * tokens) < _LEAST_TOKENS:
            least = f"of {tokens} tokens at least {_LEAST_TOKENS} must be kept"
            raise DisaError(
                f"keep_tokens={self.keep_tokens}: {least}; set it to {_LEAST_TOKENS / tokens:.2f} or more"
            )

    def clip_config(self, vocabulary: int) -> dict[str, Any]:
        """Return what `transformers.CLIPConfig` takes, for a tokenizer of `vocabulary` entries."""
        text = (self.text_width, self.text_layers, self.text_heads)
        vision = (self.vision_width, self.vision_layers, self.vision_heads)
        return small_clip(
            self.embedding_width, text, vision, self.patch, SIZE, vocabulary, self.context
        )


def pretrain(
    settings: PretrainConfig,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    console: Console | None = None,
) -> Path | None:
    """Train CLIP and return `out/clip`, or None after an interruption, which leaves a checkpoint.

    With `resume`, a run that was interrupted in `out` goes on where its last checkpoint left it.

    Steps depend on (seed, step) only, so an interrupted run ends as an uninterrupted one. Raises `DisaError` if `out`
    holds a run already, or one with other settings, and for a loss that is not finite.
    """
    check_precision(settings.precision, device)
    folder = RunFolder(out)
    with (
        folder.held(),
        memory_errors_as(f"{device}: out of memory; set mosaics, scenes or vision_width lower"),
    ):
        return _pretrain(settings, folder, resume, device, console)


def _pretrain(
    settings: PretrainConfig, folder: RunFolder, resume: bool, device: str, console: Console | None
) -> Path | None:
    found, out = checkpoints(folder.checkpoints), folder.path
    start = _start(settings, found[-1], resume) if found else 0
    folder.describe({"step": start, SETTINGS: asdict(settings)}, processes=1)
    cards = render_pictures("cards", settings.cards, settings.seed)
    scenes = render_pictures("scenes", settings.pool_scenes, settings.seed)
    tokenizer = train_tokenizer(
        cards.captions + scenes.captions + _all_words(), settings.vocabulary
    )
    save_tokenizer(tokenizer, out / "clip", settings.context)
    ids = {
        "cards": caption_ids(tokenizer, cards.captions, settings.context),
        "scenes": caption_ids(tokenizer, scenes.captions, settings.context),
    }
    torch.manual_seed(settings.seed)
    config = settings.clip_config(tokenizer.get_vocab_size())
    taps = (max(0, settings.vision_layers - 4), settings.vision_layers - 2)
    backbone = Backbone(
        ModelConfig(config, backbone_guidance_blocks=taps, backbone_finetune="full")
    ).to(device)
    adam = optimizer(
        backbone, {"clip": [name for name, _ in backbone.named_parameters()]}, settings
    )
    if found:
        restore_run(read_checkpoint(found[-1]).tensors, backbone, adam, {})
    with (
        Interruption() as interruption,
        RunLog(folder.log, settings.steps, start, console=console) as log,
    ):
        for step in range(start, settings.steps):
            rate = set_learning_rate(adam, step, settings)
            loss = _step(backbone, adam, cards, scenes, ids, step, settings, torch.device(device))
            if not torch.isfinite(torch.tensor(loss)):
                raise DisaError(
                    f"step {step}: the loss is {loss}; train with a lower lr into another --out"
                )
            log.step(step, {"loss": loss, "lr": rate})
            done, last = step + 1, step + 1 == settings.steps
            if interruption.asked or last or done % settings.checkpoint_every == 0:
                state = {"step": done, SETTINGS: asdict(settings)}
                write_checkpoint(
                    folder.checkpoints, Checkpoint(run_tensors(backbone, adam, {}), state)
                )
            if interruption.asked and not last:
                log.say(f"stopped after step {done}; the same command goes on from there")
                return None
    _save_clip(backbone, config, out / "clip")
    return out / "clip"


def _step(
    backbone: Backbone, adam: AdamW, cards: Pictures, scenes: Pictures, ids: dict[str, Tensor], step: int,
    settings: PretrainConfig, device: torch.device,
) -> float:  # fmt: skip
    draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    grid = SIZE // settings.patch
    drops = step < settings.all_tokens_from * settings.steps and settings.keep_tokens < 1
    kept = _kept_tokens(settings, draw) if drops else None
    is_scene = step % settings.scene_every == settings.scene_every - 1
    pool, count = (scenes, settings.scenes) if is_scene else (cards, 4 * settings.mosaics)
    chosen = torch.randint(len(pool.captions), (count,), generator=draw)
    pixels = augment(pool.pixels[chosen], draw).to(device)
    captions = ids["scenes" if is_scene else "cards"][chosen].to(device)
    captions = captions[:, : int((captions != 0).sum(1).max()) + 1]
    down, right = torch.randint(grid, (2,), generator=draw).tolist()
    while (
        kept is not None and not is_scene and len(quarters(grid, (down, right))[kept].unique()) < 4
    ):
        kept = _kept_tokens(settings, draw)  # a quarter without a token has no loss
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        if is_scene:
            loss = scene_loss(backbone, pixels, captions, kept)
        else:
            loss = mosaic_loss(
                backbone, pixels, captions, (down, right), kept, settings.local_sharpness
            )
    adam.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(backbone.parameters(), settings.clip_norm)
    adam.step()
    with torch.no_grad():
        backbone.clip.logit_scale.clamp_(max=4.6052)  # 100, as CLIP does
    return loss.item()


def _kept_tokens(settings: PretrainConfig, draw: torch.Generator) -> Tensor:
    count = (SIZE // settings.patch) ** 2
    return (
        torch.randperm(count, generator=draw)[: round(settings.keep_tokens * count)].sort().values
    )


def augment(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """Return uint8 pixels as floats, mirrored in half of the cases, with brightness and colour varied by a tenth."""
    mirrored = torch.rand(len(pixels), 1, 1, 1, generator=draw) < 0.5
    gain = 1 + 0.2 * (torch.rand(len(pixels), 3, 1, 1, generator=draw) - 0.5)
    return (torch.where(mirrored, pixels.flip(3), pixels).float() * gain).clamp(0, 255)


def _all_words() -> list[str]:
    return [word for noun in WORDS for word in (noun, *SYNONYMS.get(noun, ()))] * 50


def _start(settings: PretrainConfig, checkpoint: Path, resume: bool) -> int:
    """Return the step to go on with. Raises `DisaError` if this run is another, or is not to be gone on with."""
    if not resume:
        raise DisaError(
            f"{checkpoint.parent.parent}: holds a run already; go on with it (--resume), or choose another --out"
        )
    state = read_state(checkpoint)
    there = state.get(SETTINGS)
    if not isinstance(there, dict):
        raise DisaError(
            f"{checkpoint}: is of another command, or of an older version of it; choose another --out"
        )
    wanted = {name: value for name, value in asdict(settings).items() if name not in FREE}
    if other := [
        f"{name}={there.get(name)}" for name, value in wanted.items() if there.get(name) != value
    ]:
        raise DisaError(
            f"{checkpoint}: was made with {', '.join(other)}; give the same settings, or choose another --out"
        )
    return int(state["step"])


def _save_clip(backbone: Backbone, config: dict[str, Any], folder: Path) -> None:
    """Write CLIP as transformers reads it."""
    state = {name: tensor.contiguous() for name, tensor in backbone.clip.state_dict().items()}
    weights = save(state, {"format": "pt"})
    write_whole(folder / "model.safetensors", lambda file: file.write(weights))
    write_json(
        folder / "config.json", {"architectures": ["CLIPModel"], "model_type": "clip", **config}
    )
