import json
from importlib import metadata
from pathlib import Path

import pytest
from command_line import invoke

import disa
from disa.errors import DisaError
from disa.weights.fetching import is_here


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISA_CACHE", str(tmp_path / "disa"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    return tmp_path


def test_what_is_here_is_found(caches: Path):
    model = caches / "disa/models/cat-seg-b"
    model.mkdir(parents=True)
    (model / "config.json").touch()

    done = invoke("doctor", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["code"]["torch"] == metadata.version("torch")
    assert found["caches"] == {"disa": str(caches / "disa"), "Hub": str(caches / "hub")}
    assert found["models"]["Hub answers"] is False
    assert found["models"]["mini"] == "bundled"
    assert "offline" in found["models"]["cat-seg-b"]
    assert "offline" not in found["models"]["cat-seg-l"]
    assert found["trial"]["mini segments"] is True


def test_a_clip_is_here_once_its_weights_are(caches: Path, monkeypatch: pytest.MonkeyPatch):
    repository = caches / "hub/models--openai--clip-vit-base-patch16"
    kept = repository / "snapshots/abc"
    kept.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(caches / "hub"))
    (kept / "config.json").touch()
    assert not is_here("clip-vit-b-16")
    (kept / "model.safetensors").touch()
    assert is_here("clip-vit-b-16")


def test_an_extra_that_lacks_a_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    def version(package: str) -> str:
        if package in ("onnx", "shapely"):
            raise metadata.PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr("disa.interfaces.doctor_command.metadata.version", version)
    needed = ["torch>=2", "onnx>=1; extra == 'onnx'", 'rasterio>=1; extra == "geo"']
    needed += ["shapely>=2; extra == 'geo'", "scipy>=1; extra == 'data'", "pytest; extra == 'dev'"]
    monkeypatch.setattr("disa.interfaces.doctor_command.metadata.requires", lambda _: needed)
    extras = json.loads(invoke("doctor", "--json").stdout)["extras"]
    assert list(extras) == ["data", "geo", "onnx"]
    assert extras["data"] == "installed"
    assert "disa-seg[geo]" in extras["geo"]
    assert "shapely" in extras["geo"]
    assert "rasterio" not in extras["geo"]


def test_a_model_that_does_not_run_is_exit_code_1(monkeypatch: pytest.MonkeyPatch):
    def load(name: str) -> None:
        raise DisaError(f"{name} is broken")

    monkeypatch.setattr(disa, "load", load)
    done = invoke("doctor")
    assert done.exit_code == 1
    assert "mini is broken" in done.stdout
