"""What several test folders need: a whole model, small and untrained, in a folder."""

import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Started in the background or by nohup, programs ignore these signals; what the tests start must
# not inherit that.
for ignorable, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(ignorable) == signal.SIG_IGN:
        signal.signal(ignorable, usual)

pytest_plugins = ["small_network"]  # fixtures of a network in all its recipes


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=2, help="of each command in tests/faults")


# Files of tests that take minutes. One process of tests begins with them, so that the others do not
# wait for what they share, nor for the last of them at the end.
LONGEST = ("test_export.py", "test_cluster.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


settings.register_profile("disa", deadline=None)  # a busy machine is no mistake of the code
settings.load_profile("disa")


def save_small_model(folder: Path, **changes: Any) -> Path:
    """Save a model with random weights and a tokenizer that reads any text.

    Quick, and not able to see anything.
    """
    import torch

    from disa.model.disa import Disa
    from disa.pretraining.byte_pairs import save_tokenizer, train_tokenizer
    from disa.recipes import mini
    from disa.weights.model_folder import save

    config = mini(backbone_guidance_blocks=(0, 1), backbone_image_size=48, **changes)
    towers = {
        "text_config": {"num_hidden_layers": 1, "bos_token_id": 0, "eos_token_id": 1},
        "vision_config": {"num_hidden_layers": 3},
    }
    clip = config.backbone_clip | {
        name: config.backbone_clip[name] | new for name, new in towers.items()
    }
    torch.manual_seed(0)
    save(Disa(config.replace(backbone_clip=clip)), folder)
    captions = ["a picture of a house by the sea, with grass and a boat"] * 30
    save_tokenizer(train_tokenizer(captions, 600), folder, 40)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep embeddings out of the cache of whoever runs the tests."""
    monkeypatch.setenv("DISA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def baseline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the SDM: no saliency and no matches."""
    return save_small_model(tmp_path_factory.mktemp("models") / "baseline", disentangle=False)


@pytest.fixture(scope="session")
def paper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without what the paper does not have: no foreground, and logits on the decoder's grid."""
    changes = {"things": False, "decode_enlarge": False, "decode_detail_channels": 0}
    return save_small_model(tmp_path_factory.mktemp("models") / "paper", **changes)
