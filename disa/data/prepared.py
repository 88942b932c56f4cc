"""Data sets converted once: official files -> `DIR/disa-prepared/NAME/SPLIT/{labels,images}` -> a quick `Dataset`.

Every file appears whole or not at all and is made once, so an interrupted run goes on where it stopped. `complete.json`
is written last; without it nothing is read (D65).
"""

import json
import shlex
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from disa.data.ade20k import ShrunkDataset
from disa.data.benchmarks import PREPARED, Benchmark
from disa.data.masks import Labels, read_indices
from disa.data.pairs import Pair, PairedDataset, listed_files
from disa.data.parallel import each_part
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError
from disa.running.files import prepare_folder, write_whole

FORMAT = 1  # of the prepared files; a change of what is in them counts it up
IGNORED = {"a847": 65535, "pc59": 255, "pc459": 65535}


class PreparedDataset(PairedDataset):
    """Label maps as they were prepared: a value in the file is a label."""

    @cached_property
    def _table(self) -> Labels:
        labels = len(self.vocabulary.categories)
        return np.array(
            [*range(labels), self.ignored], np.uint8 if self.ignored < 256 else np.uint16
        )


def open_prepared(benchmark: Benchmark, root: Path, split: str) -> PreparedDataset:
    """Open what `prepare` made. Raises `DisaError` with the command that makes it, if it is not there or not whole."""
    folder, command = (
        prepared_folder(benchmark, root, split),
        prepare_command(benchmark, root, split),
    )
    ids = _complete(folder)
    if ids is None:
        raise DisaError(f"{folder}: {benchmark.name} is not prepared yet; run: {command}")
    remedy = f"run again: {command}"
    labels = listed_files(ids, folder / "labels", ".png", remedy)
    images = listed_files(ids, root / _pictures(benchmark, split), ".jpg", remedy)
    pairs = [Pair(*each) for each in zip(ids, images, labels, strict=True)]
    vocabulary = load_vocabulary(benchmark.name)
    return PreparedDataset(benchmark.name, vocabulary, pairs, read_indices, IGNORED[benchmark.name])


def prepare(
    benchmark: Benchmark,
    root: Path,
    split: str,
    workers: int | None,
    progress: Callable[[int, int], None],
) -> tuple[int, list[str]]:
    """Convert what is not converted yet; return the number of images made now and what went wrong, a line each.

    `progress` is told (done, of how many). `complete.json` is written only if nothing went wrong.
    Raises `DisaError` for a tree that is not whole and a folder that cannot be written.
    """
    folder = prepared_folder(benchmark, root, split)
    ids = _complete(folder)
    if ids is not None and not _missing(folder, ids, benchmark):
        return 0, []
    official = benchmark.open(root, split)
    prepare_folder(folder / "labels")
    if isinstance(official, ShrunkDataset):
        prepare_folder(folder / "images")
    left = _missing(folder, official.ids, benchmark)
    problems: list[str] = []
    done = len(official.ids) - len(left)
    progress(done, len(official.ids))
    for count, found in each_part(partial(_convert, folder=folder), official, left, workers):
        done += count
        problems += found
        progress(done, len(official.ids))
    if not problems:
        text = json.dumps({"format": FORMAT, "ids": official.ids}) + "\n"
        write_whole(folder / "complete.json", lambda file: file.write(text.encode()))
    return len(left) - len(problems), problems


def prepared_folder(benchmark: Benchmark, root: Path, split: str) -> Path:
    """Return the folder of a prepared data set."""
    return root / PREPARED / benchmark.name / split


def prepare_command(benchmark: Benchmark, root: Path, split: str) -> str:
    """Return the command that prepares a data set, to be copied from a message."""
    asked = "" if split == "val" else f" --split {split}"
    return f"disa data prepare {benchmark.name} {shlex.quote(str(root))}{asked}"


def _convert(part: PairedDataset, folder: Path) -> list[str]:
    """Write the files of some images and return what went wrong, a line each."""
    problems = []
    for index, name in enumerate(part.ids):
        try:
            if isinstance(part, ShrunkDataset):
                # the published results' pictures were saved at Pillow's own quality, 75 (D64)
                picture = Image.fromarray(part.image(index))
                write_whole(folder / "images" / f"{name}.jpg", partial(picture.save, format="JPEG"))
            labels = Image.fromarray(part.labels(index))
            write_whole(folder / "labels" / f"{name}.png", partial(labels.save, format="PNG"))
        except DisaError as error:
            problems.append(str(error))
    return problems


def _pictures(benchmark: Benchmark, split: str) -> str:
    return (benchmark.pictures or "").format(split=split)


def _missing(folder: Path, ids: Sequence[str], benchmark: Benchmark) -> list[int]:
    """Return the indices of the images that are not converted; the label map is written last."""
    there = {file.name for file in (folder / "labels").glob("*.png")}
    return [index for index, name in enumerate(ids) if f"{name}.png" not in there]


def _complete(folder: Path) -> list[str] | None:
    """Return the ids of a whole prepared data set; None if it is not there or of another format."""
    path = folder / "complete.json"
    try:
        data = json.loads(path.read_text())
        if data["format"] == FORMAT and isinstance(data["ids"], list):
            return [str(name) for name in data["ids"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DisaError(
            f"{path}: cannot be read ({error}); remove {folder} and prepare again"
        ) from None
    raise DisaError(
        f"{path}: was prepared by another version of disa; remove {folder} and prepare again"
    )
