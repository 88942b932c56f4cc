"""Data sets of images with a mask each: how the files are found, and how masks become labels.

The files of the data sets say where the pairs are and how a mask is read; what a value in a mask
means is the `source_id` of the vocabulary's categories.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from disa.data.images import Pixels, Reading, read_picture, read_size
from disa.data.masks import Labels, Values, label_table, to_labels
from disa.data.picture_paths import in_subfolder
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError
from disa.running.files import file_sha256, text_sha256
from disa.running.reading import read_text

SHOWN_VALUES = 5
LONGEST_LINE = 10_000  # of a list; the paths of an image and its mask have at most 4,096 each


@dataclass(frozen=True)
class Pair:
    """An image's id, its file, and what its mask is read from: a file, or data in memory."""

    id: str
    image: Path
    mask: Any


class PairedDataset:
    """A `Dataset` that reads images and masks when they are asked for."""

    # As the published numbers of benchmarks were made (decision D115).
    reading = Reading(profiles=False)
    # Files beside images and masks from which the data set is read.
    lists: Sequence[Path] = ()

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        pairs: Sequence[Pair],
        read_mask: Callable[[Any], Values],
        ignored: int = 255,
        unlabelled: Container[int] = (),
    ) -> None:
        """Describe the data set; nothing is read yet.

        `read_mask` turns a pair's mask into source ids (H, W). `unlabelled` are the source ids that
        rightly stand for no category; `disa data check` reports any other.
        """
        self.name = name
        self.vocabulary = vocabulary
        self.ignored = ignored
        self.ids = tuple(pair.id for pair in pairs)
        self.pairs = tuple(pairs)
        self.read_mask = read_mask
        self.unlabelled = unlabelled

    def image(self, index: int) -> Pixels:
        """Return the picture, uint8 (H, W, 3). Raises `DisaError`."""
        return read_picture(self.pairs[index].image, self.reading).pixels

    def image_content(self, index: int) -> str:
        """Return size and digest of the picture's file. Raises `DisaError` if it cannot be read."""
        return content(self.pairs[index].image)

    def mask_content(self, index: int) -> str:
        """Return size and digest of the mask's file, or the digest of its annotations."""
        mask = self.pairs[index].mask
        if isinstance(mask, Path):
            return content(mask)
        # Annotations in memory are plain numbers and texts.
        return text_sha256([repr(mask)])

    def labels(self, index: int) -> Labels:
        """Return the label map (H, W). Raises `DisaError`."""
        return to_labels(self.values(index), self._table)

    def values(self, index: int) -> Values:
        """Return the source ids (H, W) in the mask.

        Raises `DisaError` for a damaged mask and for one that is not as large as its picture.
        """
        # The picture's size is read from its header, so it is not decoded for its mask.
        pair = self.pairs[index]
        values = self.read_mask(pair.mask)
        height, width = read_size(pair.image)
        if values.shape != (height, width):
            remedy = "unpack both again, or remove the pair"
            if read_picture(pair.image).is_turned:
                remedy = "its EXIF orientation turns it, so turn the mask, too"
            raise DisaError(
                f"{self.mask_name(index)}: is {values.shape[1]} x {values.shape[0]} pixels, its "
                f"picture {pair.image} is {width} x {height}; {remedy}"
            )
        return values

    def mask_name(self, index: int) -> str:
        """Return what messages call the mask: its file, or its image if it has none of its own."""
        pair = self.pairs[index]
        return str(pair.mask) if isinstance(pair.mask, Path) else f"the annotations of {pair.id}"

    def unknown_values(self, values: Iterable[int]) -> list[int]:
        """Return, in ascending order, the source ids that stand for nothing that is known."""
        known = set(self.vocabulary.source_ids)
        return sorted(
            value for value in values if value not in known and value not in self.unlabelled
        )

    def describe_unknown(self, index: int, unknown: Mapping[int, int]) -> str:
        """Return a line on source ids in a mask that stand for nothing, with their pixels."""
        shown = ", ".join(
            f"{value} ({count:,} pixels)" for value, count in [*unknown.items()][:SHOWN_VALUES]
        )
        return f"{self.mask_name(index)}: holds {shown}, which stands for nothing; unpack it again"

    def part(self, indices: Sequence[int]) -> "PairedDataset":
        """Return the data set of these images alone, to be sent to another process."""
        # A copy shares everything but the pairs, which are most of what would be sent.
        part = copy(self)
        part.pairs = tuple(self.pairs[index] for index in indices)
        part.ids = tuple(pair.id for pair in part.pairs)
        return part

    # Made once: for masks of colours it may have 16 million entries.
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
    """Return the files of a folder with these suffixes (lower case), sorted, by name without it.

    Names are composed (NFC): the same accents have other bytes on macOS. Raises `DisaError`, which
    ends with `remedy`, for a folder that is missing or holds none, and for two files of one name.
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

    # 118,000 files in the case of COCO-Stuff, hence strings for as long as possible.
    files: dict[str, Path] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() not in suffixes:
            continue
        stem = unicodedata.normalize("NFC", stem)
        if stem in files:
            raise DisaError(
                f"{folder / name}: {files[stem].name} has the same name; remove one of them"
            )
        files[stem] = folder / name
    if not files:
        missing = f"{suffixes[0]} file" if len(suffixes) == 1 else "picture"
        raise DisaError(f"{folder}: holds no {missing}{in_subfolder(folder)}; {remedy}")
    return files


def pair_folders(
    images: Path, masks: Path, remedy: str, suffixes: Sequence[str] = (".jpg",)
) -> list[Pair]:
    """Pair each image of a folder with the mask (`.png`) of the same name in another.

    Raises `DisaError` where one lacks the other: half an archive would give a number for half a
    data set (decision D68).
    """
    image_files = files_by_stem(images, suffixes, remedy)
    mask_files = files_by_stem(masks, (".png",), remedy)

    if without_mask := image_files.keys() - mask_files.keys():
        more = _more(len(without_mask))
        raise DisaError(f"{masks / min(without_mask)}.png: no such mask{more}; {remedy}")
    if without_image := mask_files.keys() - image_files.keys():
        first = min(without_image)
        more = _more(len(without_image))
        raise DisaError(
            f"{images / first}.jpg: no such picture for {mask_files[first].name}{more}; {remedy}"
        )
    return [Pair(stem, image, mask_files[stem]) for stem, image in image_files.items()]


def listed_pairs(
    ids: Sequence[str], images: Path, masks: Path, mask_suffix: str, remedy: str
) -> list[Pair]:
    """Return the image (`.jpg`) and the mask of each id.

    Raises `DisaError` that names the first file missing.
    """
    image_files = listed_files(ids, images, ".jpg", remedy)
    mask_files = listed_files(ids, masks, mask_suffix, remedy)
    return [Pair(*files) for files in zip(ids, image_files, mask_files, strict=True)]


def listed_files(ids: Sequence[str], folder: Path, suffix: str, remedy: str) -> list[Path]:
    """Return the file of each id in a folder. Raises `DisaError` that names the first missing."""
    files = files_by_stem(folder, (suffix,), remedy)
    if missing := [name for name in ids if name not in files]:
        more = _more(len(missing))
        raise DisaError(f"{folder / missing[0]}{suffix}: no such file{more}; {remedy}")
    return [files[name] for name in ids]


def read_list(path: Path, remedy: str) -> list[str]:
    """Return the lines of a list file without blank ones and comments (`#`), spaces kept inside.

    Raises `DisaError` for a file that is missing, empty or has a line twice.
    """
    lines = [line.strip() for line in read_text(path, remedy).split("\n")]
    if max(map(len, lines)) > LONGEST_LINE:
        raise DisaError(f"{path}: a line has more than {LONGEST_LINE:,} characters; {remedy}")
    ids = [line for line in lines if line and not line.startswith("#")]
    if not ids:
        raise DisaError(f"{path}: lists no image; {remedy}")
    twice, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise DisaError(f"{path}: lists {twice} twice; remove one line")
    return ids


def _more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""
