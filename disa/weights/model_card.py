"""The model card of a model folder: what it is, how to use it, where it comes from."""

from collections.abc import Mapping
from typing import NamedTuple

from disa.config import ModelConfig
from disa.version import __version__


class Source(NamedTuple):
    """Where converted weights come from."""

    title: str  # "CAT-Seg, ViT-B/16"
    place: str  # repository and file, or the file's name
    licence: str  # what its authors say
    sha256: str  # of the file
    revision: str | None = None  # commit of the repository, if known


def model_card(
    config: ModelConfig, parameters: Mapping[str, int], source: Source | None = None
) -> str:
    """Return the card as Markdown; `parameters` by part, as `count.parameters` gives them."""
    title = (
        source.title if source else "DiSa" if config.disentangle else "DiSa's baseline (CAT-Seg)"
    )
    lines = [
        "---",
        "library_name: disa",
        "pipeline_tag: image-segmentation",
        "tags: [open-vocabulary-segmentation, semantic-segmentation, clip, disa]",
        *([] if source else ["license: mit"]),
        "---",
        f"# {title}",
        "",
        "Open-vocabulary semantic segmentation: a mask for any label that you name. Read by the "
        "Python package `disa` "
        f"(written by version {__version__}).",
        "",
        "```python",
        "import disa",
        "",
        'segmenter = disa.load("this folder, or its name on the Hub")',
        'result = segmenter("picture.jpg", ["boat", "sea", "sky"])',
        "```",
        "",
        "| part | parameters |",
        "|---|---:|",
        *(f"| {part} | {number:,} |" for part, number in parameters.items()),
        "",
        f"- Saliency-aware disentanglement (SDM): {'on' if config.disentangle else 'off'}",
        f"- Picture size inside the model: {config.backbone_image_size} pixels",
        f"- Prompts: {', '.join(f'`{template}`' for template in config.backbone_templates)}",
        "- Computed in 32 bit",
    ]
    if source:
        lines += [
            "",
            "## Source",
            f"- Weights: {source.place}"
            + (f", revision {source.revision}" if source.revision else ""),
            f"- sha256 of that file: `{source.sha256}`",
            f"- Licence: {source.licence}",
            "- Converted tensor by tensor, every value kept; nothing was trained.",
        ]
    return "\n".join(lines) + "\n"
