"""The model card of a model folder: what it is, how to use it, where it comes from."""

from collections.abc import Mapping
from typing import NamedTuple

from disa.config import ModelConfig
from disa.running.shown import as_markdown
from disa.version import __version__


class Source(NamedTuple):
    """Where converted weights come from."""

    title: str  # "CAT-Seg, ViT-B/16"
    place: str  # repository and file, or the file's name
    licence: str  # what its authors say
    sha256: str  # of the file
    revision: str | None = None  # commit of the repository, if known


# The front matter is read by the Hub, which lists the model under these tags.
CARD = """\
---
library_name: disa
pipeline_tag: image-segmentation
tags: [open-vocabulary-segmentation, semantic-segmentation, clip, disa]
{licence}---
# {title}

Open-vocabulary semantic segmentation: a mask for any label that you name. Read by the Python \
package `disa` (written by version {version}).

```python
import disa

segmenter = disa.load("this folder, or its name on the Hub")
result = segmenter("picture.jpg", ["boat", "sea", "sky"])
```

| part | parameters |
|---|---:|
{parameters}

- Saliency-aware disentanglement (SDM): {sdm}
- Picture size inside the model: {size} pixels
- Prompts: {prompts}
- Computed in 32 bit
"""
SOURCE = """
## Source
- Weights: {place}{revision}
- sha256 of that file: `{sha256}`
- Licence: {licence}
- Converted tensor by tensor, every value kept; nothing was trained.
"""


def model_card(
    config: ModelConfig, parameters: Mapping[str, int], source: Source | None = None
) -> str:
    """Return the card as Markdown; `parameters` by part, as `count.parameters` gives them."""
    title = "DiSa" if config.disentangle else "DiSa's baseline (CAT-Seg)"
    card = CARD.format(
        # Weights of other people are under their licence, not under ours.
        licence="" if source else "license: mit\n",
        title=source.title if source else title,
        version=__version__,
        parameters="\n".join(f"| {part} | {number:,} |" for part, number in parameters.items()),
        sdm="on" if config.disentangle else "off",
        size=config.backbone_image_size,
        prompts=as_markdown(", ".join(f'"{each}"' for each in config.backbone_templates)),
    )
    if source is None:
        return card
    revision = f", revision {source.revision}" if source.revision else ""
    shown = {"place": as_markdown(source.place), "revision": as_markdown(revision)}
    return card + SOURCE.format(**source._asdict() | shown)
