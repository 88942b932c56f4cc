"""How large a model is and how much it computes, by part.

Everything works on the meta device: nothing is computed and no memory is taken, also for the
largest recipe.
"""

from collections import Counter
from typing import Any, get_args

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from disa.config import Finetune, ModelConfig
from disa.model.dense import DenseClip
from disa.model.disa import Disa

# Each part of the paper's figure, with the modules that belong to it.
PARTS = {
    "CLIP visual": ("backbone.clip.vision_model", "backbone.clip.visual_projection"),
    "CLIP text": ("backbone.clip.text_model", "backbone.clip.text_projection"),
    "cost": ("cost",),
    "SDM": ("saliency", "disentangle"),
    "refine": ("refine",),
    "decode": ("decode",),
    "things": ("things",),
}


def parts_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return `PARTS`, and every other module of the network as a part by its own name."""
    known = {module.partition(".")[0] for modules in PARTS.values() for module in modules}
    others = (name for name, _ in model.named_children() if name not in known)
    return PARTS | {name: (name,) for name in others}


def parameters(model: nn.Module) -> dict[str, int]:
    """Return the number of parameters of each part, and of all as `total`.

    The total holds CLIP's logit scale, one number that belongs to no part, as the published counts
    do [B], and SigLIP's bias beside it.
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    counts = {}
    for part, modules in parts_of(model).items():
        prefixes = tuple(f"{module}." for module in modules)
        counts[part] = sum(size for name, size in sizes.items() if name.startswith(prefixes))
    return counts | {"total": sum(sizes.values())}


def trainable(config: ModelConfig) -> dict[str, dict[str, int]]:
    """Return the parameters that each fine-tuning mode trains: of `clip`, of the `head`, `total`.

    What can learn nothing is in no mode (decision D19): the baseline's own count for L in mode
    `qv`, 70,270,177, holds the queries of the last image block, one square of the image tower's
    width more.
    """
    counts: dict[str, dict[str, int]] = {}
    for mode in get_args(Finetune):
        # The mode decides which parameters have gradients when the network is built.
        with torch.device("meta"):
            model = Disa(config.replace(backbone_finetune=mode))
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        groups = model.parameter_groups()
        counts[mode] = {part: sum(sizes[name] for name in names) for part, names in groups.items()}
        counts[mode]["total"] = sum(counts[mode].values())
    return counts


def operations(
    model: Disa | DenseClip, labels: int, size: int | tuple[int, int] | None = None
) -> dict[str, int]:
    """Return the floating-point operations of one image in evaluation, by part, and as `total`.

    `model` is on the meta device. `size` is (height, width) in pixels, or the side of a square; it
    is rounded down to whole patches, and is the model's own by default. `CLIP text` is what the
    labels take at the full context length, once per vocabulary; the total holds it.

    `torch.utils.flop_counter` counts matrix products, convolutions and attention, two operations
    per multiplication and addition; norms, activations and sums are left out.
    """
    if size is None:
        size = model.config.backbone_image_size
    height, width = (size, size) if isinstance(size, int) else size
    model.eval()
    text_operations = _text_operations(model, labels)
    image_operations = _image_operations(model, labels, height, width)

    counts = {}
    for part, modules in parts_of(model).items():
        if part == "CLIP text":
            counts[part] = text_operations
            continue
        # The image pass runs CLIP's image tower and nothing else of the backbone.
        names = ("backbone",) if part == "CLIP visual" else modules
        counts[part] = sum(image_operations.get(name, 0) for name in names)

    # The cosines are computed between the modules: they are what remains.
    in_modules = sum(number for part, number in counts.items() if part != "CLIP text")
    counts["cost"] += image_operations["total"] - in_modules
    return counts | {"total": sum(counts.values())}


def _text_operations(model: Disa | DenseClip, labels: int) -> int:
    """Return the operations of embedding every prompt of the labels."""
    prompts = len(model.config.backbone_templates)
    context = model.backbone.clip.config.text_config.max_position_embeddings
    with (
        torch.device("meta"),
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        model.encode_text(torch.empty(labels * prompts, context, dtype=torch.long))
    return counter.get_total_flops()


def _image_operations(
    model: Disa | DenseClip, labels: int, height: int, width: int
) -> dict[str, int]:
    """Return the operations of an image by the model's immediate modules, and as `total`."""
    patch = model.backbone.patch_size
    rows = max(1, height // patch)
    columns = max(1, width // patch)
    prompts = len(model.config.backbone_templates)
    with (
        torch.device("meta"),
        torch.no_grad(),
        FlopCounterMode(display=False, depth=2) as counter,
    ):
        pixels = torch.empty(1, 3, rows * patch, columns * patch)
        text = torch.empty(labels, prompts, model.backbone.embedding_width)
        guiding = {
            name: _operations_of(module, "guide")
            for name, module in model.named_children()
            if hasattr(module, "guide")
        }
        model(pixels, text)

    # The counter names modules "Disa.refine"; each has its operations by kind. It sees a module
    # only in its `forward`.
    root = f"{type(model).__name__}."
    by_module: Counter[str] = Counter()
    for name, kinds in counter.get_flop_counts().items():
        by_module[name.removeprefix(root)] += sum(kinds.values())
    for name, calls in guiding.items():
        by_module[name] += sum(calls)
    return by_module | {"total": counter.get_total_flops()}


def _operations_of(module: nn.Module, method: str) -> list[int]:
    """Return a list that takes the operations of every coming call of the module's method."""
    calls: list[int] = []
    original = getattr(module, method)

    def counted(*arguments: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            result = original(*arguments)
        calls.append(counter.get_total_flops())
        return result

    setattr(module, method, counted)
    return calls
