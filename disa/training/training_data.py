"""What a run trains on: picturebook, a published data set, or a folder of your own."""

import shlex
from pathlib import Path
from typing import Any

from disa.data.dataset import FOLDER, Dataset, open_dataset
from disa.data.drawn import PICTUREBOOK, DrawnDataset
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError
from disa.picturebook import THINGS
from disa.running.files import text_sha256
from disa.running.terminal import counted
from disa.training.samples import TRAINED_WORDS, CroppedImages, DrawnScenes, Samples
from disa.training.settings import TrainConfig


class TrainingData:
    """Labels and samples of one split of a data set, and the images to measure on."""

    def __init__(self, name: str, root: Path | None, split: str) -> None:
        """Open the images.

        Raises `DisaError` if they cannot be opened or there are none, and for a vocabulary that
        prompts other labels than it scores.
        """
        self.dataset = open_dataset(name, root, split)
        self.kind = name
        self.root = root
        self.split = split
        self.name = self.dataset.name
        self.labels = self.dataset.vocabulary.prompts()  # in the order of the targets
        self.things = things_of(self.dataset.vocabulary)
        if not self.dataset.ids:
            raise DisaError(
                f"{root}: {name} holds no images of the split {split}; see disa data check"
            )
        if len(self.labels) != len(self.dataset.vocabulary.categories):
            raise DisaError(
                f"{name} prompts other labels than it scores, so nothing can be trained on it; "
                "use pas20"
            )

    def samples(self, settings: TrainConfig, size: int) -> Samples:
        """Return crops of the images, `size` pixels a side."""
        return CroppedImages(self.dataset, settings, size)

    def validation(self, images: int, size: int) -> Dataset:
        """Open the images to measure on: the split val. Raises `DisaError` if there is none.

        `images` and `size` (pixels a side) are for data sets that are drawn.
        """
        return open_dataset(self.kind, self.root, "val")

    def facts(self) -> dict[str, Any]:
        """Return what tells these data from others: a resumed run must find them unchanged.

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
            positions = range(len(dataset.ids))
            facts["images"] = text_sha256(map(dataset.image_content, positions))
            facts["masks"] = text_sha256(map(dataset.mask_content, positions))
        return facts

    def check(self, measured: int) -> None:
        """Read the masks in a folder of your own: all of them, and `measured` of val (D84).

        Raises `DisaError` for the first that is damaged, of another size than its picture, or holds
        a value that no category has.
        """
        if self.kind != FOLDER:
            return
        self._check_masks(self.dataset, self.split, len(self.dataset.ids))
        if measured and self.split != "val" and self._lists("val"):
            self._check_masks(open_dataset(FOLDER, self.root, "val"), "val", measured)

    def _check_masks(self, dataset: Dataset, split: str, most: int) -> None:
        total = min(most, len(dataset.ids))
        with counted("checking masks") as report:
            for index in range(total):
                try:
                    dataset.labels(index)
                except DisaError as error:
                    command = f"disa data check {FOLDER} {shlex.quote(str(self.root))}"
                    if self._lists(split):
                        command += f" --split {split}"
                    raise DisaError(f"{error}; `{command}` lists all that is wrong") from None
                report(index + 1, total)

    def _lists(self, split: str) -> bool:
        return self.root is not None and (self.root / f"{split}.txt").exists()


class Picturebook(TrainingData):
    """The drawn world: scenes without end, and masks of only some of its nouns."""

    def __init__(self) -> None:
        super().__init__(PICTUREBOOK, None, "train")
        self.labels = TRAINED_WORDS
        self.things = tuple(word in THINGS for word in TRAINED_WORDS)

    def samples(self, settings: TrainConfig, size: int) -> Samples:
        """Return scenes drawn for this size. Raises `DisaError` if they cannot be."""
        return DrawnScenes(settings, size)

    def validation(self, images: int, size: int) -> Dataset:
        """Return the first scenes of the held-out world."""
        return DrawnDataset("val", images, size)

    def facts(self) -> dict[str, Any]:
        """Return the name: the drawn world is always the same."""
        return {"name": self.name}


def things_of(vocabulary: Vocabulary) -> tuple[bool, ...] | None:
    """Return which labels are things; None where a data set does not say it of all."""
    kinds = [category.kind for category in vocabulary.categories]
    if None in kinds:
        return None
    return tuple(kind == "thing" for kind in kinds)


def open_training_data(name: str, root: Path | None, split: str | None) -> TrainingData:
    """Open picturebook, a published data set (`disa data list`), or `folder`, your own.

    Raises `DisaError` for options that contradict each other and for data that cannot be opened.
    """
    if name == PICTUREBOOK:
        if root is not None or split is not None:
            raise DisaError(
                f"{name} is drawn, not read: leave out --data and --split, or name another "
                "--dataset"
            )
        return Picturebook()
    return TrainingData(name, root, split or "train")
