"""Every number of the model, named once. A field's prefix names the file of `disa/model/` that reads it.

Letters used throughout: `b` images, `t` categories, `p` prompts per category, `d` CLIP embedding width, `c` cost
channels, `h w` token grid, `n = h w` tokens, `k` foreground tokens, `a` heads, `H W` pixels.

[P] marks what the paper states (arXiv 2601.20064), [B] what its published baseline CAT-Seg does, [D] a decision of
this project (docs/decisions.md).
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from disa.errors import DisaError


@dataclass(frozen=True)
class ModelConfig:
    """The whole network. Defaults are the paper's for ViT-B/16; `recipes.py` holds the named configurations."""

    # backbone.py: transformers' CLIP, built from `CLIPConfig(**backbone_clip)`
    backbone_clip: dict[str, Any]
    backbone_image_size: int = 384  # pixels of the short side of CLIP's input [B]
    backbone_guidance_blocks: tuple[int, int] = (
        3,
        7,
    )  # 0-based vision blocks tapped for decoder steps 1 and 2 [B]
    backbone_finetune: Literal["frozen", "qk", "qv", "full"] = (
        "qv"  # which CLIP weights train [B]; [P] speaks of qk
    )
    backbone_templates: tuple[str, ...] = (
        "A photo of a {} in the scene",
    )  # prompts, one embedding each [B]

    # cost.py
    cost_channels: int = 128  # c [P]
    cost_kernel: int = 7  # pixels of the embedding convolution [B]

    # saliency.py (part of the SDM)
    disentangle: bool = True  # the whole SDM; False: the baseline's path [P]
    saliency_layers: int = 3  # cross-attention layers [D]
    saliency_heads: int = 8  # a [D]
    saliency_itm_head: Literal["compare", "product", "linear"] = (
        "compare"  # [D]; linear memorises the training labels
    )
    saliency_source: Literal["gradcam", "attention", "cosine", "loss_gradient"] = (
        "gradcam"  # [P] gradcam
    )
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
    refine_padding: int = (
        256  # category-wise attention is padded to this many categories with learned tokens [B]
    )
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
    decode_image_channels: int = (
        0  # channels of the image's own edges, added to the second step's guidance; 0: off [D]
    )

    # disa.py
    max_categories: int = 256  # beyond this, only the likeliest go through the head; the others get `dropped_logit` [B]
    max_categories_by: Literal["cosine", "itm"] = (
        "cosine"  # how the likeliest are ranked: [B] best token, [D] ITM gate
    )
    dropped_logit: float = -100.0  # [B]

    # losses.py
    loss_ignored: Literal["negative", "masked"] = (
        "negative"  # ignored pixels: all-zero targets [B] or left out
    )
    loss_itm_weight: float = 0.1  # lambda of the ITM loss [D]
    loss_dice_weight: float = 0.0  # weight of a soft dice loss per category; 0: off [D]

    def replace(self, **changes: Any) -> "ModelConfig":
        """Return a copy with the named fields changed; an unknown name raises `TypeError`."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelConfig":
        """Read what `to_dict` wrote. Raises `DisaError` naming unknown or missing fields."""
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - names):
            raise DisaError(
                f"config: unknown fields {', '.join(unknown)}; was it written by a newer version of disa?"
            )
        if "backbone_clip" not in data:
            raise DisaError("config: the field backbone_clip is missing")
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in data.items()
        }
        return cls(**values)
