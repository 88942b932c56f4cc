"""Every number of the pretraining of CLIP. The comment of a field is its help."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from disa.errors import DisaError
from disa.recipes import small_clip
from disa.training.settings import LARGEST, SMALLEST, Range, TrainConfig, check_ranges

# Side of a scene in pixels; a card has half of it. As `disa.picturebook.SIZE`, which loads numpy.
SIDE = 96
RUNTIME_FIELDS = frozenset({"checkpoint_every"})  # free on resume: they change no number
LEAST_TOKENS = 8  # per step: fewer are seldom in all four quarters of a mosaic
MOST_BYTES = 16e9  # of pictures in memory; those of the bundled model take 0.9 GB

# Upper limits catch slips that would fill the memory.
RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("vision_width", "vision_heads", "text_width", "text_heads"), (1, LARGEST)),
    **dict.fromkeys(("text_layers", "context", "vocabulary", "embedding_width"), (1, LARGEST)),
    **dict.fromkeys(("steps", "scene_every", "checkpoint_every"), (1, LARGEST)),
    **dict.fromkeys(("cards", "pool_scenes"), (1, LARGEST)),
    **dict.fromkeys(("weight_decay", "warmup", "local_sharpness"), (0, LARGEST)),
    **dict.fromkeys(("lr", "clip_norm"), (SMALLEST, LARGEST)),
    **dict.fromkeys(("mosaics", "scenes"), (1, 4096)),
    "vision_layers": (2, LARGEST),
    "patch": (1, SIDE),
    "keep_tokens": (SMALLEST, 1),
    "all_tokens_from": (0, 1),
    "seed": (0, 2**31 - 1),  # more than that no random generator takes
}


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of one contrastive run. Raises `DisaError` for values that make no sense."""

    vision_width: int = 160  # Width of the vision tower.
    vision_layers: int = 5  # Layers of the vision tower.
    vision_heads: int = 5  # Attention heads of the vision tower.
    patch: int = 8  # Side of a patch in pixels.
    text_width: int = 128  # Width of the text tower.
    text_layers: int = 2  # Layers of the text tower.
    text_heads: int = 4  # Attention heads of the text tower.
    context: int = 40  # Tokens of a caption or prompt, at most.
    vocabulary: int = 1024  # Entries of the tokenizer, at most.
    embedding_width: int = 128  # Width of the embeddings.

    steps: int = 4000  # Optimizer steps.
    mosaics: int = 64  # Pictures of four cards in a batch of mosaics.
    scenes: int = 96  # Pictures in a batch of scenes.
    scene_every: int = 3  # Every so many steps the batch is one of scenes.
    lr: float = 1e-3  # Peak learning rate.
    weight_decay: float = 0.05  # Weight decay of matrices; norms and biases have none.
    warmup: int = 200  # Steps of linear warm-up before the cosine schedule.
    clip_norm: float = 1.0  # Largest norm of the gradient over all parameters.
    # How much more a caption looks at the tokens of a quarter that fit it; 0: equally at all.
    local_sharpness: float = 4.0
    keep_tokens: float = 0.5  # Share of the patch tokens that a step sees.
    all_tokens_from: float = 0.85  # Share of the steps after which it sees all of them.
    precision: Literal["fp32", "bf16"] = "bf16"  # Precision of the forward pass.
    cards: int = 100_000  # Cards drawn before the first step.
    pool_scenes: int = 24_000  # Scenes drawn before the first step.
    seed: int = 0  # Seed of weights and pictures.
    checkpoint_every: int = 250  # Steps between checkpoints.

    def __post_init__(self) -> None:
        """Refuse impossible numbers before anything is drawn."""
        check_ranges(self, RANGES)
        size = 3 * SIDE**2 * (self.cards / 4 + self.pool_scenes)
        if size > MOST_BYTES:
            raise DisaError(
                f"cards={self.cards}, pool_scenes={self.pool_scenes}: the pictures would take "
                f"{size / 1e9:,.0f} GB of memory; at most {MOST_BYTES / 1e9:.0f} GB are allowed"
            )
        for tower in ("vision", "text"):
            width = getattr(self, f"{tower}_width")
            heads = getattr(self, f"{tower}_heads")
            if width % heads:
                raise DisaError(f"{tower}_heads={heads}: must divide {tower}_width={width}")
        if SIDE % self.patch or self.grid % 2:
            raise DisaError(
                f"patch={self.patch}: the {SIDE} pixels of a scene must be an even number of "
                "patches"
            )
        if self.kept_tokens < LEAST_TOKENS:
            raise DisaError(
                f"keep_tokens={self.keep_tokens}: of {self.grid**2} tokens at least {LEAST_TOKENS} "
                f"must be kept; set it to {LEAST_TOKENS / self.grid**2:.2f} or more"
            )

    @property
    def grid(self) -> int:
        """Tokens a side of a picture."""
        return SIDE // self.patch

    @property
    def kept_tokens(self) -> int:
        """How many of a picture's tokens a step sees."""
        return round(self.keep_tokens * self.grid**2)

    def drops_tokens(self, step: int) -> bool:
        """Whether a step sees only some of the tokens."""
        return self.keep_tokens < 1 and step < self.all_tokens_from * self.steps

    def schedule(self) -> TrainConfig:
        """Return what the optimizer and the loop of training need to know."""
        return TrainConfig(
            steps=self.steps,
            warmup=self.warmup,
            lr=self.lr,
            weight_decay=self.weight_decay,
            clip_lr_scale=1.0,  # there is no head that would be faster
            clip_norm=self.clip_norm,
            precision=self.precision,
            checkpoint_every=self.checkpoint_every,
        )

    def clip_config(self, vocabulary: int) -> dict[str, Any]:
        """Return what `transformers.CLIPConfig` takes, for a tokenizer of `vocabulary` entries."""
        return small_clip(
            self.embedding_width,
            text=(self.text_width, self.text_layers, self.text_heads),
            vision=(self.vision_width, self.vision_layers, self.vision_heads),
            patch=self.patch,
            image=SIDE,
            vocabulary=vocabulary,
            context=self.context,
        )
