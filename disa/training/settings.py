"""Every number of a training run, named once. The comment of a field is its help.

The network's own numbers are in `disa.config.ModelConfig`. [B] marks what the published baseline
does (docs/baseline.md), [D] a decision of this project (docs/decisions.md).
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from disa.errors import DisaError

# A resumed run may change these: they change no number, or only its last digits.
RUNTIME_FIELDS = frozenset({
    "workers", "log_every", "checkpoint_every", "checkpoints", "evaluate_every",
    "evaluate_images", "micro_batch", "recompute", "compile",
})  # fmt: skip
Range = tuple[int | float, int | float]  # smallest and largest value
LARGEST = sys.float_info.max
SMALLEST = sys.float_info.min

# Upper limits catch slips that would fill the memory.
RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("steps", "log_every", "checkpoint_every", "checkpoints"), (1, LARGEST)),
    **dict.fromkeys(("lr", "clip_norm"), (SMALLEST, LARGEST)),
    **dict.fromkeys(("clip_lr_scale", "weight_decay", "warmup", "categories"), (0, LARGEST)),
    **dict.fromkeys(("micro_batch", "workers", "evaluate_every", "evaluate_images"), (0, LARGEST)),
    "batch": (1, 4096),
    "seed": (0, 2**31 - 1),  # more than that no random generator takes
    "scale_jitter": (0, 9),
    "ema": (0, 0.999999),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. Raises `DisaError` for values that are out of range or contradictory."""

    steps: int = 80_000  # Optimizer steps.
    batch: int = 4  # Images per step, of all processes together.
    lr: float = 2e-4  # Peak learning rate of the head [B].
    # CLIP's learning rate as a share of the head's [B]; a tiny CLIP needs 0.05 to 0.1 [D].
    clip_lr_scale: float = 0.01
    weight_decay: float = 1e-4  # Weight decay of matrices; norms and biases have none [B].
    warmup: int = 0  # Steps of linear warm-up before the cosine schedule [D].
    clip_norm: float = 0.01  # Largest norm of the gradient over all parameters [B].
    seed: int = 0  # Seed of weights, order of samples, augmentation and sampled labels.

    flip: bool = True  # Whether to mirror every other image.
    scale_jitter: float = 0.0  # Enlarge images by up to this share before they are cropped.
    colour_jitter: bool = True  # Whether to change the colours of photographs [B].
    # Labels per step: those in the batch, filled up with absent ones at random; 0: all labels.
    categories: int = 0

    # Precision of the forward pass; weights and losses always have 32 bits.
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema: float = 0.0  # Decay per step of the averaged weights that become the model; 0: none.
    # Images that a process computes at a time, adding up gradients; 0: its whole share of a batch.
    micro_batch: int = 0
    recompute: bool = False  # Compute activations again for the gradient: less memory, slower.
    compile: bool = False  # Use torch.compile: minutes before the first step, then faster.

    # Processes that prepare samples, for each training process; 0: the training process does it.
    workers: int = 1
    log_every: int = 10  # Steps between lines of log.jsonl.
    checkpoint_every: int = 100  # Steps between checkpoints.
    checkpoints: int = 2  # Number of checkpoints to keep.
    evaluate_every: int = 0  # Steps between evaluations; 0: only after the last step.
    evaluate_images: int = 100  # Images per evaluation, the first ones of the split val; 0: never.

    def __post_init__(self) -> None:
        """Refuse impossible numbers before anything is computed."""
        check_ranges(self, RANGES)
        if self.evaluate_every and not self.evaluate_images:
            raise DisaError(
                f"evaluate_every={self.evaluate_every}, evaluate_images=0: leave out one of them"
            )


def recipe_settings(recipe: str) -> TrainConfig:
    """Return the training settings of a recipe of `disa/recipes.py`.

    Recipes with OpenAI's CLIP have the published schedule, which is the default [B]; `mini` and its
    baseline one for a tiny CLIP and drawn scenes [D].
    """
    published = TrainConfig()
    if not recipe.startswith("mini"):
        return published
    return replace(
        published,
        steps=2800,
        batch=8,
        lr=2.5e-3,
        clip_lr_scale=0.05,
        clip_norm=1.0,
        warmup=100,
        ema=0.998,
        colour_jitter=False,
        categories=12,
        precision="bf16",
    )


def check_ranges(record: object, ranges: Mapping[str, Range]) -> None:
    """Raise `DisaError` naming the first field that is out of its range or not a number."""
    for name, (least, most) in ranges.items():
        value = getattr(record, name)
        if least <= value <= most:
            continue
        raise DisaError(f"{name}={value}: must be {_limits(least, most)}")


def _limits(least: int | float, most: int | float) -> str:
    if least == SMALLEST:
        return "above 0" if most == LARGEST else f"above 0 and at most {most}"
    return f"at least {least}" if most == LARGEST else f"from {least} to {most}"
