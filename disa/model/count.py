"""How large a model is and how much it computes. `config -> parameters by part, operations by part`

Both work on the meta device: nothing is computed and no memory is taken, also for the largest recipe.
"""

from typing import get_args

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from disa.config import ModelConfig
from disa.model.backbone import Finetune
from disa.model.dense import DenseClip
from disa.model.disa import Disa

# part of the figure -> the modules that belong to it
PARTS = {
    "CLIP visual": ("backbone.clip.vision_model", "backbone.clip.visual_projection"),
    "CLIP text": ("backbone.clip.text_model", "backbone.clip.text_projection"),
    "cost": ("cost",),
    "SDM": ("saliency", "disentangle"),
    "refine": ("refine",),
    "decode": ("decode",),
}


def parameters(model: nn.Module) -> dict[str, int]:
    """Return the number of parameters of each part, and of all as `total`.

    The total holds CLIP's logit scale, one number that belongs to no part, as the published counts do [B].
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    counts = {
        part: sum(
            size
            for name, size in sizes.items()
            if name.startswith(tuple(f"{module}." for module in modules))
        )
        for part, modules in PARTS.items()
    }
    return counts | {"total": sum(sizes.values())}


def trainable(config: ModelConfig) -> dict[str, dict[str, int]]:
    """Return how many parameters each fine-tuning mode trains: mode -> those of `clip`, of the `head`, and `total`.

    What can learn nothing is in no mode (decision D19): the baseline's own count for L in mode `qv`, 70,270,177, holds
    the last image block's queries, one square of the image tower's width more.
    """
    counts: dict[str, dict[str, int]] = {}
    for mode in get_args(Finetune):
        with torch.device("meta"):
            model = Disa(config.replace(backbone_finetune=mode))
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        counts[mode] = {
            part: sum(sizes[name] for name in names)
            for part, names in model.parameter_groups().items()
        }
        counts[mode]["total"] = sum(counts[mode].values())
    return counts


def operations(
    model: Disa | DenseClip, labels: int, size: int | tuple[int, int] | None = None
) -> dict[str, int]:
    """Return the floating-point operations of one image in evaluation, by part, and as `total`.

    Counted is what `torch.utils.flop_counter` counts: matrix products, convolutions and attention, two operations per
    multiplication and addition; not norms, activations and sums. `CLIP text` is what the labels take at the full
    context length, once per vocabulary; the total holds it. `model` is on the meta device. `size` is (height, width) in
    pixels, rounded down to whole patches, by default the model's own.
    """
    config = model.config
    height, width = (
        (size, size) if isinstance(size, int) else size or (config.backbone_image_size,) * 2
    )
    prompts, context = (
        len(config.backbone_templates),
        model.backbone.clip.config.text_config.max_position_embeddings,
    )
    patch = model.eval().backbone.patch_size
    with torch.device("meta"):
        pixels = torch.empty(1, 3, max(1, height // patch) * patch, max(1, width // patch) * patch)
        ids = torch.empty(labels * prompts, context, dtype=torch.long)
        text = torch.empty(labels, prompts, model.backbone.embedding_width)
        counter = FlopCounterMode(display=False, depth=2)
        with torch.no_grad(), counter:
            model.encode_text(ids)
        words = counter.get_total_flops()
        with torch.no_grad(), counter:  # starts again from zero
            model(pixels, text)
    image = {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    modules = {"CLIP visual": ("backbone",)} | {
        part: PARTS[part] for part in ("cost", "SDM", "refine", "decode")
    }
    kind = type(model).__name__
    counts = {
        part: sum(image.get(f"{kind}.{name}", 0) for name in names)
        for part, names in modules.items()
    }
    total = counter.get_total_flops()
    counts["cost"] += total - sum(counts.values())  # the cosines stand between the modules
    return (
        {"CLIP visual": counts.pop("CLIP visual"), "CLIP text": words}
        | counts
        | {"total": total + words}
    )
