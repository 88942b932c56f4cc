"""Which models there are, and where: name, folder, file or Hub id -> path. Free of torch, for quick refusals."""

from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from disa.errors import DisaError

WEIGHTS = Path(__file__).parent.parent / "weights"
FILES = ("model.safetensors", "config.json", "tokenizer.json")
KNOWS = {
    "mini": "the picturebook world: small drawn scenes of house, tree, boat, sea, grass, ...; not photographs",
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


def model_folder(name_or_folder: str | PathLike[str]) -> Path:
    """Return where a model lies: a bundled one, a folder, OpenAI's .pt file, or what is fetched from the Hub.

    A bundled name goes first, then what exists on disk ("./mini" is a folder), then published names, then Hub ids.
    A folder is disa's or a CLIP's in transformers' form. Raises `DisaError` for an unknown name, a folder that lacks
    a file of a model, and a Hub that cannot be reached.
    """
    name = fspath(name_or_folder)
    known = {entry.name: entry.folder for entry in models()}
    if name in known:
        return known[name]
    path = Path(name)
    if path.is_dir():
        return _checked(path)
    if path.is_file():
        return path
    if name in UNPUBLISHED:
        raise DisaError(
            f"{name}: nobody published weights of DiSa; train them (disa train {UNPUBLISHED[name]}, docs/training.md), "
            "or use its baseline cat-seg-b or cat-seg-l"
        )
    from disa.weights.fetching import fetch_model
    from disa.weights.hub import is_hub_id

    if name in PUBLISHED or is_hub_id(name):
        return fetch_model(name)
    names = ", ".join(known) or "none, the weights are missing"
    raise DisaError(
        f'unknown model "{name}"; models that come with disa: {names}; published ones: {", ".join(PUBLISHED)}; '
        "or give a model folder or a Hub id such as openai/clip-vit-base-patch16"
    )


def _checked(folder: Path) -> Path:
    weights = (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    )
    there = {FILES[0]: any((folder / file).is_file() for file in weights)}
    there |= {file: (folder / file).is_file() for file in FILES[1:]}
    if missing := [file for file, found in there.items() if not found]:
        raise DisaError(f"{folder}: is not a model folder, it lacks {', '.join(missing)}")
    return folder
