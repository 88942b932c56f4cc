"""A CLIP to train from."""

from pathlib import Path

import pytest
import torch
from small_run import save_clip


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums are the same to the last bit only for the same number of threads."""
    torch.set_num_threads(1)
