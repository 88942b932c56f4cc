import json
from pathlib import Path

import clip_formats
import pytest
import torch
from command_line import invoke
from safetensors import safe_open

from disa.weights import names as catalogue


def info(*arguments: str) -> dict:
    result = invoke(["info", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_parameters_are_those_in_the_weights_file(model_folder: Path):
    data = info(str(model_folder))
    with safe_open(model_folder / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert data["parameters"]["total"] == stored
    parts = [number for part, number in data["parameters"].items() if part != "total"]
    assert 0 <= stored - sum(parts) <= 1  # CLIP's logit scale belongs to no part
    assert data["total_millions"] == round(stored / 1e6, 3)
    assert data["size"] == 48


def test_the_table_is_for_people(model_folder: Path):
    result = invoke(["info", str(model_folder)])
    assert result.exit_code == 0
    assert "million parameters in all" in result.output
    assert "GFLOP" in result.output


@pytest.mark.parametrize(
    ("name", "millions", "published"),
    [("cat-seg-l", 433.7, 433.7), ("disa-vit-l-14", 456.2, 456.2)],
)
def test_published_names_are_counted_without_a_download(
    name: str, millions: float, published: float
):
    data = info(name, "--labels", "171")
    assert data["total_millions"] == pytest.approx(millions, rel=0.005)
    assert data["as_published"]["parameters"] == published
    assert set(data["trainable"]) == {"frozen", "qk", "qv", "full"}
    five = data["cat_seg_protocol"]
    assert five["views"] == 5
    assert five["operations"] == 5 * (data["operations"]["total"] - data["operations"]["CLIP text"])
    assert data["operations"]["total"] == sum(
        v for k, v in data["operations"].items() if k != "total"
    )


def test_the_table_sets_the_published_numbers_beside_ours():
    shown = " ".join(invoke(["info", "cat-seg-l", "--labels", "171"]).output.split())
    for part in (
        "published: 433.7 M",
        "published: 70.3 M for qv",
        "published: 2,121 GFLOPs at 171 labels",
        "qv 69.222 M",
    ):
        assert part in shown


def test_a_clip_alone_is_counted_in_every_form(tmp_path: Path):
    model = clip_formats.small_clip()
    folder = clip_formats.write_folder(model, tmp_path / "clip", "bin")
    (folder / "tokenizer.json").write_text("{}")
    torch.save(clip_formats.openai_state(model), tmp_path / "ViT.pt")
    for source in (folder, tmp_path / "ViT.pt"):
        data = info(str(source))
        assert data["parameters"]["total"] == sum(p.numel() for p in model.parameters())
        assert (
            data["trainable"] is None
            and data["operations"]["SDM"] == data["operations"]["decode"] == 0
        )


def test_the_size_is_in_whole_patches_and_of_a_size_that_can_be(model_folder: Path):
    assert info(str(model_folder), "--size", "50")["size"] == 48
    for size in ("7", "1000000"):
        invoke("info", model_folder, "--size", size).fails(f"--size {size}", "8", "8192")


def test_unknown_models_name_recipes_too():
    invoke("info", "vit-h-14").fails("vit-h-14", "vit-l-14-baseline")


def test_models_lists_what_is_there(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(catalogue, "WEIGHTS", model_folder.parent)
    monkeypatch.setattr(catalogue, "BUNDLED", {"small": "toys"})
    result = invoke(["models"])
    assert result.exit_code == 0
    assert "small" in result.output
    assert str(model_folder) in result.output
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    invoke("models").fails(tmp_path)
