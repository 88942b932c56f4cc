"""`disa models`, `disa info` and `disa convert`: which models there are, and of what."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.table import Table
from tyro.conf import Positional, arg

from disa.errors import DisaError
from disa.recipes import RECIPES
from disa.running.files import file_sha256, refuse_existing
from disa.running.terminal import say
from disa.weights import names
from disa.weights.model_card import Source

if TYPE_CHECKING:
    from disa.model.dense import DenseClip
    from disa.model.disa import Disa

MOST_LABELS = 10**6
LONGEST_SIDE = 8192  # pixels; beyond it even the shapes overflow
# By recipe, as its authors published them: millions of parameters, all and trainable, and GFLOPs.
AS_PUBLISHED: dict[str, dict[str, float]] = {
    "vit-l-14": {"parameters": 456.2},
    "vit-l-14-baseline": {"parameters": 433.7, "trainable": 70.3, "gflops": 2121},
}


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the models that come with disa or are fetched by name, and what they know."""

    def run(self) -> int:
        """Print name, size, knowledge and place of each model."""
        bundled = names.bundled_models()
        if not bundled:
            raise DisaError(
                f"{names.WEIGHTS}: no model here; install disa again, or train one "
                "(disa train --help)"
            )
        for name, folder in bundled.items():
            size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
            say(f"{name}  {size / 1e6:.1f} MB")
            say(f"  knows: {names.BUNDLED[name]}", f"  where: {folder}")
        for name, published in names.PUBLISHED.items():
            parts = (published.repository, published.checkpoint)
            place = "/".join(part for part in parts if part)
            say(f"{name}  fetched when first used")
            say(f"  knows: {published.knows}", f"  where: {place} on the Hub")
        say(
            "--model also takes a folder that disa or transformers (CLIP, SigLIP 2) wrote, "
            "OpenAI's .pt, or a Hub id. No weights of DiSa on photographs exist in public; "
            "docs/training.md says how to train them."
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show a model's parameters by part, and the operations that one picture takes.

    Example: `disa info vit-l-14 --labels 171`
    """

    # A bundled model, a model folder, or a recipe such as `vit-l-14`.
    model: Annotated[Positional[str], arg(metavar="MODEL")]
    # Number of labels at which operations are counted.
    labels: int = 20
    # Pixels of the picture's side inside the model. Default: the model's own.
    size: int | None = None
    # Print JSON.
    json: bool = False

    def run(self) -> int:
        """Print parameters and operations by part. Raises `DisaError` for an unknown model."""
        import json

        if not 1 <= self.labels <= MOST_LABELS:
            raise DisaError(f"--labels {self.labels}: choose 1 to {MOST_LABELS:,}")
        data = _facts(self.model, self.labels, self.size)
        if self.json:
            say(*json.dumps(data, indent=2).split("\n"))
            return 0
        say(_table(data))
        for line in _lines_below(data):
            say(line)
        return 0


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert a published checkpoint to a model folder; nothing in the file is run.

    Every tensor is kept. With a network, `--model cat-seg-b` fetches and converts by itself.

    Example: `disa convert cat-seg model_base.pth models/cat-seg-b`
    """

    # Whose checkpoint it is: `cat-seg`, DiSa's baseline.
    kind: Annotated[Positional[Literal["cat-seg"]], arg(metavar="KIND")]
    # The published file: model_base.pth or model_large.pth.
    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT")]
    # Folder of the model; it must not exist yet, or be empty.
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    # CLIP's tokenizer.json. Default: the one beside the checkpoint, else OpenAI's, which comes with
    # disa.
    tokenizer: Path | None = None

    def run(self) -> int:
        """Convert a checkpoint. Raises `DisaError`; nothing is written then."""
        from disa.weights.catseg import convert_catseg
        from disa.weights.fetching import LICENCE

        if not self.checkpoint.is_file():
            raise DisaError(
                f"{self.checkpoint}: no such file; CAT-Seg publishes model_base.pth and "
                "model_large.pth"
            )
        refuse_existing(self.out)
        sha256 = file_sha256(self.checkpoint)
        source = Source("CAT-Seg", self.checkpoint.name, LICENCE, sha256)
        tokenizer = self.tokenizer or names.tokenizer_of(self.checkpoint)
        convert_catseg(self.checkpoint, self.out, tokenizer, source)
        say(f"{self.out}: written; sha256 of the checkpoint {sha256}")
        return 0


def _facts(model: str, labels: int, size: int | None) -> dict[str, Any]:
    """Return what `disa info --json` prints: parameters and operations by part.

    Raises `DisaError` for an unknown model, and for a size that it cannot compute.
    """
    from disa.inference.protocol import CATSEG_WINDOW, Protocol
    from disa.model.count import operations, parameters, trainable
    from disa.model.disa import Disa

    built, recipe = _on_meta(model)
    config = built.config
    counted = parameters(built)

    patch = built.backbone.patch_size
    side = size or config.backbone_image_size
    if not patch <= side <= LONGEST_SIDE:
        raise DisaError(
            f"--size {side}: choose {patch} (a patch of this model) to {LONGEST_SIDE} pixels"
        )
    # Only whole patches are counted.
    side -= side % patch
    done = operations(built, labels, side)

    # The published protocol makes as many views of every picture, whatever its size.
    protocol = Protocol("cat-seg")
    layout = protocol.layout(CATSEG_WINDOW, CATSEG_WINDOW, config.backbone_image_size, 1)
    # Labels are embedded once, not for each view.
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


def _table(data: dict[str, Any]) -> Table:
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


def _lines_below(data: dict[str, Any]) -> list[str]:
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


def _on_meta(model: str) -> tuple["Disa | DenseClip", str | None]:
    """Return the model without its numbers, and its recipe if it has one; nothing is fetched."""
    import torch

    from disa.model.dense import DenseClip
    from disa.model.disa import Disa
    from disa.model.encoders import build_backbone
    from disa.weights.clip_files import dense_config, read_clip_config
    from disa.weights.fetching import model_folder
    from disa.weights.model_folder import build, read_config, try_out

    recipe = model if model in RECIPES else names.UNPUBLISHED.get(model)
    if model in names.PUBLISHED:
        recipe = names.PUBLISHED[model].recipe
    # On the meta device a model of any size takes no time and no memory.
    with torch.device("meta"):
        if recipe is not None and model not in names.bundled_models():
            return Disa(RECIPES[recipe]()), recipe
        try:
            folder = model_folder(model)
        except DisaError as error:
            raise DisaError(f"{error}; or a recipe: {', '.join(RECIPES)}") from None

        # The bundled model, or one on disk: a CLIP alone or a model of disa.
        if names.is_clip(folder):
            config = dense_config(read_clip_config(folder))
            clip = build(folder, lambda: DenseClip(build_backbone(config), config))
            try_out(folder, clip.eval())
            return clip, None
        config = read_config(folder)
        network = build(folder / names.CONFIG, lambda: Disa(config))
        try_out(folder / names.CONFIG, network.eval())
        return network, None
