"""Which models there are, and where: name -> folder. Free of torch, for `disa models` and quick refusals."""

from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from disa.errors import DisaError

WEIGHTS = Path(__file__).parent.parent / "weights"
FILES = ("model.safetensors", "config.json", "tokenizer.json")
KNOWS = {
    "mini": "the picturebook world: small drawn scenes of house, tree, boat, sea, grass, ...; not photographs",
}


class ModelEntry(NamedTuple):
    """A model that comes with the package."""

    name: str
    folder: Path
    size: int  # bytes on disk
    knows: str  # what it was trained on, in a line


def models() -> list[ModelEntry]:
    """Return the models that come with the package, by name."""
    folders = sorted(folder for folder in WEIGHTS.glob("*") if all((folder / file).is_file() for file in FILES))
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
    """Return the folder of a bundled model or the folder itself; a bundled name goes first ("./mini" is a folder).

    Raises `DisaError` for an unknown name and for a folder that lacks a file of a model.
    """
    name = fspath(name_or_folder)
    known = {entry.name: entry.folder for entry in models()}
    if name in known:
        return known[name]
    folder = Path(name)
    if not folder.is_dir():
        names = ", ".join(known) or "none, the weights are missing"
        raise DisaError(f'unknown model "{name}"; models that come with disa: {names}; or give a model folder')
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        raise DisaError(f"{folder}: is not a model folder, it lacks {', '.join(missing)}")
    return folder
