"""Every size and every choice of the network, named once.

The prefix of a field names the file of `disa/model/` whose behaviour it sets; fields without a
prefix belong to the whole, `disa/model/disa.py`. [P] marks what the paper states (arXiv
2601.20064), [B] what its published baseline CAT-Seg does (docs/baseline.md), [D] a decision of
this project (docs/decisions.md).

Letters used for shapes everywhere: `b` images, `t` labels, `p` prompts per label, `d` width of
CLIP's embeddings, `c` channels of the cost volume, `h w` grid of tokens, `n = h w` tokens, `k`
foreground tokens, `a` heads, `H W` pixels.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from disa.errors import DisaError

Finetune = Literal["frozen", "qk", "qv", "full"]  # the weights of CLIP that train

# Settings of older versions, with the only value that this version still computes.
RETIRED = {
    "saliency_detach": True,
    "max_categories_by": "cosine",
    "loss_dice_weight": 0.0,
    "decode_image_channels": 0,
}


IGNORED = -1  # in a target: a pixel of no known label, which no loss compares (decision D82)


@dataclass(frozen=True)
class ModelConfig:
    """The whole network. Defaults are the paper's for ViT-B/16; `recipes.py` has all forms."""

    # Backbone: CLIP, or SigLIP 2 by its `model_type`, as transformers' configuration describes it.
    backbone_clip: dict[str, Any]
    # Pixels of the short side of the input [B].
    backbone_image_size: int = 384
    # Two image blocks, counted from 0, whose outputs guide the steps of the decoder [B].
    backbone_guidance_blocks: tuple[int, int] = (3, 7)
    # [B] trains queries and values; the paper speaks of queries and keys.
    backbone_finetune: Finetune = "qv"
    # Sentences around a label; each gives one prompt, and so one channel of the cosines [B].
    backbone_templates: tuple[str, ...] = ("A photo of a {} in the scene",)

    # Cost volume
    cost_channels: int = 128  # c [P]
    cost_kernel: int = 7  # tokens a side of the convolution that embeds the cosines [B]

    # The whole SDM: saliency, branches and aggregation; False: the baseline's path [P].
    disentangle: bool = True

    # Saliency, the first half of the SDM
    saliency_layers: int = 3  # of cross-attention [D]
    saliency_heads: int = 8  # a [D]
    # What reads the matched logit; `linear` memorises the training labels [D].
    saliency_itm_head: Literal["compare", "product", "linear"] = "compare"
    # What the matching loss trains: everything, or only the scale and bias of its logit [D].
    saliency_trains: Literal["all", "scale"] = "all"
    # What makes a token salient; the others are for comparison [P].
    saliency_source: Literal["gradcam", "attention", "loss_gradient", "things"] = "gradcam"
    # How tokens are told apart by their saliency; the others are for comparison [P].
    saliency_split: Literal["top_k", "relative", "mass", "soft"] = "top_k"
    saliency_top_share: float = 96 / 576  # `top_k`: k / n, in (0, 1) [P]
    saliency_relative_threshold: float = 0.2  # `relative`: share of the smoothed peak [D]
    saliency_mass: float = 0.7  # `mass`: share of the saliency that the foreground holds [D]

    # Branches and aggregation, the second half of the SDM
    disentangle_heads: int = 4  # of each branch's self-attention [D]
    # How a token joins its own side's feature with the other's; the others are for comparison [P].
    disentangle_aggregation: Literal["weighted", "sum", "concat"] = "weighted"

    # Refinement (HRM)
    refine_levels: int = 2  # repetitions of the refinements [B]
    refine_heads: int = 4  # of both attentions [B]
    refine_window: int = 12  # tokens a side of a Swin window [B]
    refine_guidance_channels: int = 128  # g, of the projected guidance, visual and text [B]
    refine_padding: int = 256  # labels to which the attention between labels is padded [B]
    refine_pool_train: int = 2  # pooling before the attention between labels, in training [B]
    refine_pool_test: int = 1  # and in evaluation [B]
    # The parts of a level, each of which can be off: two of [B], two that DiSa adds [P].
    refine_pixel: bool = True
    refine_category: bool = True
    refine_category_reweight: bool = True
    refine_semantic: bool = True

    # Decoder: a pair of channels is of its two upsampling steps.
    decode_channels: tuple[int, int] = (64, 32)  # of their results [B]
    decode_guidance_source: tuple[int, int] = (256, 128)  # of the enlarged maps of CLIP [B]
    decode_guidance_channels: tuple[int, int] = (32, 16)  # of the projections of these [B]
    # Of a map of the image's details at its own size, which guides both steps; 0: none [D].
    decode_detail_channels: int = 0
    decode_enlarge: bool = False  # logits for every pixel, along the edges of the image [D]
    # The saliency of each label and the things guide the decoder, too [D].
    decode_foreground: bool = False

    # One more logit: is this a thing, whatever the labels are [D]?
    things: bool = False

    # Beyond this many labels only the likeliest go through the head [B] ...
    max_categories: int = 256
    # ... and the others get this logit [B].
    dropped_logit: float = -100.0

    # Losses: ignored pixels count as "none of the labels" [B], or not at all [D].
    loss_ignored: Literal["negative", "masked"] = "negative"
    loss_itm_weight: float = 0.1  # lambda of the matching loss [D]
    loss_thing_weight: float = 0.1  # of the loss of things against stuff [D]

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
                _check_retired(name, value)
                continue
            if name not in known:
                raise DisaError(
                    f"config: unknown field {name}; was it written by a newer version of disa?"
                )
            # JSON has no tuples.
            values[name] = tuple(value) if isinstance(value, list) else value

        if "backbone_clip" not in values:
            raise DisaError("config: the field backbone_clip is missing")
        return cls(**values)


def _check_retired(name: str, value: Any) -> None:
    if value != RETIRED[name]:
        raise DisaError(
            f"config: {name}={value} is no longer computed, only {RETIRED[name]}; install the "
            "version of disa that wrote it"
        )
