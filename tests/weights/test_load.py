import shutil
from pathlib import Path

import pytest
import torch

from disa.errors import DisaError
from disa.inference.segmenter import load
from disa.running.devices import choose_device
from disa.weights import names as catalogue
from disa.weights.fetching import model_folder
from disa.weights.names import bundled_models


@pytest.fixture
def weights(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(model_folder, tmp_path / "mini")
    (tmp_path / "unfinished").mkdir()
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    return tmp_path


def test_bundled_models_are_listed_and_found_by_name(weights: Path):
    assert bundled_models() == {"mini": weights / "mini"}
    assert model_folder("mini") == weights / "mini"
    assert load(device="cpu")([[]][:0], "house") == []


def test_unknown_models_name_the_known_ones(weights: Path):
    with pytest.raises(DisaError, match=r'unknown model "maxi".*mini.*folder'):
        load("maxi")
    with pytest.raises(DisaError, match=r"lacks model\.safetensors, config\.json, tokenizer\.json"):
        load(weights / "unfinished")


def broken(folder: Path, target: Path, name: str, content: bytes | None) -> Path:
    shutil.copytree(folder, target)
    if content is None:
        (target / name).unlink()
    else:
        (target / name).write_bytes(content)
    return target


@pytest.mark.parametrize("name", catalogue.FILES)
@pytest.mark.parametrize("content", [None, b"", b"\x00\x01garbage", b"{}", b"[1, 2]"])
def test_damaged_and_foreign_folders_are_refused(
    model_folder: Path, tmp_path: Path, name: str, content: bytes | None
):
    with pytest.raises(DisaError, match=name) as caught:
        load(broken(model_folder, tmp_path / "m", name, content), "cpu")
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(
    model_folder: Path, baseline_folder: Path, tmp_path: Path
):
    content = (baseline_folder / "model.safetensors").read_bytes()
    with pytest.raises(DisaError, match="another model"):
        load(broken(model_folder, tmp_path / "foreign", "model.safetensors", content), "cpu")
    cut = (model_folder / "model.safetensors").read_bytes()[:-100]
    with pytest.raises(DisaError, match="damaged"):
        load(broken(model_folder, tmp_path / "cut", "model.safetensors", cut), "cpu")


def test_devices_that_are_not_there_are_refused():
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")
    for name in ("gpu", "cuda:99", "", "CPU"):
        with pytest.raises(DisaError, match=r"not available here; use .*cpu"):
            choose_device(name)


def test_auto_takes_the_fastest_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device().type == "mps"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("cuda") == torch.device("cuda:0")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device().type == "cpu"
