"""What the study compares: named changes of the paper's network, grouped by the question that they answer.

A row says what is different from `REFERENCE`, DiSa with the settings that the paper states; everything else is equal,
the random start of the parts that two networks share included (`disa.model.starts`).
"""

from typing import NamedTuple

_PAPER = {
    "saliency_split": "top_k",
    "saliency_itm_head": "compare",
}  # the recipe `mini` has better ones for masks
_NO_REWEIGHTING = {"refine_category_reweight": "false", "refine_semantic": "false"}
_PIXEL_ALONE = {"refine_category": "false"} | _NO_REWEIGHTING
_CATEGORY_ALONE = {"refine_pixel": "false", "refine_semantic": "false"}
_SEMANTIC_ALONE = {
    "refine_pixel": "false",
    "refine_category": "false",
    "refine_category_reweight": "false",
}


class Variant(NamedTuple):
    """A network of the study: a recipe, and `disa train --set` for each of the changes."""

    name: str
    recipe: str
    changes: dict[str, str]


def _disa(name: str, **changes: str) -> Variant:
    return Variant(name, "mini", _PAPER | changes)


def _baseline(name: str, **changes: str) -> Variant:
    return Variant(name, "mini-baseline", changes)


REFERENCE = _disa("DiSa, as the paper states it")

QUESTIONS: dict[str, tuple[Variant, ...]] = {
    "What does each part bring?": (
        _baseline("baseline (CAT-Seg)"),
        _baseline("baseline + SDM", disentangle="true", **_PAPER),
        _baseline("baseline + category reweighting", refine_category_reweight="true"),
        _baseline("baseline + semantic reweighting", refine_semantic="true"),
    ),
    "Which saliency?": (
        _disa("saliency: plain attention", saliency_source="attention"),
        _disa("saliency: gradient of the matching loss", saliency_source="loss_gradient"),
    ),
    "How to split the tokens?": (
        _disa("split: the best 5 %", saliency_top_share="0.05"),
        _disa("split: the best 33 %", saliency_top_share="0.33"),
        _disa("split: 70 % of the saliency", saliency_split="mass"),
        _disa("split: above 20 % of the peak", saliency_split="relative"),
        _disa("split: soft", saliency_split="soft"),
    ),
    "How to join the two sides?": (
        _disa("aggregation: sum", disentangle_aggregation="sum"),
        _disa("aggregation: concatenation", disentangle_aggregation="concat"),
    ),
    "Which refinement?": (
        _disa("refinement: pixel-wise alone", **_PIXEL_ALONE),
        _disa("refinement: category-wise alone", **_CATEGORY_ALONE),
        _disa("refinement: semantic-wise alone", **_SEMANTIC_ALONE),
    ),
    "How much of CLIP trains?": (
        _disa("CLIP: frozen", backbone_finetune="frozen"),
        _disa("CLIP: queries and keys", backbone_finetune="qk"),
    ),
    "How much does matching weigh?": (
        _disa("matching loss: weight 0", loss_itm_weight="0"),
        _disa("matching loss: weight 1", loss_itm_weight="1"),
    ),
    "Which matching head?": (
        _disa("matching head: product", saliency_itm_head="product"),
        _disa("matching head: linear", saliency_itm_head="linear"),
        _disa(
            "product head and split above 20 %",
            saliency_itm_head="product",
            saliency_split="relative",
        ),
    ),
}

VARIANTS: tuple[Variant, ...] = (
    REFERENCE,
    *(variant for group in QUESTIONS.values() for variant in group),
)


def folder_name(name: str) -> str:
    """Return a variant's name as the name of a folder: small letters and digits, with single hyphens between."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
