"""A data set of one's own: `ROOT/{images,masks,classes.txt}` -> pairs. Masks are indices, palette indices or colours.

`classes.txt` names a category a line, the first is index 0; `classes.json` can also give ids or colours, thing or
stuff, synonyms, and which values are ignored. `train.txt` and `val.txt` list the images of a split, if there are any.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from disa.data.images import SUFFIXES
from disa.data.masks import Values, read_colours, read_indices
from disa.data.pairs import Pair, PairedDataset, files_by_stem, pair_folders, read_list
from disa.data.vocabulary import Vocabulary, packed, read_vocabulary
from disa.errors import DisaError

REMEDY = "a data set of your own is a folder with images/, masks/ and classes.txt (docs/data.md)"
VOID = (
    255,
    65535,
)  # ignored in masks of indices unless classes.json says otherwise, or a category has that index


class FolderDataset(PairedDataset):
    """A data set that knows all its values: any other is a mistake in the mask or in the list of classes."""

    def values(self, index: int) -> Values:
        """Return the mask's own values. Raises `DisaError` for one that no category has."""
        values = super().values(index)
        if strange := self.strange(np.unique(values).tolist()):
            pair = self.pairs[index]
            shown = ", ".join(_shown(value, self.read is read_colours) for value in strange[:5])
            more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            raise DisaError(
                f"{pair.mask}: holds {shown}{more}, which no category has; add it to the classes, "
                'or to "ignored" in classes.json'
            )
        return values


def open_folder(root: Path, split: str) -> PairedDataset:
    """Open the images that `SPLIT.txt` lists; without any such list, all of them, whatever the split.

    Raises `DisaError` for a folder that lacks something, an image without a mask, and an id that is not there.
    """
    if not root.is_dir():
        raise DisaError(f"{root}: no such folder; {REMEDY}")
    vocabulary, ignored_values, colours = _classes(root)
    pairs = _pairs(root, split)
    ignored = 255 if len(vocabulary.categories) <= 255 else 65535
    read = read_colours if colours else read_indices
    return FolderDataset(
        vocabulary.name, vocabulary, pairs, read, ignored, unlabelled=ignored_values
    )


def _pairs(root: Path, split: str) -> list[Pair]:
    images, masks, listed = root / "images", root / "masks", root / f"{split}.txt"
    if not listed.exists():
        if others := sorted(
            path.stem for path in (root / "train.txt", root / "val.txt") if path.exists()
        ):
            raise DisaError(
                f"{listed}: no such file; write an id of the split a line (there is {others[0]}.txt)"
            )
        return pair_folders(images, masks, REMEDY, SUFFIXES)
    pictures, found = (
        files_by_stem(images, SUFFIXES, REMEDY),
        files_by_stem(masks, (".png",), REMEDY),
    )
    pairs = []
    for line in read_list(listed, "list an image's id a line, or remove the file"):
        name = line if line in pictures else Path(line).stem
        if name not in pictures:
            raise DisaError(
                f'{listed}: "{line}" is not in {images}; add the picture or remove the line'
            )
        if name not in found:
            raise DisaError(
                f"{masks / name}.png: no such mask; draw it, or remove {name} from {listed.name}"
            )
        pairs.append(Pair(name, pictures[name], found[name]))
    return pairs


def _classes(root: Path) -> tuple[Vocabulary, tuple[int, ...], bool]:
    """Return the vocabulary, the values that are ignored, and whether masks hold colours."""
    path = next(
        (path for path in (root / "classes.json", root / "classes.txt") if path.exists()), None
    )
    if path is None:
        raise DisaError(
            f"{root / 'classes.txt'}: no such file; name a category a line, or write classes.json"
        )
    read = read_vocabulary(path)
    vocabulary = Vocabulary(root.resolve().name, read.categories, read.prompted, read.scored)
    data = json.loads(path.read_text(encoding="utf-8-sig")) if path.suffix == ".json" else []
    entries = data["categories"] if isinstance(data, dict) else data
    coloured = [isinstance(entry, dict) and "color" in entry for entry in entries]
    if any(coloured) and not all(coloured):
        name = vocabulary.categories[coloured.index(False)].name
        raise DisaError(
            f'{path}: "{name}" has no "color", others have; give all of them one, or none'
        )
    given = data.get("ignored") if isinstance(data, dict) else None
    own = {category.source_id for category in vocabulary.categories}
    ignored = (
        VOID if given is None and not any(coloured) else _ignored(given or [], any(coloured), path)
    )
    return vocabulary, tuple(value for value in ignored if value not in own), any(coloured)


def _ignored(given: Any, colours: bool, path: Path) -> Iterable[int]:
    wanted = "colours [red, green, blue]" if colours else "whole numbers"
    try:
        return tuple(packed(value) if colours else int(value) for value in given)
    except (TypeError, ValueError):
        raise DisaError(
            f'{path}: "ignored" is {json.dumps(given)[:60]}; write a list of {wanted}'
        ) from None


def _shown(value: int, colour: bool) -> str:
    return f"({value >> 16}, {value >> 8 & 255}, {value & 255})" if colour else str(value)
