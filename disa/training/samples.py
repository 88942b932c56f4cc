"""Photographs with masks as training samples, each a function of (seed, sample index) and of nothing else.

Signature: (Dataset, settings, index) -> pixels `3 S S` uint8, target `S S` (index into the labels, or `IGNORED`).
The augmentation is the baseline's [B] (quirk 3), with one stream of random numbers per sample (decision D80).
"""

import shlex
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset as Samples

from disa.data.dataset import FOLDER, Dataset, open_dataset
from disa.errors import DisaError
from disa.running.files import text_sha256
from disa.training.augment import crop, jitter_colours, pad, scaled_to
from disa.training.scenes import LABELS, TrainingScenes
from disa.training.settings import TrainConfig

Sample = tuple[Tensor, Tensor]


class Source(NamedTuple):
    """What a run is trained on. `facts` tell one source from another; a run goes on only with its own."""

    name: str
    labels: tuple[str, ...]  # what is prompted, in the order of the targets
    samples: Callable[[TrainConfig, int], Samples[Sample]]  # (settings, pixels a side)
    facts: dict[str, Any]
    # what is read before the first step, or refused; with the number of images that will be measured
    check: Callable[[Console | None, int], None]
    validation: Callable[[], Dataset]  # opens what to measure on


def _nothing_to_check(console: Console | None, measured: int) -> None:
    """Drawn and published masks are right as they are."""


PICTUREBOOK = Source(
    "picturebook",
    LABELS,
    TrainingScenes,
    {"name": "picturebook"},
    _nothing_to_check,
    partial(open_dataset, "picturebook", None),
)


def dataset_source(name: str, root: str | Path, split: str = "train") -> Source:
    """Return a data set (`disa data list`) or a folder of one's own as a source.

    Raises `DisaError` for one that cannot be opened, holds no images, or prompts other words than it scores.
    """
    dataset = open_dataset(name, root, split)
    labels = dataset.vocabulary.prompts()
    if not dataset.ids:
        raise DisaError(f"{root}: {name} holds no images of the split {split}; see disa data check")
    if len(labels) != len(dataset.vocabulary.categories):
        raise DisaError(
            f"{name} prompts other words than it scores, so it is no data set to train on; use pas20"
        )
    facts = {
        "name": name,
        "split": split,
        "images": len(dataset.ids),
        "ids": text_sha256(dataset.ids),
        "labels": list(labels),
    }
    check = _nothing_to_check
    if name == FOLDER:
        # What a user may have edited since: a run goes on only with what it has seen.
        positions = range(len(dataset.ids))
        facts["content_of_images"] = text_sha256(map(dataset.image_content, positions))
        facts["content_of_masks"] = text_sha256(map(dataset.mask_content, positions))
        check = partial(check_folder, dataset, root, split)
    validation = partial(open_dataset, name, root, "val")
    return Source(dataset.name, labels, partial(TrainingImages, dataset), facts, check, validation)


def check_folder(
    dataset: Dataset,
    root: str | Path,
    split: str,
    console: Console | None = None,
    measured: int = 0,
) -> None:
    """Read every mask of a folder of one's own that training and measuring will need, as `check_masks` does."""
    check_masks(dataset, _check_command(root, split), console)
    if measured and split != "val" and (Path(root) / "val.txt").exists():
        check_masks(
            open_dataset(FOLDER, root, "val"), _check_command(root, "val"), console, measured
        )


def check_masks(
    dataset: Dataset, command: str, console: Console | None = None, most: int | None = None
) -> None:
    """Read every mask, or the first `most`, once, under a bar on stderr.

    Raises `DisaError` for the first that is damaged, of another size than its picture, or holds a value that no
    category has; it names `command`, which lists them all (decision D84).
    """
    console = console or Console(stderr=True)
    quiet, positions = not console.is_terminal, range(len(dataset.ids[:most]))
    for index in track(positions, "checking masks", console=console, transient=True, disable=quiet):
        try:
            dataset.labels(index)
        except DisaError as error:
            raise DisaError(f"{error}; `{command}` lists all that is wrong") from None


class TrainingImages(Samples[Sample]):
    """Crops of a data set's images without end: every epoch in an order of its own."""

    def __init__(self, dataset: Dataset, settings: TrainConfig, size: int) -> None:
        """Yield crops of `size` pixels a side."""
        self.dataset, self.settings, self.size = dataset, settings, size

    def __getitem__(self, index: int) -> Sample:
        """Return one sample. Raises `DisaError` for an image that cannot be read."""
        seed, count = self.settings.seed, len(self.dataset.ids)
        position = int(_order(seed, index // count, count)[index % count])
        draw = np.random.default_rng((seed, index))
        image, labels = self.dataset.image(position), self.dataset.labels(position)
        scale = 1 + draw.uniform(-self.settings.scale_shrink, self.settings.scale_jitter)
        scaled = scaled_to(image, labels, self.dataset.ignored, max(1, round(self.size * scale)))
        image, target = crop(scaled, self.size, self.settings.largest_share, draw)
        if self.settings.colour_jitter:
            image = jitter_colours(image, draw)
        if self.settings.flip and draw.random() < 0.5:
            image, target = image[:, ::-1], target[:, ::-1]
        image, target = pad(image, target, self.size)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return pixels, torch.from_numpy(np.ascontiguousarray(target))


def _check_command(root: str | Path, split: str) -> str:
    asked = f" --split {split}" if (Path(root) / f"{split}.txt").exists() else ""
    return f"disa data check {FOLDER} {shlex.quote(str(root))}{asked}"


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of the images in an epoch."""
    return np.random.default_rng((seed, epoch, count)).permutation(count)
