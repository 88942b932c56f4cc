"""A data set of your own: a folder with `images/`, `masks/` and `classes.txt` or `classes.json`.

Masks hold indices, palette indices or colours. `train.txt` and `val.txt` list the images of a
split, if they exist.
"""

import os
import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from disa.data.images import SUFFIXES, Reading
from disa.data.imports.sources import import_hint
from disa.data.masks import VOID, Labels, ignored_value, read_colours, read_indices, to_labels
from disa.data.pairs import (
    SHOWN_VALUES,
    Pair,
    PairedDataset,
    files_by_stem,
    pair_folders,
    read_list,
)
from disa.data.vocabulary import (
    Category,
    ClassFile,
    Level,
    categories_of,
    name_key,
    packed,
    read_class_file,
    vocabulary_of,
)
from disa.errors import DisaError
from disa.running.lists import first_of
from disa.running.reading import check_form

REMEDY = "a data set of your own is a folder with images/, masks/ and classes.txt (docs/data.md)"
CLASS_FILES = ("classes.json", "classes.txt", "labelmap.txt")  # the first that is there counts


class FolderDataset(PairedDataset):
    """A data set whose values are all known: any other is a mistake in a mask or in the classes."""

    # A user's picture looks the same in training as later to `disa segment`.
    reading = Reading()
    # Whether 255 and 65535 are ignored because they usually are, and not because a file says so.
    void_by_custom = False

    @property
    def in_colours(self) -> bool:
        """Whether the values in masks are colours, as `vocabulary.packed` writes them."""
        return self.read_mask is read_colours

    def labels(self, index: int) -> Labels:
        """Return the label map (H, W). Raises `DisaError` for a value that no category has."""
        values = self.values(index)
        unknown = self.unknown_values(np.unique(values).tolist())
        if unknown:
            raise DisaError(self.describe_unknown(index, dict.fromkeys(unknown, 0)))
        return to_labels(values, self._table)

    def describe_unknown(self, index: int, unknown: Mapping[int, int]) -> str:
        """Return a line on values that no category has, and on what may have happened."""
        values = [_shown(value, self.in_colours) for value in unknown]
        return (
            f"{self.mask_name(index)}: holds {first_of(values, SHOWN_VALUES)}, which no category "
            f'has; add it to the classes, or to "ignored" in classes.json{self._guess([*unknown])}'
        )

    def _guess(self, unknown: Sequence[int]) -> str:
        known = set(self.vocabulary.source_ids)
        if self.in_colours:
            # OpenCV writes blue, green, red.
            exchanged = {(value & 255) << 16 | value & 0xFF00 | value >> 16 for value in unknown}
            return "; red and blue seem to be exchanged" if exchanged <= known else ""
        count = len(known)
        if unknown == [count] and known == set(range(count)):
            return (
                f"; if your masks count from 1, or 0 is their background, the {count} classes lack "
                "a first line for the value 0"
            )
        return ""


def open_folder(root: Path, split: str) -> FolderDataset:
    """Open the images that `SPLIT.txt` lists; without any such list, all of them.

    Raises `DisaError` for a folder that lacks something, an image without a mask, and an id in the
    list that has no image.
    """
    if not root.is_dir():
        raise DisaError(f"{root}: no such folder; {REMEDY}")
    try:
        return _open(root, split)
    except DisaError as error:
        # What another tool has written is no data set yet.
        hint = import_hint(root)
        if hint is None:
            raise
        raise DisaError(f"{error}; {hint}") from None


def _open(root: Path, split: str) -> FolderDataset:
    # The list of classes decides how masks are read and which values count.
    class_file = read_class_file(_class_path(root))
    categories = categories_of(class_file)
    _refuse_equal_names(class_file.path, categories)
    in_colours = class_file.has_colours()
    own = {category.source_id for category in categories}
    unlabelled = tuple(value for value in _ignored(class_file, in_colours) if value not in own)
    dataset = FolderDataset(
        root.resolve().name,
        vocabulary_of(root.resolve().name, categories),
        _pairs(root, split),
        read_colours if in_colours else read_indices,
        ignored=ignored_value(len(categories)),
        unlabelled=unlabelled,
    )
    dataset.lists = [root / name for name in (*CLASS_FILES, "train.txt", "val.txt", f"{split}.txt")]
    dataset.void_by_custom = not in_colours and class_file.ignored is None
    return dataset


def _pairs(root: Path, split: str) -> list[Pair]:
    images = root / "images"
    masks = root / "masks"
    listed = root / f"{split}.txt"
    # Without any list, all images count for either split.
    if not listed.exists():
        for other in ("train.txt", "val.txt"):
            if (root / other).exists():
                raise DisaError(
                    f"{listed}: no such file; write an id of the split a line (there is {other})"
                )
        return pair_folders(images, masks, REMEDY, SUFFIXES)

    image_files = files_by_stem(images, SUFFIXES, REMEDY)
    mask_files = files_by_stem(masks, (".png",), REMEDY)
    pairs: dict[str, Pair] = {}
    for line in read_list(listed, "list an image's id a line, or remove the file"):
        name, mask = _listed(line, image_files, mask_files)
        if name is None:
            raise DisaError(
                f'{listed}: "{line}" is no picture in {images}, and no pair of one and its mask in '
                f"{masks}; add the files or remove the line"
            )
        if mask is None:
            raise DisaError(
                f"{masks / name}.png: no such mask; draw it, or remove {name} from {listed.name}"
            )
        # Two lines may write one image in two ways.
        if name in pairs:
            raise DisaError(f'{listed}: lists {name} twice ("{line}"); remove one line')
        pairs[name] = Pair(name, image_files[name], mask_files[mask])
    return list(pairs.values())


def _listed(
    line: str, images: Container[str], masks: Container[str]
) -> tuple[str | None, str | None]:
    """Return the names of the image and the mask that a line of a list means; None for no file.

    A line is an image, and the mask has its name; or an image and its mask, which may have another
    name, with a space, a tab, a comma or a semicolon between.
    """
    image = _file_name(line, images)
    if image is not None:
        return image, image if image in masks else None
    # Names may have spaces, so a line can be divided at any of them.
    for between in re.finditer(r"\s*[,;]\s*|\s+", line):
        image = _file_name(line[: between.start()], images)
        mask = _file_name(line[between.end() :], masks)
        if image is not None and mask is not None:
            return image, mask
    return None, None


def _file_name(text: str, known: Container[str]) -> str | None:
    """Return which known name a text means: with or without folders and a suffix, either slash."""
    text = unicodedata.normalize("NFC", text.strip("\"' "))
    for name in (text, text.replace("\\", "/").rpartition("/")[2]):
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 (Path drops a slash at the end)
        if name in known:
            return name
        # Of "lake.v2" the end is no suffix, so it does not mean the picture "lake".
        if suffix.lower() in SUFFIXES and stem in known:
            return stem
    return None


def _class_path(root: Path) -> Path:
    for name in CLASS_FILES:
        if (root / name).exists():
            return root / name
    raise DisaError(
        f"{root / 'classes.txt'}: no such file; name a category a line, or write classes.json"
    )


def _refuse_equal_names(path: Path, categories: Iterable[Category]) -> None:
    """Raise `DisaError` if two categories have one name: the first would win all their pixels."""
    owners: dict[str, str] = {}
    for category in categories:
        key = name_key(category.name)
        if key in owners:
            raise DisaError(
                f'{path}: "{owners[key]}" and "{category.name}" are one name; give one of them '
                "another, or draw both in one value"
            )
        owners[key] = category.name


def _ignored(class_file: ClassFile, in_colours: bool) -> Iterable[int]:
    """Return the values in masks that do not count."""
    # Void is usual in masks of indices, but no colour is void by custom.
    given = class_file.ignored
    if given is None:
        return () if in_colours else VOID
    form: Any = list[tuple[Level, Level, Level]] if in_colours else list[int]
    wanted = "colours [red, green, blue]" if in_colours else "whole numbers"
    check_form(
        {"ignored": given}, dict[str, form], str(class_file.path), f"write a list of {wanted}"
    )
    return map(packed, given) if in_colours else given


def _shown(value: int, is_colour: bool) -> str:
    return f"({value >> 16}, {value >> 8 & 255}, {value & 255})" if is_colour else str(value)
