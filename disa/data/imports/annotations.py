"""What every reader of other tools' annotations returns, and how it becomes masks.

A reader gives categories and pictures; a picture draws its annotations on a canvas when asked to.
What is left out is noted with its reason, never dropped in silence.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disa.data.images import SUFFIXES
from disa.data.masks import label_type
from disa.data.vocabulary import name_key

Region = NDArray[np.bool_]  # (H, W): the pixels of one annotation
LeftOut = defaultdict[str, list[str]]  # reason -> what was left out for it


class Categories:
    """The categories of a source, each once: names that are equal by `name_key` are one."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._index: dict[str, int] = {}

    def add(self, name: str, kind: str | None = None) -> int:
        """Return the index of a category, which is added if it is new."""
        # In classes.json a bar would begin another name.
        name = " ".join(name.replace("|", "/").split())
        key = name_key(name)
        if key not in self._index:
            self._index[key] = len(self.entries)
            entry = {"name": name, "id": len(self.entries)}
            self.entries.append(entry | ({"kind": kind} if kind else {}))
        return self._index[key]

    def add_sorted(self, names: Iterable[str]) -> None:
        """Add categories in the order of the alphabet, where that of a source means nothing."""
        for name in sorted(names, key=lambda name: (name_key(name), name)):
            self.add(name)


class Canvas:
    """The label map (H, W) of one picture while it is drawn: later regions cover earlier ones."""

    def __init__(self, size: tuple[int, int], ignored: int, left_out: LeftOut, name: str) -> None:
        """Begin with nothing drawn; `name` is what messages call the picture."""
        self.size = size
        self.labels = np.full(size, ignored, label_type(ignored))
        self.drawn = np.zeros(size, np.bool_)
        self.rejected = False  # whether an annotation was left out
        self.covered = 0  # pixels that a region of another label has covered
        self._ignored = ignored
        self._left_out = left_out
        self._name = name

    def paint(self, label: int | None, region: Region) -> None:
        """Give the pixels of a region this label; None: they are ignored."""
        if not self.fits(region.shape):
            return
        if not region.any():
            self.leave_out("without a pixel")
            return
        value = self._ignored if label is None else label
        self.covered += int((region & self.drawn & (self.labels != value)).sum())
        self.labels[region] = value
        self.drawn |= region

    def fits(self, size: tuple[int, ...]) -> bool:
        """Tell whether an annotation of this size (H, W) fits, and note if it does not."""
        if size != self.size:
            height, width = size
            self.leave_out(f"of another size ({width} x {height}) than the picture")
        return size == self.size

    def fill(self, label: int) -> None:
        """Give a label to all pixels that no region has."""
        self.labels[~self.drawn] = label

    def leave_out(self, reason: str) -> None:
        """Note that an annotation of this picture is left out."""
        self.rejected = True
        self._left_out[reason].append(self._name)


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture as its source names it, where its pixels are, and what draws its annotations."""

    name: str
    # A file, or what gives the bytes of one; None: not found.
    picture: Path | Callable[[], bytes] | None
    draw: Callable[[Canvas], None]
    # The (H, W) that the annotations are for, if the source says it.
    size: tuple[int, int] | None = None


@dataclass
class Annotations:
    """All that a source holds."""

    kind: str  # such as "COCO JSON"
    # What covers what where annotations overlap, for the report.
    order: str
    categories: Categories = field(default_factory=Categories)
    pictures: list[AnnotatedPicture] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=lambda: defaultdict(list))
    # Names of pictures by split, where the source has such lists.
    splits: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """Finds pictures by the names in annotations, which are often paths of another machine."""

    folder: Path  # in which they are looked for, and in all below it
    without: Sequence[Path] = ()  # but for these folders

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """Return the one file that is meant; None if there is none, or several may be.

        A name may lack its suffix. A path relative to the folder `beside`, or to that of all
        pictures, comes first.
        """
        name = name.replace("\\", "/")
        for start in (beside, self.folder):
            # `Path.is_file` raises on names that are too long.
            if start is not None and os.path.isfile(start / name):  # noqa: PTH113
                return start / name
        files = self._files.get(_file_key(name), [])
        # Of several with one name, the one whose folders agree, too.
        files = [file for file in files if file.as_posix().endswith(f"/{name}")] or files
        return files[0] if len(files) == 1 else None

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for parent, folders, names in os.walk(self.folder):
            place = Path(parent)
            folders[:] = sorted(each for each in folders if place / each not in self.without)
            for name in sorted(names):
                stem, suffix = os.path.splitext(name)  # noqa: PTH122 (as often as there are files)
                if suffix.lower() in SUFFIXES:
                    found.setdefault(_file_key(name), []).append(place / name)
                    found.setdefault(_file_key(stem), []).append(place / name)
        return found


def declared_size(height: object, width: object) -> tuple[int, int] | None:
    """Return a picture's size as a source states it; None for what is no size."""
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    return None


def _file_key(name: str) -> str:
    return unicodedata.normalize("NFC", name.rpartition("/")[2])
