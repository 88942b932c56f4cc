"""Pictures, and the command that segments them with a small model."""

from pathlib import Path

import numpy as np
import pytest
from command_line import Result, invoke
from PIL import Image
from segmenting import LABELS


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(30, 40), (40, 30), (60, 60)]):
        image = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(image).save(folder / f"p{number}.png")
    return folder


@pytest.fixture
def segment(model_folder: Path):
    def run(*arguments: object, labels: str = LABELS, model: Path = model_folder) -> Result:
        options = ["--labels", labels, "--model", str(model), "--device", "cpu"]
        return invoke(["segment", *map(str, arguments), *options])

    return run
