"""Data sets that are converted once into `DIR/disa-prepared/NAME/SPLIT`, then read quickly.

Every file appears whole or not at all and is written once, so an interrupted run can be repeated
to finish the rest. `complete.json` is written last; without it nothing is read (decision D65).
"""

import shlex
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from disa.data.benchmark_record import PREPARED, Benchmark
from disa.data.images import write_png
from disa.data.masks import Labels, label_type, read_indices
from disa.data.pairs import PairedDataset, listed_pairs
from disa.data.parallel import each_part
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError
from disa.running.drafts import remove_abandoned
from disa.running.files import prepare_folder, write_json, write_whole
from disa.running.reading import read_json

FORMAT = 1  # of the prepared files; it counts up when what they hold changes


class Complete(TypedDict):
    """What `complete.json` says."""

    format: int
    ids: list[str]


class PreparedDataset(PairedDataset):
    """Label maps as they were prepared: a value in the file is a label."""

    @cached_property
    def _table(self) -> Labels:
        labels = range(len(self.vocabulary.categories))
        return np.array([*labels, self.ignored], label_type(self.ignored))


def open_prepared(benchmark: Benchmark, root: Path, split: str) -> PreparedDataset:
    """Open what `prepare` made.

    Raises `DisaError` with the command that prepares it, if it is missing or not complete.
    """
    folder = prepared_folder(benchmark, root, split)
    command = prepare_command(benchmark, root, split)
    ids = _complete(folder)
    if ids is None:
        raise DisaError(f"{folder}: {benchmark.name} is not prepared yet; run: {command}")
    images = root / (benchmark.pictures or "").format(split=split)
    pairs = listed_pairs(ids, images, folder / "labels", ".png", f"run again: {command}")
    vocabulary = load_vocabulary(benchmark.name)
    return PreparedDataset(benchmark.name, vocabulary, pairs, read_indices, benchmark.ignored)


def prepare(
    benchmark: Benchmark,
    root: Path,
    split: str,
    workers: int | None,
    report: Callable[[int, int], None],
) -> tuple[int, list[str]]:
    """Convert what is not converted yet; `report` is told (images done, images to do).

    Returns the number of images converted now, and a line for each image that could not be; only
    if there is none, the data set counts as complete.
    Raises `DisaError` for a tree that is not whole and for a folder that cannot be written.
    """
    folder = prepared_folder(benchmark, root, split)
    parts = ("labels", "images") if benchmark.converts_pictures else ("labels",)
    folders = [folder, *(folder / part for part in parts)]
    # Nothing to do, so the official files are not even looked for.
    ids = _complete(folder)
    if ids is not None and not _missing(folder, ids):
        for each in folders:
            remove_abandoned(each)
        return 0, []

    official = benchmark.open_official(root, split)
    for each in folders:
        prepare_folder(each)
    missing = _missing(folder, official.ids)
    problems: list[str] = []
    convert = partial(_convert, folder=folder, with_pictures=benchmark.converts_pictures)
    for part_problems in each_part(convert, official, missing, workers, report):
        problems += part_problems
    # The mark that all files are there; without it the data set is refused.
    if not problems:
        write_json(folder / "complete.json", {"format": FORMAT, "ids": official.ids})
    return len(missing) - len(problems), problems


def prepared_folder(benchmark: Benchmark, root: Path, split: str) -> Path:
    """Return the folder of a prepared data set."""
    return root / PREPARED / benchmark.name / split


def prepare_command(benchmark: Benchmark, root: Path, split: str) -> str:
    """Return the command that prepares a data set, to be copied from a message."""
    option = "" if split == "val" else f" --split {split}"
    return f"disa data prepare {benchmark.name} {shlex.quote(str(root))}{option}"


def _convert(part: PairedDataset, folder: Path, with_pictures: bool) -> list[str]:
    """Write the files of some images; return a line for each image that cannot be converted."""
    problems = []
    for index, name in enumerate(part.ids):
        try:
            if with_pictures:
                # Saved with Pillow's default quality of 75, as for the published results (D64).
                picture = Image.fromarray(part.image(index))
                write_whole(folder / "images" / f"{name}.jpg", partial(picture.save, format="JPEG"))
            # The label map comes last: an image that has one is complete.
            write_png(folder / "labels" / f"{name}.png", part.labels(index))
        except DisaError as error:
            problems.append(str(error))
    return problems


def _missing(folder: Path, ids: Sequence[str]) -> list[int]:
    """Return the indices of the images that have no label map yet."""
    present = {file.name for file in (folder / "labels").glob("*.png")}
    return [index for index, name in enumerate(ids) if f"{name}.png" not in present]


def _complete(folder: Path) -> list[str] | None:
    """Return the ids of a complete data set; None if there is none.

    Raises `DisaError` for one in another format and for one without images.
    """
    path = folder / "complete.json"
    if not path.exists():
        return None
    remedy = f"remove {folder} and prepare again"
    data: Complete = read_json(path, remedy, Complete)
    if data["format"] != FORMAT:
        raise DisaError(f"{path}: was written by another version of disa; {remedy}")
    if not data["ids"]:
        raise DisaError(f"{path}: lists no image; {remedy}")
    return data["ids"]
