"""Which models there are, by name, and how to tell what lies at a path.

This file does without torch, so that `disa models` answers at once.
"""

from pathlib import Path
from typing import NamedTuple

from disa.errors import DisaError
from disa.running.reading import read_json

WEIGHTS = Path(__file__).parent
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
# What the configuration of a folder calls itself: a network's, or that of an export's graphs.
KIND = "disa"
EXPORT = "disa-export"
# Two forms of weights, each in one file or in parts that an index lists. Safetensors come first:
# they are quicker to read, and they can hold no code.
WHOLE = ("model.safetensors", "pytorch_model.bin")
PARTS = tuple(f"{name}.index.json" for name in WHOLE)
FILES = (WHOLE[0], CONFIG, TOKENIZER)
# OpenAI's byte-pair merges, the same for all of its CLIPs (NOTICE, decision D59).
CLIP_TOKENIZER = WEIGHTS / "clip_tokenizer.json"

BUNDLED = {
    "mini": "the picturebook world: small drawn scenes of house, tree, boat, sea, grass, ...; not "
    "photographs",
}


class Published(NamedTuple):
    """A model that its authors published on the Hub; fetched when it is first asked for."""

    repository: str  # of a CLIP, or CAT-Seg's Space
    checkpoint: str | None = None  # file of the Space
    recipe: str | None = None  # what the checkpoint holds
    knows: str = "photographs, by captions: dense CLIP alone, no head, zero training"


CATSEG_SPACE = "hamacojr/CAT-Seg-weights"  # the Space that CAT-Seg's README links to
_CATSEG_KNOWS = "photographs: CAT-Seg, trained on COCO-Stuff; DiSa's baseline"
PUBLISHED = {
    "cat-seg-b": Published(CATSEG_SPACE, "model_base.pth", "vit-b-16-baseline", _CATSEG_KNOWS),
    "cat-seg-l": Published(CATSEG_SPACE, "model_large.pth", "vit-l-14-baseline", _CATSEG_KNOWS),
    "clip-vit-b-16": Published("openai/clip-vit-base-patch16"),
    "clip-vit-b-32": Published("openai/clip-vit-base-patch32"),
    "clip-vit-l-14": Published("openai/clip-vit-large-patch14"),
    "clip-vit-l-14-336": Published("openai/clip-vit-large-patch14-336"),
}
# Nobody published these weights. The names lead to the recipe that trains them.
UNPUBLISHED = {"disa-vit-b-16": "vit-b-16", "disa-vit-l-14": "vit-l-14"}


def knowledge(name: str) -> str:
    """Return what a model knows, in a few words; "" for one of the user's own."""
    if name in PUBLISHED:
        return PUBLISHED[name].knows
    return BUNDLED.get(name, "")


def bundled_models() -> dict[str, Path]:
    """Return the folders of the models that come with the package, by name."""
    folders = {name: WEIGHTS / name for name in BUNDLED}
    return {name: folder for name, folder in folders.items() if not missing_files(folder)}


def missing_files(folder: Path) -> list[str]:
    """Return the files that a model folder lacks; weights of any form will do."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    # An export has graphs instead of weights; they are looked for when they are read.
    if is_export(folder) or any((folder / name).is_file() for name in (*WHOLE, *PARTS)):
        missing = [name for name in missing if name != WHOLE[0]]
    return missing


def is_clip(path: Path) -> bool:
    """Tell whether a CLIP lies there: OpenAI's file, or a folder that transformers wrote.

    A folder's may also be SigLIP 2; those of free resolution are refused when they are read.
    """
    # Models of our own are always folders.
    return path.is_file() or _says(path, "model_type", "clip", "siglip", "siglip2")


def is_export(path: Path) -> bool:
    """Tell whether graphs lie there, which `disa export` wrote."""
    return _says(path, "kind", EXPORT)


def _says(folder: Path, name: str, *values: str) -> bool:
    """Tell whether a model's configuration gives a field one of these values."""
    try:
        config = read_json(folder / CONFIG, "copy the folder again", dict)
    except DisaError:  # whoever reads the folder says it
        return False
    return config.get(name) in values


def tokenizer_of(path: Path) -> Path:
    """Return the tokenizer of a model's folder, or of a weights file.

    A file's is the one beside it, else that of OpenAI's CLIPs.
    """
    if path.is_dir():
        return path / TOKENIZER
    beside = path.with_name(TOKENIZER)
    return beside if beside.is_file() else CLIP_TOKENIZER
