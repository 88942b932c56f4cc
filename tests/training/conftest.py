"""A CLIP to train from."""

from pathlib import Path

import pytest
import torch
from small_run import small_config

from disa.model.backbone import Backbone
from disa.training.tokenizer import save_tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    Backbone(small_config()).clip.save_pretrained(folder)
    save_tokenizer(train_tokenizer(["a picture of a house by the sea"] * 30, 600), folder, 32)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums are the same to the last bit only for the same number of threads."""
    torch.set_num_threads(1)
