"""Every number of a training run, named once. The model's own numbers are in `disa.config.ModelConfig`.

[B] marks what the published baseline does, [D] a decision of this project (docs/decisions.md).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from disa.errors import DisaError

RUNTIME_FIELDS = (  # free on resume: they change no number, or its last digits
    "workers", "log_every", "checkpoint_every", "checkpoints", "evaluate_every", "evaluate_images",
    "micro_batch", "recompute", "compile",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """One run. Raises `DisaError` for values that contradict each other or make no sense."""

    steps: int = 2000  # optimizer steps
    batch: int = 8  # images a step, of all processes together
    lr: float = 2e-4  # peak learning rate of the head [B]
    clip_lr_scale: float = (
        0.01  # CLIP's learning rate as a share of the head's [B]; a tiny CLIP takes 0.05-0.1 [D]
    )
    weight_decay: float = 1e-4  # on matrices only; norms and biases have none [B]
    warmup: int = 50  # steps of linear warm-up before the cosine [D]
    clip_norm: float = 0.01  # largest gradient norm over all parameters [B]
    seed: int = 0  # of the weights, the scenes, their flips and the sampled categories

    image_size: int = 0  # pixels per side of a training crop; 0: the model's `backbone_image_size`
    flip: bool = True  # mirror every other scene
    scale_jitter: float = 0.0  # scenes and images are up to this share larger, then cropped; 0: off
    scale_shrink: float = (
        0.0  # ... or up to this share smaller, then padded with grey that is ignored; 0: off
    )
    colour_jitter: bool = (
        False  # change brightness, contrast, saturation and hue of images (not of scenes) [B]
    )
    largest_share: float = (
        1.0  # crops of images in which one category has more are drawn again; 1: off [B]
    )
    categories: int = (
        0  # labels per step: those present in the batch, then absent ones at random; 0: all
    )
    templates: tuple[
        str, ...
    ] = ()  # prompts drawn from these at each step; empty: the model's own, always

    precision: Literal["fp32", "bf16", "fp16"] = (
        "fp32"  # of the forward pass; weights and losses are 32 bit always
    )
    ema: float = 0.0  # decay per step of the averaged weights that are kept at the end; 0: off

    micro_batch: int = (
        0  # images that a process computes at a time, their gradients added up; 0: its whole share
    )
    recompute: bool = False  # compute activations again for the gradient instead of keeping them: less memory, slower
    compile: bool = False  # torch.compile: minutes before the first step, then faster

    workers: int = (
        1  # processes that make samples, per training process; 0: in the training process
    )
    log_every: int = 10  # steps between lines of log.jsonl
    checkpoint_every: int = 100  # steps between checkpoints
    checkpoints: int = 2  # how many to keep, the last ones
    evaluate_every: int = 0  # steps between evaluations; 0: only after the last
    evaluate_images: int = (
        100  # images (of picturebook: scenes) per evaluation, the first ones; 0: none at all
    )

    def __post_init__(self) -> None:
        """Refuse impossible numbers before anything is computed."""
        for name in ("steps", "batch", "log_every", "checkpoint_every", "checkpoints"):
            if getattr(self, name) < 1:
                raise DisaError(f"{name}={getattr(self, name)}: must be at least 1")
        not_negative = (
            "warmup",
            "image_size",
            "categories",
            "workers",
            "evaluate_every",
            "evaluate_images",
            "seed",
        )
        for name in (*not_negative, "micro_batch"):
            if getattr(self, name) < 0:
                raise DisaError(f"{name}={getattr(self, name)}: must not be negative")
        for name in ("lr", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise DisaError(f"{name}={getattr(self, name)}: must be above 0")
        for name in ("clip_lr_scale", "weight_decay", "scale_jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DisaError(f"{name}={getattr(self, name)}: must not be negative")
        if not 0 <= self.scale_shrink < 1:
            raise DisaError(f"scale_shrink={self.scale_shrink}: must be at least 0 and below 1")
        if not 0 < self.largest_share <= 1:
            raise DisaError(f"largest_share={self.largest_share}: must be above 0 and at most 1")
        for name, most in (
            ("batch", 4096),
            ("image_size", 8192),
            ("scale_jitter", 9.0),
            ("seed", 2**31 - 1),
        ):
            if (
                getattr(self, name) > most
            ):  # a slip of the hand that would fill the memory, or no generator takes
                raise DisaError(f"{name}={getattr(self, name)}: must be at most {most}")
        if broken := [template for template in self.templates if template.count("{}") != 1]:
            raise DisaError(
                f'templates: "{broken[0]}" must have {{}} once, as in "a picture of a {{}}"'
            )
        if self.evaluate_every and not self.evaluate_images:
            raise DisaError(
                f"evaluate_every={self.evaluate_every}, evaluate_images=0: leave out one of them"
            )
        if not 0 <= self.ema < 1:
            raise DisaError(f"ema={self.ema}: must be at least 0 and below 1, e.g. 0.999")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TrainConfig":
        """Read what `to_dict` wrote. Raises `DisaError` naming unknown fields."""
        if unknown := sorted(set(data) - {field.name for field in fields(cls)}):
            raise DisaError(f"training settings: unknown fields {', '.join(unknown)}")
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in data.items()
        }
        return cls(**values)

    def conflicts(self, other: "TrainConfig") -> list[str]:
        """Name the fields in which a resumed run may not differ from the one that it continues."""
        names = [field.name for field in fields(self) if field.name not in RUNTIME_FIELDS]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


_FROM_SCRATCH = TrainConfig(
    steps=1000,
    batch=8,
    lr=3e-3,
    clip_lr_scale=0.05,
    clip_norm=1.0,
    warmup=100,
    categories=12,
    precision="bf16",
)
_PUBLISHED = TrainConfig(
    steps=80_000, batch=4, lr=2e-4, clip_lr_scale=0.01, clip_norm=0.01, warmup=0, colour_jitter=True
)


def recipe_settings(recipe: str) -> TrainConfig:
    """Return the settings that go with a recipe of `disa/recipes.py`: the tiny CLIP's [D], or the published [B]."""
    return _FROM_SCRATCH if recipe.startswith("mini") else _PUBLISHED


Config = TypeVar("Config")


def by_name(settings: Iterable[str]) -> dict[str, str]:
    """Return "name=value" texts as name -> value, the last of a name. Raises `DisaError` for one without a =."""
    parts = {setting: setting.partition("=") for setting in settings}
    for setting, (_, equals, _) in parts.items():
        if not equals:
            raise DisaError(f"--set {setting}: write name=value, such as seed=1")
    return {name: value for name, _, value in parts.values()}


def changed(config: Config, changes: Mapping[str, str]) -> Config:
    """Return a dataclass with fields replaced by values given as text (`--set name=value`).

    Raises `DisaError` for an unknown field and for a value that is not of the field's type.
    """
    kinds, known = get_type_hints(type(config)), settable(type(config))
    for name, text in changes.items():
        if name not in known:
            raise DisaError(
                f"--set {name}={text}: no such setting; known are {', '.join(sorted(known))}"
            )
    values = {name: _parsed(name, text, kinds[name]) for name, text in changes.items()}
    return replace(config, **values)  # type: ignore[type-var]


def settable(kind: type) -> list[str]:
    """Return the names of the fields that can be given as text."""
    return [name for name, hint in get_type_hints(kind).items() if get_origin(hint) is not dict]


def _parsed(name: str, text: str, kind: Any) -> Any:
    choices = get_args(kind)
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
        if get_origin(kind) is tuple:
            values = tuple(choices[0](part.strip()) for part in text.split(",") if part.strip())
            if choices[-1] is Ellipsis or len(values) == len(choices):
                return values
            raise ValueError
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "")
        wanted = (
            f"{len(choices)} values with a comma between" if get_origin(kind) is tuple else wanted
        )
        raise DisaError(f"--set {name}={text}: the value must be {wanted}") from None
    if text in choices:
        return text
    raise DisaError(f"--set {name}={text}: use one of {', '.join(map(str, choices))}")
