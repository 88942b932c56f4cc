"""What the ablation compares: named changes of one network, grouped by the question they answer."""

from dataclasses import dataclass
from typing import Any

# The paper's settings; the recipe `mini` has others, which make better masks.
PAPER = {"saliency_split": "top_k", "saliency_itm_head": "compare", "saliency_trains": "all"}
PUBLISHED_DECODER = {"decode_detail_channels": 0, "decode_enlarge": False}
# The recipe's own settings of the SDM, which are not the paper's.
MINI = {"saliency_split": "relative", "saliency_itm_head": "product", "saliency_trains": "scale"}
NO_REWEIGHTING = {"refine_category_reweight": False, "refine_semantic": False}

THINGS = {"things": True}  # as in the recipe; these variants cannot do without


@dataclass(frozen=True)
class Variant:
    """A network: a recipe, and the settings of `disa train --set` that are changed in it."""

    name: str
    recipe: str
    changes: dict[str, Any]

    @property
    def folder(self) -> str:
        """The name as a folder's: small letters and digits with single hyphens between."""
        letters = [letter if letter.isalnum() else " " for letter in self.name.lower()]
        return "-".join("".join(letters).split())


def disa(name: str, **changes: Any) -> Variant:
    """Return DiSa as the paper states it, with the decoder of `mini` and these changes."""
    return Variant(name, "mini", PAPER | changes)


def baseline(name: str, **changes: Any) -> Variant:
    """Return the baseline, with the decoder of `mini` and these changes."""
    return Variant(name, "mini-baseline", changes)


REFERENCE = disa("DiSa, as the paper states it")
BASELINE = baseline("baseline (CAT-Seg)")

QUESTIONS: dict[str, tuple[Variant, ...]] = {
    "What does each part bring?": (
        BASELINE,
        baseline("baseline + SDM", disentangle=True, **PAPER),
        baseline("baseline + category reweighting", refine_category_reweight=True),
        baseline("baseline + semantic reweighting", refine_semantic=True),
    ),
    "What does the decoder bring?": (
        baseline("baseline, published decoder", **PUBLISHED_DECODER),
        disa("DiSa, published decoder", **PUBLISHED_DECODER),
    ),
    "What is the foreground good for?": (
        disa("things as the split", saliency_source="things", saliency_split="relative", **THINGS),
        disa("the decoder reads the foreground", decode_foreground=True, **THINGS),
        disa("DiSa, the settings of mini", **MINI),
        disa("mini, aggregation: sum", disentangle_aggregation="sum", **MINI),
        disa("mini, the decoder reads the foreground", decode_foreground=True, **MINI, **THINGS),
    ),
    "Which saliency?": (
        disa("saliency: plain attention", saliency_source="attention"),
        disa("saliency: gradient of the matching loss", saliency_source="loss_gradient"),
    ),
    "How to split the tokens?": (
        disa("split: the best 5 %", saliency_top_share=0.05),
        disa("split: the best 33 %", saliency_top_share=0.33),
        disa("split: 70 % of the saliency", saliency_split="mass"),
        disa("split: above 20 % of the peak", saliency_split="relative"),
        disa("split: soft", saliency_split="soft"),
    ),
    "How to join the two sides?": (
        disa("aggregation: sum", disentangle_aggregation="sum"),
        disa("aggregation: concatenation", disentangle_aggregation="concat"),
    ),
    "Which refinement?": (
        disa("refinement: pixel-wise alone", refine_category=False, **NO_REWEIGHTING),
        disa("refinement: category-wise alone", refine_pixel=False, refine_semantic=False),
        disa(
            "refinement: semantic-wise alone",
            refine_pixel=False,
            refine_category=False,
            refine_category_reweight=False,
        ),
    ),
    "How much of CLIP trains?": (
        disa("CLIP: frozen", backbone_finetune="frozen"),
        disa("CLIP: queries and keys", backbone_finetune="qk"),
    ),
    "How much does matching weigh?": (
        disa("matching loss: weight 0", loss_itm_weight=0.0),
        disa("matching loss: weight 1", loss_itm_weight=1.0),
    ),
    "Which matching head?": (
        disa("matching head: product", saliency_itm_head="product"),
        disa("matching head: linear", saliency_itm_head="linear"),
        disa(
            "product head and split above 20 %",
            saliency_itm_head="product",
            saliency_split="relative",
        ),
        disa("matching learns its scale alone", saliency_trains="scale"),
    ),
}

VARIANTS = (REFERENCE, *(variant for group in QUESTIONS.values() for variant in group))
