"""Every number of the network, named once.

The prefix of a field names the part of the network that it belongs to: `backbone_` is
`disa/model/backbone.py`, and so on. [P] marks what the paper states (arXiv 2601.20064), [B] what
its published baseline CAT-Seg does (docs/baseline.md), [D] a decision of this project
(docs/decisions.md).

Letters used for shapes everywhere: `b` images, `t` labels, `p` prompts per label, `d` width of
CLIP's embeddings, `c` channels of the cost volume, `h w` grid of tokens, `n = h w` tokens, `k`
foreground tokens, `a` heads, `H W` pixels.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from disa.errors import DisaError

# Settings of older versions, with the only value that this version still computes.
RETIRED = {
    "saliency_detach": True,
    "max_categories_by": "cosine",
    "loss_dice_weight": 0.0,
}


IGNORED = -1  # in a target: a pixel of no known label, which no loss compares (decision D82)


@dataclass(frozen=True)
class ModelConfig:
    """The whole network. Defaults are the paper's for ViT-B/16; `recipes.py` has all forms."""

    # CLIP, as transformers builds it from `CLIPConfig(**backbone_clip)`
    backbone_clip: dict[str, Any]
    # Pixels of the short side of CLIP's input [B].
    backbone_image_size: int = 384
    # Vision blocks, counted from 0, whose outputs guide decoder steps 1 and 2 [B].
    backbone_guidance_blocks: tuple[int, int] = (3, 7)
    # Which weights of CLIP train [B]; the paper speaks of queries and keys.
    backbone_finetune: Literal["frozen", "qk", "qv", "full"] = "qv"
    # Prompts around a label, one embedding each [B].
    backbone_templates: tuple[str, ...] = ("A photo of a {} in the scene",)

    # Cost volume
    cost_channels: int = 128  # c [P]
    cost_kernel: int = 7  # tokens a side of the convolution that embeds the cosines [B]

    # Saliency, the first half of the SDM
    disentangle: bool = True  # the whole SDM; False: the baseline's path [P]
    saliency_layers: int = 3  # of cross-attention [D]
    saliency_heads: int = 8  # a [D]
    # How the matched logit is read; `linear` memorises the training labels [D].
    saliency_itm_head: Literal["compare", "product", "linear"] = "compare"
    saliency_source: Literal["gradcam", "attention", "loss_gradient"] = "gradcam"  # [P] gradcam
    saliency_split: Literal["top_k", "relative", "mass", "soft"] = "top_k"  # [P] top_k
    saliency_top_share: float = 96 / 576  # `top_k`: k / n, in (0, 1) [P]
    saliency_relative_threshold: float = 0.2  # `relative`: share of the smoothed peak [D]
    saliency_mass: float = 0.7  # `mass`: share of the saliency held by the foreground [D]

    # Two branches and their aggregation, the second half of the SDM
    disentangle_heads: int = 4  # of each branch's self-attention [D]
    disentangle_aggregation: Literal["weighted", "sum", "concat"] = "weighted"  # [P] weighted

    # Refinement (HRM)
    refine_levels: int = 2  # repetitions of the refinements [D], [B] 2
    refine_heads: int = 4  # [B]
    refine_window: int = 12  # tokens a side of a Swin window [B]
    refine_guidance_channels: int = 128  # of the projected guidance, visual and text [B]
    refine_padding: int = 256  # labels to which the attention between labels is padded [B]
    refine_pixel: bool = True  # pixel-wise Swin pair [P]
    refine_category: bool = True  # attention between labels [P]
    refine_category_reweight: bool = True  # DiSa's weight per label [P]
    refine_semantic: bool = True  # DiSa's weight per channel [P]
    refine_pool_train: int = 2  # pooling before the attention between labels, in training [B]
    refine_pool_test: int = 1  # and in evaluation [B]

    # Decoder
    decode_channels: tuple[int, int] = (64, 32)  # after each x2 step [B]
    decode_guidance_source: tuple[int, int] = (256, 128)  # of the upsampled CLIP maps [B]
    decode_guidance_channels: tuple[int, int] = (32, 16)  # and of their projections [B]
    decode_image_channels: int = 0  # of the image's own edges at the second step; 0: none [D]

    # Beyond this many labels only the likeliest go through the head [B] ...
    max_categories: int = 256
    # ... and the others get this logit [B].
    dropped_logit: float = -100.0

    # Loss
    # Ignored pixels count as "none of the labels" [B], or not at all.
    loss_ignored: Literal["negative", "masked"] = "negative"
    loss_itm_weight: float = 0.1  # lambda of the matching loss [D]

    def replace(self, **changes: Any) -> "ModelConfig":
        """Return a copy with the named fields changed; an unknown name raises `TypeError`."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelConfig":
        """Read what `to_dict` wrote, also in older versions.

        Raises `DisaError` that names unknown or missing fields, and retired ones whose value this
        version cannot compute.
        """
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name in RETIRED:
                if value != RETIRED[name]:
                    raise DisaError(
                        f"config: {name}={value} is no longer computed, only {RETIRED[name]}; "
                        "install the version of disa that wrote it"
                    )
            elif name not in known:
                raise DisaError(
                    f"config: unknown field {name}; was it written by a newer version of disa?"
                )
            else:
                values[name] = tuple(value) if isinstance(value, list) else value
        if "backbone_clip" not in values:
            raise DisaError("config: the field backbone_clip is missing")
        return cls(**values)
