"""The results in a folder of `disa segment`, as the writers of other tools' formats read them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from disa.data.masks import read_indices
from disa.data.picture_paths import STDIN
from disa.data.vocabulary import Level
from disa.errors import DisaError
from disa.running.reading import read_json

LabelMap = NDArray[Any]  # (H, W) int32, index into the categories; -1 where there is no label


class Entry(NamedTuple):
    """One picture's result."""

    name: str  # of its files
    source: Path | None  # the picture; None for one that was no file
    picture: str  # the picture's path below the folder that all of them share, with slashes
    size: tuple[int, int]  # height, width
    words: tuple[str, ...]
    colours: tuple[tuple[int, ...], ...]  # (r, g, b) of each word, in overlays


@dataclass(frozen=True)
class Results:
    """All results in a folder, whichever run wrote them, and the labels of all of them."""

    folder: Path
    categories: tuple[str, ...]
    entries: tuple[Entry, ...]

    def labels(self, entry: Entry) -> LabelMap:
        """Read a label map. Raises `DisaError` for one that is damaged or of another size."""
        path = self.folder / f"{entry.name}_labels.png"
        values = read_indices(path).astype(np.int32)
        if values.shape != entry.size:
            raise DisaError(
                f"{path}: is {values.shape[1]} x {values.shape[0]} pixels, {entry.name}.json says "
                f"{entry.size[1]} x {entry.size[0]}; segment the picture again"
            )
        # What is no label's index is background, 255 or 65535: the last place of the table.
        places = {category: index for index, category in enumerate(self.categories)}
        table = np.array([*(places[word] for word in entry.words), -1], np.int32)
        return table.take(values, mode="clip")

    def colours(self, entry: Entry) -> dict[int, tuple[int, ...]]:
        """Return the colour (r, g, b) of each category in a label map."""
        pairs = zip(entry.words, entry.colours, strict=True)
        return {self.categories.index(word): colour for word, colour in pairs}


def read_results(folder: Path, labels: tuple[str, ...]) -> Results:
    """Find all results in a folder. Categories are `labels`, then those of other runs."""
    entries = [_entry(path) for path in _result_files(folder)]
    words = (word for entry in entries for word in entry.words)
    parents = {_absolute(entry.source).parent for entry in entries if entry.source is not None}
    try:
        root = Path(os.path.commonpath(parents)) if parents else None
    except ValueError:  # on two drives
        root = None
    named = tuple(entry._replace(picture=_picture(entry, root)) for entry in entries)
    return Results(folder, tuple(dict.fromkeys((*labels, *words))), named)


class _Word(TypedDict):
    word: str
    colour: tuple[Level, Level, Level]


class _Json(TypedDict):
    """What a file must say."""

    image: str | None
    width: int
    height: int
    words: list[_Word]


def _entry(path: Path) -> Entry:
    """Return what a JSON file says; where its picture lies among others is not known yet."""
    data = read_json(path, "segment the picture again, or delete the file", _Json)
    image = data["image"]
    return Entry(
        name=path.stem,
        source=None if image is None or Path(image) == STDIN else Path(image),
        picture="",
        size=(data["height"], data["width"]),
        words=tuple(word["word"] for word in data["words"]),
        colours=tuple(tuple(word["colour"]) for word in data["words"]),
    )


def _result_files(folder: Path) -> list[Path]:
    """Return the JSON files that have a label map beside them."""
    files = sorted(folder.glob("*.json"))
    return [path for path in files if path.with_name(f"{path.stem}_labels.png").is_file()]


def _picture(entry: Entry, root: Path | None) -> str:
    if entry.source is None:
        return f"{entry.name}.png"
    absolute = _absolute(entry.source)
    return (absolute if root is None else absolute.relative_to(root)).as_posix()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links stay)
