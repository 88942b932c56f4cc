"""What a model consists of and what a picture costs.

Nothing is computed, so it is quick for any size.
"""

from typing import Any

import torch
from rich.table import Table

from disa.errors import DisaError
from disa.inference.protocol import CATSEG_WINDOW, Protocol
from disa.model.backbone import Backbone
from disa.model.count import operations, parameters, trainable
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.recipes import RECIPES
from disa.weights.clip_files import dense_config, read_clip_config
from disa.weights.fetching import model_folder
from disa.weights.model_folder import build, read_config
from disa.weights.names import PUBLISHED, UNPUBLISHED, bundled_models, is_clip

LONGEST_SIDE = 8192  # pixels; beyond it even the shapes overflow
# By recipe, as its authors published them: millions of parameters, all and trainable, and GFLOPs.
AS_PUBLISHED: dict[str, dict[str, float]] = {
    "vit-l-14": {"parameters": 456.2},
    "vit-l-14-baseline": {"parameters": 433.7, "trainable": 70.3, "gflops": 2121},
}


def facts(model: str, labels: int, size: int | None) -> dict[str, Any]:
    """Return what `disa info --json` prints: parameters and operations by part.

    Raises `DisaError` for an unknown model, and for a size that it cannot compute.
    """
    built, recipe = _on_meta(model)
    config = built.config
    counted = parameters(built)

    patch = built.backbone.patch_size
    side = size or config.backbone_image_size
    if not patch <= side <= LONGEST_SIDE:
        raise DisaError(
            f"--size {side}: choose {patch} (a patch of this model) to {LONGEST_SIDE} pixels"
        )
    side -= side % patch
    done = operations(built, labels, side)

    # Its number of views is the same for every picture and model.
    protocol = Protocol("cat-seg")
    layout = protocol.layout(CATSEG_WINDOW, CATSEG_WINDOW, config.backbone_image_size, 1)
    each_view = done["total"] - done["CLIP text"]
    return {
        "model": model,
        "parameters": counted,
        "total_millions": round(counted["total"] / 1e6, 3),
        "trainable": trainable(config) if isinstance(built, Disa) else None,
        "labels": labels,
        "size": side,
        "operations": done,
        "cat_seg_protocol": {"views": layout.views, "operations": layout.views * each_view},
        "as_published": AS_PUBLISHED.get(recipe or ""),
    }


def table(data: dict[str, Any]) -> Table:
    """Return parameters and operations by part."""
    shown = Table("part", "parameters", "share", "operations", title=data["model"])
    shown.title_justify = "left"
    for column in shown.columns[1:]:
        column.justify = "right"
    total = data["parameters"]["total"]
    for part, number in data["parameters"].items():
        if part == "total":
            shown.add_section()
        flops = data["operations"][part] / 1e9
        share = f"{number / total:.1%}"
        shown.add_row(part, f"{number / 1e6:,.3f} M", share, f"{flops:,.2f} GFLOP")
    return shown


def lines_below(data: dict[str, Any]) -> list[str]:
    """Return what stands below the table, in lines."""
    published = data["as_published"] or {}
    in_all = _beside(published, "parameters", " M")
    lines = [f"{data['total_millions']:,.1f} million parameters in all{in_all}."]
    if data["trainable"]:
        counts = (f"{mode} {n['total'] / 1e6:,.3f} M" for mode, n in data["trainable"].items())
        remark = " M for qv, with the last image block's idle queries, decision D19"
        trained = _beside(published, "trainable", remark)
        lines.append(
            f"Trainable, head included, by backbone_finetune: {', '.join(counts)}{trained}."
        )
    lines.append(
        f"Operations: one picture of {data['size']} x {data['size']} pixels with {data['labels']} "
        "labels, two for a multiplication and an addition; CLIP text counts once per set of labels."
    )
    protocol = data["cat_seg_protocol"]
    flops = protocol["operations"] / 1e9
    remark = " GFLOPs at 171 labels; how they were counted is not"
    lines.append(
        f"The protocol cat-seg: {protocol['views']} views, {flops:,.0f} GFLOP = {flops / 2:,.0f} "
        f"GMAC without CLIP text{_beside(published, 'gflops', remark)}."
    )
    return lines


def _beside(published: dict[str, float], name: str, unit: str) -> str:
    return f" (published: {published[name]:,g}{unit})" if name in published else ""


def _on_meta(model: str) -> tuple[Disa | DenseClip, str | None]:
    """Return the model on the meta device, and its recipe if it has one; nothing is fetched."""
    recipe = model if model in RECIPES else UNPUBLISHED.get(model)
    if model in PUBLISHED:
        recipe = PUBLISHED[model].recipe
    with torch.device("meta"):
        if recipe is not None and model not in bundled_models():
            return Disa(RECIPES[recipe]()), recipe
        try:
            folder = model_folder(model)
        except DisaError as error:
            raise DisaError(f"{error}; or a recipe: {', '.join(RECIPES)}") from None

        # The bundled model, or one on disk: a CLIP alone or a model of disa.
        if is_clip(folder):
            config = dense_config(read_clip_config(folder))
            backbone = build(folder, lambda: Backbone(config), config)
            return DenseClip(backbone, config), None
        config = read_config(folder)
        return build(folder, lambda: Disa(config), config), None
