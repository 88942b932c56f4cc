"""A model's folder: what is read is what was written, and nothing else is read."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from disa.errors import DisaError
from disa.recipes import RECIPES
from disa.running.files import replace_file
from disa.weights.model_folder import load_disa, save


@pytest.fixture
def folder(tmp_path, make) -> Path:
    save(make(), tmp_path)
    return tmp_path


@torch.no_grad()
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_save_and_load_is_the_identity(tmp_path, make, text, pixels, recipe):
    model = make(recipe, backbone_finetune="full")
    save(model, tmp_path)
    again = load_disa(tmp_path)
    assert again.config == model.config
    assert {name: p.requires_grad for name, p in again.named_parameters()} == {
        name: p.requires_grad for name, p in model.named_parameters()
    }
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    found, expected = again(pixels, text(3)).logits, model(pixels, text(3)).logits
    assert torch.equal(found, expected)
    ids = torch.tensor([[38, 3, 39]])
    assert torch.equal(again.encode_text(ids), model.encode_text(ids))
    again.to("cpu", torch.float64)  # nothing is left on the meta device
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_the_size_is_read_back_in_32_bit(tmp_path, make, dtype):
    model = make()
    save(copy.deepcopy(model).to(dtype), tmp_path)
    again = load_disa(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.to(dtype).float())
    assert (tmp_path / "model.safetensors").stat().st_size < 2.3 * sum(
        p.numel() for p in model.parameters()
    ) + 60_000


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write(draft: Path) -> None:
        draft.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_folder(tmp_path, make):
    (tmp_path / "file").write_text("")
    with pytest.raises(DisaError, match="is a file"):
        save(make(), tmp_path / "file")


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    state = load_file(folder / "model.safetensors") | changes
    save_file(
        {name: value for name, value in state.items() if value is not None},
        folder / "model.safetensors",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decode.head.bias": None}, r"model\.safetensors: lacks decode\.head\.bias"),
        (
            {"decode.head.bias": None, "cost.embed.bias": None},
            r"lacks cost\.embed\.bias and 1 more",
        ),
        ({"stranger": torch.zeros(2)}, r"model\.safetensors: holds the unknown stranger"),
        (
            {"decode.head.bias": torch.zeros(2)},
            r"decode\.head\.bias has shape \(2,\), config\.json says \(1,\)",
        ),
        (
            {"decode.head.bias": torch.zeros(1, dtype=torch.int64)},
            r"decode\.head\.bias is stored as I64",
        ),
    ],
)
def test_weights_of_another_model(folder, changes, message):
    change_weights(folder, **changes)
    with pytest.raises(DisaError, match=message) as error:
        load_disa(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.99])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(DisaError, match=r"model\.safetensors: damaged"):
        load_disa(folder)


def test_a_header_that_promises_too_much(folder):
    (folder / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(DisaError, match=r"model\.safetensors: damaged"):
        load_disa(folder)


def test_a_pickle_is_not_read(folder):
    torch.save({}, folder / "model.safetensors")
    with pytest.raises(DisaError, match=r"model\.safetensors: damaged"):
        load_disa(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(DisaError, match=rf"{name}: no such file"):
        load_disa(folder)


def change_config(folder: Path, **changes: object) -> None:
    data = json.loads((folder / "config.json").read_text())
    data["model"] |= changes
    (folder / "config.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as JSON"),
        ('{"kind": "disa"', "cannot be read as JSON"),
        ("[]", "give a folder written by disa"),
        ('{"model_type": "clip"}', "give a folder written by disa"),
        ('{"kind": "disa", "format": 2, "model": {}}', "format 2, this version reads 1"),
        ('{"kind": "disa", "format": 1, "model": {}}', "backbone_clip is missing"),
        (
            '{"kind": "disa", "format": 1, "model": {"backbone_clip": {}, "colour": 1}}',
            "unknown field.*colour",
        ),
        ('{"kind": "disa", "format": 1, "model": {"backbone_clip": 3}}', "model.backbone_clip.* 3"),
    ],
)
def test_config_of_something_else(folder, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(DisaError, match=rf"config\.json: .*{message}") as error:
        load_disa(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost_channels": "eight"}, "model.cost_channels.*eight"),
        ({"saliency_top_share": float("inf")}, "saliency_top_share"),
        ({"refine_heads": 7}, "no network can be built"),
        ({"backbone_image_size": 10**6}, "8192 pixels"),
        ({"cost_channels": -8}, "no network can be built"),
        ({"refine_levels": 10**9}, "more than 200 layers"),
        ({"cost_channels": 10**6}, "has shape"),  # petabytes: refused before memory is taken
    ],
)
def test_config_that_does_not_fit(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(DisaError, match=message) as error:
        load_disa(folder)
    assert "\n" not in str(error.value)
