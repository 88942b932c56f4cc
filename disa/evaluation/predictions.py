"""Predicted label maps on disk: one index PNG per image id, at the evaluated size, and `run.json` that says whose.

Signature: (id, labels `H W`) -> FOLDER/ID.png; more than 255 categories take 16 bits.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from disa.errors import DisaError
from disa.evaluation.resume import Run
from disa.inference.render import palette_image
from disa.running.files import prepare_folder, write_whole

ABOUT = "run.json"


class Predictions:
    """The folder of one run's label maps; `categories` names what an index means."""

    def __init__(self, folder: Path, run: Run, categories: Sequence[str]) -> None:
        """Raises `DisaError` for a folder that holds anything but this run's maps, or cannot be written."""
        self.folder, self.categories = folder, tuple(categories)
        about = json.dumps(run.facts | {"categories": self.categories}, indent=1) + "\n"
        prepare_folder(folder)
        path = folder / ABOUT
        if path.exists():
            if path.read_bytes() != about.encode():
                raise DisaError(
                    f"{folder}: holds the predictions of another run; choose an empty folder"
                )
        elif any(file for file in folder.iterdir() if not file.name.startswith(".")):
            raise DisaError(
                f"{folder}: is not empty, and no folder of predictions; choose an empty folder"
            )
        else:
            write_whole(path, lambda file: file.write(about.encode()))

    def lack(self, name: str) -> bool:
        """Tell whether the image of this id still needs its map."""
        return not self._path(name).exists()

    def save(self, name: str, labels: Int[Tensor, "H W"]) -> None:
        """Write one map. Raises `DisaError` if the disk refuses."""
        picture = palette_image(labels.cpu().numpy(), self.categories)
        write_whole(self._path(name), partial(picture.save, format="PNG"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.png"
