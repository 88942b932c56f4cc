"""Predicted label maps on disk, the state of an evaluation: one index PNG per image.

No existing map is predicted again, so the same command continues after any interruption. Several
processes share the images and exchange nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import torch
from jaxtyping import Int
from torch import Tensor

from disa.data.dataset import Dataset
from disa.data.images import Pixels, write_png
from disa.data.vocabulary import Vocabulary
from disa.errors import DisaError, memory_errors_as
from disa.inference.overlay import index_values
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter
from disa.running.files import prepare_folder, write_json
from disa.running.processes import ALONE, Processes
from disa.running.reading import read_json
from disa.running.terminal import Report

ABOUT = "predictions.json"  # what the maps of a folder are of
LESS_MEMORY = "use --dtype bf16 or a smaller --size"


class About(TypedDict):
    """What `predictions.json` says at least: the content of each image, by id."""

    contents: dict[str, str]


Predict = Callable[[Pixels], Int[Tensor, "H W"]]  # every pixel's category


@dataclass(frozen=True)
class Predictor:
    """A model with a vocabulary and a protocol: from a picture to the category of every pixel."""

    # Asked for when the first picture comes, since a finished run needs no model.
    segmenter: Callable[[], Segmenter]
    vocabulary: Vocabulary
    protocol: Protocol
    synonyms: bool = False
    gate: int | None = None  # labels that go through the head; None: all

    @cached_property
    def text(self) -> Tensor:
        """The embeddings of the prompts, the same for every picture."""
        return self.segmenter().text(self.vocabulary.prompts(self.synonyms))

    def __call__(self, picture: Pixels) -> Int[Tensor, "H W"]:
        """Return the index of the category that each pixel's best prompt counts as."""
        best = self.segmenter().best_labels(picture, self.text, self.protocol, self.gate)
        # From prompts to categories: a category may have several prompts.
        scored = torch.tensor(self.vocabulary.scored, device=best.device)
        return scored[best.long()]


class PredictionFolder:
    """The label maps of one model, settings and data set."""

    def __init__(self, path: Path, dataset: Dataset, images: int | None = None) -> None:
        """Take the first `images` images, by default all; nothing is written yet."""
        self.path = path
        self.dataset = dataset
        self.ids: Sequence[str] = dataset.ids[:images]

    def open(self, facts: dict[str, Any]) -> None:
        """Make the folder, or continue in the one that is there. For one process at a time.

        `facts` say what the maps are of, as plain data. A map whose image has changed since is
        removed. Raises `DisaError` for a folder that holds anything but these predictions, naming
        what differs.
        """
        prepare_folder(self.path)
        about = self.path / ABOUT
        contents = {name: self.dataset.image_content(index) for index, name in enumerate(self.ids)}
        facts = facts | {"images": len(self.ids)}
        if about.exists():
            before = read_json(about, "delete the folder to predict anew", About)
            self._compare(before, facts, contents)
        # Hidden files are the system's; anything else may be somebody's masks.
        elif any(not file.name.startswith(".") for file in self.path.iterdir()):
            raise DisaError(
                f"{self.path}: is not empty and holds no predictions; choose an empty folder"
            )
        write_json(about, facts | {"contents": contents})

    def _compare(
        self, before: dict[str, Any], facts: dict[str, Any], contents: dict[str, str]
    ) -> None:
        """Refuse the maps of another run, and remove those of images that have changed."""
        differing = [
            f"{name} {before.get(name)}, not {value}"
            for name, value in facts.items()
            if before.get(name) != value
        ]
        # A run of as many images of the same data set may still be one of others.
        old = before["contents"]
        differing += [f"no image {name}" for name in contents if name not in old][:1]
        if differing:
            raise DisaError(
                f"{self.path}: holds another run ({'; '.join(differing)}); choose another folder, "
                "or delete that one"
            )
        for name, content in contents.items():
            if old[name] != content:
                self.file(name).unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        """Return the file of an image's map."""
        return self.path / f"{name}.png"

    def missing(self) -> list[int]:
        """Return the positions of the images that have no map yet."""
        return [index for index, name in enumerate(self.ids) if not self.file(name).exists()]

    def save(self, name: str, labels: Int[Tensor, "H W"]) -> None:
        """Write one map: a category's index at every pixel, in 16 bits if there are more than 255.

        Raises `DisaError` if the disk refuses.
        """
        categories = len(self.dataset.vocabulary.categories)
        write_png(self.file(name), index_values(labels.cpu().numpy(), categories))


def predict(
    folder: PredictionFolder,
    predictor: Predict,
    *,
    processes: Processes = ALONE,
    interrupted: Callable[[], bool] = lambda: False,
    report: Report = lambda done, total: None,
    less_memory: str = LESS_MEMORY,
) -> bool:
    """Write the maps that are missing, and wait for the other processes; False if interrupted.

    Each of `processes` predicts every n-th image. Raises `DisaError` for an image that cannot be
    read or does not fit into memory, with the remedy `less_memory`.
    """
    total = len(folder.ids)
    missing = folder.missing()
    report(total - len(missing), total)
    # Shared out by position in the whole data set, which is the same for all processes, while what
    # is missing changes as the others write.
    own = [index for index in missing if index % processes.count == processes.rank]
    is_stopped = False
    for number, index in enumerate(own, start=1):
        is_stopped = interrupted()
        if is_stopped:
            break
        name = folder.ids[index]
        picture = folder.dataset.image(index)
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        with memory_errors_as(
            f"{folder.dataset.name}, {name}: {size} pixels do not fit into memory; {less_memory}"
        ):
            labels = predictor(picture)
        folder.save(name, labels)
        # Nobody counts what the other processes do, but they are about as fast.
        report(min(total, total - len(missing) + number * processes.count), total)
    return not any(processes.gathered(is_stopped))
