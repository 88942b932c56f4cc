"""Every number of the model, named once. A field's prefix names the file of `disa/model/` that reads it.

Letters used throughout: `b` images, `t` categories, `p` prompts per category, `d` CLIP embedding width, `c` cost
channels, `h w` token grid, `n = h w` tokens, `k` foreground tokens, `a` heads, `H W` pixels.

[P] marks what the paper states (arXiv 2601.20064), [B] what its published baseline CAT-Seg does, [D] a decision of
this project (docs/decisions.md).
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from disa.errors import DisaError


@dataclass(frozen=True)
class ModelConfig:
    """The whole network. Defaults are the paper's for ViT-B/16; `recipes.py` holds the named configurations.

    Raises `DisaError` for a value of another type than its field's, and for numbers that fit no network.
    """

    # backbone.py: transformers' CLIP, built from `CLIPConfig(**backbone_clip)`
    backbone_clip: dict[str, Any]
    backbone_image_size: int = 384  # pixels of the short side of CLIP's input [B]
    backbone_guidance_blocks: tuple[int, int] = (3, 7)  # 0-based vision blocks tapped for decoder steps 1 and 2 [B]
    backbone_finetune: Literal["frozen", "qk", "qv", "full"] = "qv"  # which CLIP weights train [B]; [P] speaks of qk
    backbone_templates: tuple[str, ...] = ("A photo of a {} in the scene",)  # prompts, one embedding each [B]

    # cost.py
    cost_channels: int = 128  # c [P]
    cost_kernel: int = 7  # pixels of the embedding convolution [B]

    # saliency.py (part of the SDM)
    disentangle: bool = True  # the whole SDM; False: the baseline's path [P]
    saliency_layers: int = 3  # cross-attention layers [D]
    saliency_heads: int = 8  # a [D]
    saliency_itm_head: Literal["compare", "product", "linear"] = "compare"  # [D]; linear memorises the training labels
    saliency_source: Literal["gradcam", "attention", "cosine", "loss_gradient"] = "gradcam"  # [P] gradcam
    saliency_detach: bool = True  # ITM's gradient does not reach CLIP [D]
    saliency_split: Literal["top_k", "relative", "mass", "soft"] = "top_k"  # [P] top_k
    saliency_top_share: float = 96 / 576  # k / n, in (0, 1) [P]
    saliency_relative_threshold: float = 0.2  # share of the smoothed peak [D]
    saliency_mass: float = 0.7  # share of the saliency held by the foreground [D]

    # disentangle.py (part of the SDM)
    disentangle_heads: int = 4  # heads of each branch's self-attention [D]
    disentangle_aggregation: Literal["weighted", "sum", "concat"] = "weighted"  # [P] weighted

    # refine.py
    refine_levels: int = 2  # repetitions of the three refinements [D], [B] 2
    refine_heads: int = 4  # [B]
    refine_window: int = 12  # tokens per side of a Swin window [B]
    refine_guidance_channels: int = 128  # projected visual and text guidance [B]
    refine_padding: int = 256  # category-wise attention is padded to this many categories with learned tokens [B]
    refine_pixel: bool = True  # pixel-wise Swin pair [P]
    refine_category: bool = True  # category-wise attention [P]
    refine_category_reweight: bool = True  # DiSa's reweighting of categories [P]
    refine_semantic: bool = True  # DiSa's channel reweighting [P]
    refine_pool_train: int = 2  # pooling of category-wise attention in training [B]
    refine_pool_test: int = 1  # and in evaluation [B]

    # decode.py
    decode_channels: tuple[int, int] = (64, 32)  # channels after each x2 step [B]
    decode_guidance_source: tuple[int, int] = (256, 128)  # channels of the upsampled CLIP maps [B]
    decode_guidance_channels: tuple[int, int] = (32, 16)  # and of their projections [B]
    decode_image_channels: int = 0  # channels of the image's own edges, added to the second step's guidance; 0: off [D]

    # disa.py
    max_categories: int = 256  # beyond this, only the likeliest go through the head; the others get `dropped_logit` [B]
    max_categories_by: Literal["cosine", "itm"] = "cosine"  # how the likeliest are ranked: [B] best token, [D] ITM gate
    dropped_logit: float = -100.0  # [B]

    # losses.py
    loss_ignored: Literal["negative", "masked"] = "negative"  # ignored pixels: all-zero targets [B] or left out
    loss_itm_weight: float = 0.1  # lambda of the ITM loss [D]
    loss_dice_weight: float = 0.0  # weight of a soft dice loss per category; 0: off [D]

    def __post_init__(self) -> None:
        """Refuse a damaged file or a slip of the hand by the field's name, before any tensor is made."""
        for name, hint in _hints().items():
            value = getattr(self, name)
            if not _fits(value, hint):
                raise DisaError(f"{name}={value!r}: must be {_said(hint)}")
            if hint is int or get_args(hint)[:1] == (int,):
                least = 0 if name in _MAY_BE_ZERO else 1
                if min(value if isinstance(value, tuple) else (value,)) < least:
                    raise DisaError(f"{name}={value}: must be at least {least}")
        for name, holds, rule in self._rules():
            if not holds:
                raise DisaError(f"{name}={getattr(self, name)}: must {rule}")

    def _rules(self) -> list[tuple[str, bool, str]]:
        """Return what must hold between numbers: field, whether it does, and the rule in words."""
        c, d = self.cost_channels, self.backbone_clip.get("projection_dim", self.saliency_heads)
        (out1, out2), (guide1, guide2) = self.decode_channels, self.decode_guidance_channels
        attends = self.refine_pixel or self.refine_category
        templates, threshold = self.backbone_templates, self.saliency_relative_threshold
        return [
            ("backbone_templates", len(templates) > 0, "hold one prompt at least"),
            ("backbone_templates", all(text.count("{}") == 1 for text in templates), "have {} once in each prompt"),
            ("cost_kernel", self.cost_kernel % 2 == 1, "be odd"),
            ("saliency_heads", not self.disentangle or d % self.saliency_heads == 0, f"divide CLIP's width, {d}"),
            ("saliency_top_share", 0 < self.saliency_top_share < 1, "be above 0 and below 1"),
            ("saliency_relative_threshold", 0 <= threshold < 1, "be at least 0 and below 1"),
            ("saliency_mass", 0 < self.saliency_mass <= 1, "be above 0 and at most 1"),
            ("disentangle_heads", not self.disentangle or c % self.disentangle_heads == 0, f"divide cost_channels={c}"),
            ("refine_heads", not attends or c % self.refine_heads == 0, f"divide cost_channels={c}"),
            ("decode_guidance_channels", guide1 < c, f"begin below cost_channels={c}"),
            ("decode_guidance_channels", guide2 < out1, f"end below the {out1} of decode_channels"),
            ("decode_channels", all(n % max(1, n // 16) == 0 for n in (out1, out2)), "be groups of 16, or below 32"),
            ("loss_itm_weight", self.loss_itm_weight >= 0, "not be negative"),
            ("loss_dice_weight", self.loss_dice_weight >= 0, "not be negative"),
        ]

    def replace(self, **changes: Any) -> "ModelConfig":
        """Return a copy with the named fields changed; an unknown name raises `TypeError`."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelConfig":
        """Read what `to_dict` wrote. Raises `DisaError` naming unknown, missing or wrong fields."""
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - names):
            raise DisaError(f"config: unknown fields {', '.join(unknown)}; was it written by a newer version of disa?")
        if "backbone_clip" not in data:
            raise DisaError("config: the field backbone_clip is missing")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return cls(**values)


_MAY_BE_ZERO = ("backbone_guidance_blocks", "refine_levels", "refine_padding", "decode_image_channels")


@lru_cache(maxsize=1)
def _hints() -> dict[str, Any]:
    return get_type_hints(ModelConfig)


def _fits(value: object, hint: Any) -> bool:
    """Tell whether a value is of a field's type; a whole number may stand for a float, true and false for no number."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return isinstance(value, str) and value in inner
    if kind is tuple:
        counted = inner[-1] is Ellipsis or (isinstance(value, tuple) and len(value) == len(inner))
        return isinstance(value, tuple) and counted and all(_fits(part, inner[0]) for part in value)
    if kind is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _said(hint: Any) -> str:
    """Return what a field takes, in words."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return f"one of {', '.join(inner)}"
    if kind is tuple:
        many = "any number of" if inner[-1] is Ellipsis else str(len(inner))
        return f"a list of {many} {'texts' if inner[0] is str else 'whole numbers'}"
    words = {bool: "true or false", int: "a whole number", float: "a number", dict: "a mapping"}
    return words[kind or hint]
