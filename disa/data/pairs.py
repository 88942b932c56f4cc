"""Data sets of images with a mask each: (image file, mask) pairs -> a `Dataset` whose labels are looked up.

The families' modules find the pairs and say how a mask is read; what a value means is the vocabulary's `source_id`.
"""

import os
from collections.abc import Callable, Container, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from disa.data.images import Pixels, read_file, read_size
from disa.data.masks import Labels, Values, label_table, to_labels
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError
from disa.running.files import file_sha256, text_sha256


@dataclass(frozen=True)
class Pair:
    """One image's id, its file, and what its mask is read from: a file, or annotations already in memory."""

    id: str
    image: Path
    mask: Any


class PairedDataset:
    """A `Dataset` that reads images and masks as they are; `read` turns a pair's mask into source ids (H, W).

    `unlabelled` holds the values that rightly stand for no category; `disa data check` reports any other such value.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        pairs: Sequence[Pair],
        read: Callable[[Any], Values],
        ignored: int = 255,
        unlabelled: Container[int] = (),
    ) -> None:
        self.name = name
        self.vocabulary = vocabulary
        self.ignored = ignored
        self.ids = tuple(pair.id for pair in pairs)
        self.pairs = tuple(pairs)
        self.read = read
        self.unlabelled = unlabelled

    def image(self, index: int) -> Pixels:
        """Return the picture, uint8 (H, W, 3). Raises `DisaError`."""
        return read_file(self.pairs[index].image)

    def image_path(self, index: int) -> Path:
        """Return the picture's file."""
        return self.pairs[index].image

    def image_content(self, index: int) -> str:
        """Return size and digest of the picture's file. Raises `DisaError` if it cannot be read."""
        return content(self.pairs[index].image)

    def mask_content(self, index: int) -> str:
        """Return size and digest of the mask's file, or of its annotations."""
        mask = self.pairs[index].mask
        return content(mask) if isinstance(mask, Path) else text_sha256([repr(mask)])

    def labels(self, index: int) -> Labels:
        """Return the label map (H, W). Raises `DisaError`."""
        return to_labels(self.values(index), self._table)

    def values(self, index: int) -> Values:
        """Return the mask's own values (H, W). Raises `DisaError`, also for a mask of another size than its picture."""
        pair = self.pairs[index]
        values, size = self.read(pair.mask), read_size(pair.image)
        if values.shape != size:
            raise DisaError(
                f"{self.mask_name(index)}: is {values.shape[1]} x {values.shape[0]} pixels, its picture {pair.image} "
                f"is {size[1]} x {size[0]}; unpack both again, or remove the pair"
            )
        return values

    def mask_name(self, index: int) -> str:
        """Return the mask's file, or what stands for it in a message if it is one of many in a file."""
        pair = self.pairs[index]
        return str(pair.mask) if isinstance(pair.mask, Path) else f"the annotations of {pair.id}"

    def strange(self, values: Iterable[int]) -> list[int]:
        """Return those of the values that stand for no category and are not known as unlabelled."""
        sources = set(self.vocabulary.source_ids)
        return sorted(
            value for value in values if value not in sources and value not in self.unlabelled
        )

    def part(self, indices: Sequence[int]) -> "PairedDataset":
        """Return the data set of these images alone, to be sent to another process."""
        part = copy(self)
        part.pairs = tuple(self.pairs[index] for index in indices)
        part.ids = tuple(pair.id for pair in part.pairs)
        return part

    @cached_property
    def _table(self) -> Labels:
        return label_table(self.vocabulary, self.ignored)


def content(path: Path) -> str:
    """Return "BYTES:SHA256" of a file. Raises `DisaError` if it cannot be read."""
    try:
        return f"{path.stat().st_size}:{file_sha256(path)}"
    except OSError as error:
        raise DisaError(f"{path}: cannot be read ({error.strerror})") from None


def files_by_stem(folder: Path, suffixes: Sequence[str], remedy: str) -> dict[str, Path]:
    """Return the files of a folder with these suffixes (lower case), by name without it, sorted.

    Raises `DisaError` for a missing folder, one that holds none, and two files of one name; `remedy` says what to do.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except NotADirectoryError:
        raise DisaError(f"{folder}: is a file where a folder is expected; {remedy}") from None
    except FileNotFoundError:
        raise DisaError(f"{folder}: no such folder; {remedy}") from None
    except OSError as error:
        raise DisaError(
            f"{folder}: cannot be read ({error.strerror}); give yourself permission"
        ) from None
    found: dict[str, Path] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 (118,000 names: a Path each takes seconds)
        if suffix.lower() in suffixes:
            if stem in found:
                raise DisaError(
                    f"{folder / name}: {found[stem].name} has the same name; remove one of them"
                )
            found[stem] = folder / name
    if not found:
        what = f"{suffixes[0]} file" if len(suffixes) == 1 else "picture"
        raise DisaError(f"{folder}: holds no {what}; {remedy}")
    return found


def pair_folders(
    images: Path, masks: Path, remedy: str, suffixes: Sequence[str] = (".jpg",)
) -> list[Pair]:
    """Pair each image of a folder with the mask (`.png`) of the same name in another.

    Raises `DisaError` where one lacks the other: half an archive would give a number for half a data set.
    """
    pictures = files_by_stem(images, suffixes, remedy)
    found = files_by_stem(masks, (".png",), remedy)
    if lonely := pictures.keys() - found.keys():
        raise DisaError(f"{masks / min(lonely)}.png: no such mask{_more(len(lonely))}; {remedy}")
    if lonely := found.keys() - pictures.keys():
        first = min(lonely)
        raise DisaError(
            f"{images / first}.jpg: no such picture for {found[first].name}{_more(len(lonely))}; {remedy}"
        )
    return [Pair(stem, picture, found[stem]) for stem, picture in pictures.items()]


def listed_files(ids: Sequence[str], folder: Path, suffix: str, remedy: str) -> list[Path]:
    """Return the file of each id in a folder. Raises `DisaError` that names the first one missing."""
    found = files_by_stem(folder, (suffix,), remedy)
    if lonely := [name for name in ids if name not in found]:
        raise DisaError(f"{folder / lonely[0]}{suffix}: no such file{_more(len(lonely))}; {remedy}")
    return [found[name] for name in ids]


def read_list(path: Path, remedy: str) -> list[str]:
    """Return the ids of a list file, one a line. Raises `DisaError` if it is missing, empty or names one twice."""
    try:
        ids = path.read_text(encoding="utf-8-sig").split()
    except OSError as error:
        raise DisaError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError:
        raise DisaError(f"{path}: is not a text file; {remedy}") from None
    if not ids:
        raise DisaError(f"{path}: lists no image; {remedy}")
    if len(set(ids)) < len(ids):
        twice = next(name for index, name in enumerate(ids) if name in ids[:index])
        raise DisaError(f"{path}: lists {twice} twice; remove one line")
    return ids


def _more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""
