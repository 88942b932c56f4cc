"""What a run trains on: picturebook, a published data set, or a folder of your own.

One sample is a crop of a picture and its target, and depends on its index alone. Free of torch, so
that processes that prepare samples start quickly.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from disa.config import IGNORED
from disa.data.dataset import FOLDER, Dataset, open_dataset
from disa.data.doubts import doubts
from disa.data.drawn import PICTUREBOOK, DrawnDataset
from disa.data.folder import FolderDataset
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError
from disa.picturebook import LARGEST, NOUNS, SEEN, SMALLEST, THINGS, TRAIN_SEED, render
from disa.running.files import text_sha256
from disa.running.terminal import counted, warn
from disa.training.augment import CroppedImages, Sample, Target
from disa.training.settings import TrainConfig

# Picturebook's open-vocabulary protocol: only these of its nouns have masks in training.
TRAINED_NOUNS = tuple(noun for noun in NOUNS if noun in SEEN)
SEED_STRIDE = 2**32  # scenes between the streams of two seeds: no run is ever that long


@runtime_checkable
class Samples(Protocol):
    """Samples without end. An instance can be pickled, for other processes."""

    def __getitem__(self, index: int) -> Sample:
        """Return a sample: the picture and, for every pixel, a label's index or `IGNORED`."""


class DrawnScenes:
    """Scenes of picturebook, drawn at the size that they are needed in.

    Nouns without masks in training are `IGNORED` in the target.
    """

    def __init__(self, settings: TrainConfig, size: int) -> None:
        """Make crops of `size` pixels a side. Raises `DisaError` for sizes that cannot be drawn."""
        largest = size * (1 + settings.scale_jitter)
        if not SMALLEST <= size <= largest <= LARGEST:
            raise DisaError(
                f"scenes of {size} to {largest:.0f} pixels a side (backbone_image_size, "
                f"scale_jitter): {SMALLEST} to {LARGEST} can be drawn"
            )
        self.settings = settings
        self.size = size
        # Of each noun: its index among the labels.
        self.label_of_noun = np.full(len(NOUNS), IGNORED)
        for index, noun in enumerate(TRAINED_NOUNS):
            self.label_of_noun[NOUNS.index(noun)] = index

    def __getitem__(self, index: int) -> Sample:
        """Draw one scene and return a crop of it."""
        # Each scene has its own stream of random numbers (decision D80).
        settings = self.settings
        draw = np.random.default_rng((settings.seed, index))
        side = round(self.size * (1 + draw.uniform(0, settings.scale_jitter)))
        scene = render(TRAIN_SEED, settings.seed * SEED_STRIDE + index, side)

        # Larger scenes are cropped, with the same window for picture and target.
        top, left = draw.integers(0, side - self.size + 1, size=2)
        window = np.s_[top : top + self.size, left : left + self.size]
        image = scene.image[window]
        target = self.label_of_noun[scene.labels[window]]
        if settings.flip and draw.random() < 0.5:
            return image[:, ::-1], target[:, ::-1]
        return image, target


class TrainingData:
    """Labels and samples of one split of a data set, and the images to measure on."""

    def __init__(self, kind: str, root: Path | None, split: str) -> None:
        """Open the images.

        Raises `DisaError` if they cannot be opened or there are none, and for a vocabulary that
        prompts other labels than it scores.
        """
        self.kind = kind
        self.root = root
        self.split = split
        self.dataset = open_dataset(kind, root, split)
        self.name = self.dataset.name
        self.labels = self.dataset.vocabulary.prompts()  # in the order of the targets
        self.things = things_of(self.dataset.vocabulary)
        if not self.dataset.ids:
            raise DisaError(
                f"{root}: {kind} holds no images of the split {split}; see disa data check"
            )
        # A target holds categories, and a loss compares it with what the prompts give.
        if len(self.labels) != len(self.dataset.vocabulary.categories):
            raise DisaError(
                f"{kind} prompts other labels than it scores, so nothing can be trained on it; "
                "use pas20"
            )

    def opened(self) -> list[Dataset]:
        """Return the images to train on and, if there are any, those of the split val."""
        try:
            return [self.dataset, open_dataset(self.kind, self.root, "val")]
        except DisaError:
            return [self.dataset]

    def samples(self, settings: TrainConfig, size: int) -> Samples:
        """Return crops of the images, `size` pixels a side."""
        return CroppedImages(self.dataset, settings, size)

    def validation(self, images: int, size: int) -> Dataset:
        """Open the images to measure on: the split val. Raises `DisaError` if there is none.

        `images` and `size` (pixels a side) are for data sets that are drawn.
        """
        return open_dataset(self.kind, self.root, "val")

    def facts(self) -> dict[str, Any]:
        """Return what distinguishes these data: a resumed run must find them unchanged.

        Of a folder of your own this includes the content of all images and masks. Published data
        sets do not change, and reading one would take minutes.
        """
        dataset = self.dataset
        facts: dict[str, Any] = {
            "name": self.kind,
            "split": self.split,
            "labels": list(self.labels),
            "list of images": text_sha256(dataset.ids),
        }
        if self.kind == FOLDER:
            # Digests of the files: quicker than decoding them, and a new date changes nothing.
            positions = range(len(dataset.ids))
            facts["images"] = text_sha256(map(dataset.image_content, positions))
            facts["masks"] = text_sha256(map(dataset.mask_content, positions))
        return facts

    def check(self, measured: int) -> None:
        """Read the masks in a folder of your own: all of them, and `measured` of val (D84).

        Warns of what is doubtful in their counts (D118). Raises `DisaError` for the first that is
        damaged, of another size than its picture, or holds a value that no category has, and for
        counts that make no sense.
        """
        if self.kind != FOLDER:
            return
        # A wrong mask is found now, not after hours, in the step that happens to draw it.
        counts = self._check_masks(self.dataset, self.split, len(self.dataset.ids))
        self._doubt(counts)
        if measured and self.split != "val" and self._lists("val"):
            self._check_masks(open_dataset(FOLDER, self.root, "val"), "val", measured)

    def _doubt(self, counts: NDArray[np.int64]) -> None:
        """Warn of doubtful masks, by the pixels of each label. Raises `DisaError` for some."""
        dataset = self.dataset
        assert isinstance(dataset, FolderDataset)
        count = len(self.labels)
        for doubt in doubts(dataset, counts[:count].tolist(), int(counts[dataset.ignored])):
            if doubt.level == "error":
                raise DisaError(f"{self.root}: {doubt.text}")
            warn(f"{self.root}: {doubt.text}")

    def _check_masks(self, dataset: Dataset, split: str, most: int) -> NDArray[np.int64]:
        """Read the first `most` masks and return the number of pixels of every label.

        Raises `DisaError`.
        """
        total = min(most, len(dataset.ids))
        counts = np.zeros(dataset.ignored + 1, np.int64)
        with counted("checking masks") as report:
            for index in range(total):
                try:
                    labels = dataset.labels(index)
                except DisaError as error:
                    command = f"disa data check {FOLDER} {shlex.quote(str(self.root))}"
                    if self._lists(split):
                        command += f" --split {split}"
                    raise DisaError(f"{error}; `{command}` lists all that is wrong") from None
                counts += np.bincount(labels.ravel(), minlength=len(counts))
                report(index + 1, total)
        return counts

    def _lists(self, split: str) -> bool:
        return self.root is not None and (self.root / f"{split}.txt").exists()


class Picturebook(TrainingData):
    """The drawn world: scenes without end, and masks of only some of its nouns."""

    def __init__(self) -> None:
        # There is nothing to open.
        self.name = PICTUREBOOK
        self.labels = TRAINED_NOUNS
        self.things = tuple(noun in THINGS for noun in TRAINED_NOUNS)

    def opened(self) -> list[Dataset]:
        """Return nothing: there are no files."""
        return []

    def samples(self, settings: TrainConfig, size: int) -> Samples:
        """Return scenes drawn for this size. Raises `DisaError` if they cannot be."""
        return DrawnScenes(settings, size)

    def validation(self, images: int, size: int) -> Dataset:
        """Return the first scenes of the held-out world."""
        return DrawnDataset("val", images, size)

    def facts(self) -> dict[str, Any]:
        """Return the name: the drawn world is always the same."""
        return {"name": self.name}

    def check(self, measured: int) -> None:
        """Read nothing: drawn masks are right."""


def things_of(vocabulary: Vocabulary) -> tuple[bool, ...] | None:
    """Return which labels are things; None where a data set does not say it of all."""
    kinds = [category.kind for category in vocabulary.categories]
    if None in kinds:
        return None
    return tuple(kind == "thing" for kind in kinds)


def open_training_data(kind: str, root: Path | None, split: str | None) -> TrainingData:
    """Open picturebook, a published data set (`disa data list`), or `folder`, your own.

    Raises `DisaError` for contradicting options and for data that cannot be opened.
    """
    if kind != PICTUREBOOK:
        return TrainingData(kind, root, split or "train")
    if root is not None or split is not None:
        raise DisaError(
            f"{kind} is drawn, not read: leave out --data and --split, or name another --dataset"
        )
    return Picturebook()


# Of a process that prepares samples for another one: what it takes them from.
_shared: list[Samples] = []


def share(samples: Samples) -> None:
    """Prepare this process for `stacked_shared`."""
    _shared[:] = [samples]


def stacked_shared(indices: Sequence[int]) -> tuple[NDArray[np.uint8], Target]:
    """Return `stacked` samples of what this process was given."""
    return stacked(_shared[0], indices)


def stacked(samples: Samples, indices: Sequence[int]) -> tuple[NDArray[np.uint8], Target]:
    """Return several samples as arrays: pixels (b, 3, size, size) and targets (b, size, size)."""
    images, targets = zip(*(samples[index] for index in indices), strict=True)
    return np.stack(images).transpose(0, 3, 1, 2), np.stack(targets)
