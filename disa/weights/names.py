"""Which models there are, and where: name, folder, file or Hub id -> path.

Free of torch, for quick refusals.
"""

from pathlib import Path
from typing import NamedTuple

WEIGHTS = Path(__file__).parent.parent / "weights"
FILES = ("model.safetensors", "config.json", "tokenizer.json")
KNOWS = {
    "mini": "the picturebook world: small drawn scenes of house, tree, boat, sea, grass, ...; not "
    "photographs",
}
CATSEG_SPACE = "hamacojr/CAT-Seg-weights"  # the Space that CAT-Seg's README links to


class ModelEntry(NamedTuple):
    """A model that comes with the package."""

    name: str
    folder: Path
    size: int  # bytes on disk
    knows: str  # what it was trained on, in a line


class Published(NamedTuple):
    """A model that its authors published on the Hub; fetched when it is first asked for."""

    repository: str  # of a CLIP, or CAT-Seg's Space
    checkpoint: str | None = None  # file of the Space
    recipe: str | None = None  # what the checkpoint holds
    knows: str = "photographs, by captions: dense CLIP alone, no head, zero training"


_CATSEG_KNOWS = "photographs: CAT-Seg, trained on COCO-Stuff; DiSa's baseline"
PUBLISHED = {
    "cat-seg-b": Published(CATSEG_SPACE, "model_base.pth", "vit-b-16-baseline", _CATSEG_KNOWS),
    "cat-seg-l": Published(CATSEG_SPACE, "model_large.pth", "vit-l-14-baseline", _CATSEG_KNOWS),
    "clip-vit-b-16": Published("openai/clip-vit-base-patch16"),
    "clip-vit-b-32": Published("openai/clip-vit-base-patch32"),
    "clip-vit-l-14": Published("openai/clip-vit-large-patch14"),
    "clip-vit-l-14-336": Published("openai/clip-vit-large-patch14-336"),
}
UNPUBLISHED = {
    "disa-vit-b-16": "vit-b-16",
    "disa-vit-l-14": "vit-l-14",
}  # name -> recipe; nobody published weights


def models() -> list[ModelEntry]:
    """Return the models that come with the package, by name."""
    folders = sorted(
        folder for folder in WEIGHTS.glob("*") if all((folder / file).is_file() for file in FILES)
    )
    return [
        ModelEntry(
            name=folder.name,
            folder=folder,
            size=sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
            knows=KNOWS.get(folder.name, ""),
        )
        for folder in folders
    ]
