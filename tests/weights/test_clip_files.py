"""Every form in which CLIP comes gives transformers' own numbers."""

import json
from pathlib import Path

import clip_formats as formats
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel

from disa.errors import DisaError
from disa.model.encoders import build_backbone
from disa.weights.clip_files import dense_config, guidance_blocks, load_clip
from disa.weights.load import disa_on_clip
from disa.weights.names import is_clip
from disa.weights.openai import openai_config

FORMS = ("safetensors", "bin", "sharded", "openai")


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return formats.small_clip()


def written(clip: CLIPModel, form: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    if form in ("safetensors", "bin", "sharded"):
        return formats.write_folder(clip, folder / "clip", form, dtype)
    state = {name: value.to(dtype) for name, value in formats.openai_state(clip).items()}
    torch.save(state, folder / "ViT.pt")
    return folder / "ViT.pt"


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_every_form_gives_transformers_own_forward(clip: CLIPModel, form: str, tmp_path: Path):
    model = disa_on_clip(dense_config(clip.config.to_dict()), written(clip, form, tmp_path)).eval()
    pixels = (
        torch.rand(2, 3, formats.SIDE, formats.SIDE, generator=torch.Generator().manual_seed(0))
        * 255
    )
    ids = torch.tensor([[38, 5, 6, 39, 0, 0, 0, 0, 0], [38, 7, 8, 9, 10, 11, 12, 13, 39]])
    ours, theirs = model.backbone.clip, clip
    normalised = model.backbone.normalise(pixels)
    for one, other in (
        (ours.get_image_features(normalised), theirs.get_image_features(normalised)),
        (ours.get_text_features(ids), theirs.get_text_features(ids)),
    ):
        torch.testing.assert_close(one.pooler_output, other.pooler_output)
    embedded = theirs.get_text_features(ids).pooler_output
    torch.testing.assert_close(
        model.encode_text(ids), embedded / embedded.norm(dim=-1, keepdim=True)
    )
    hidden = theirs.vision_model(normalised, output_hidden_states=True).hidden_states
    visual = model.backbone(pixels)
    first, second = guidance_blocks(formats.LAYERS)
    for tap, index in ((visual.first, first), (visual.second, second)):
        torch.testing.assert_close(
            tap.flatten(2).mT, hidden[index + 1][:, 1:], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("form", FORMS)
def test_sixteen_bit_files_are_computed_in_32(clip: CLIPModel, form: str, tmp_path: Path):
    config, state = load_clip(written(clip, form, tmp_path, torch.float16))
    assert {value.dtype for value in state.values()} == {torch.float32}
    name = "vision_model.encoder.layers.1.self_attn.k_proj.weight"
    assert torch.equal(state[name], clip.state_dict()[name].half().float())
    assert config["vision_config"]["hidden_act"] == "quick_gelu"


def test_openai_weights_mean_quick_gelu_and_64_channels_a_head(clip: CLIPModel):
    config = openai_config(formats.openai_state(clip))
    for tower, width in (("text_config", formats.TEXT_WIDTH), ("vision_config", formats.WIDTH)):
        theirs = getattr(clip.config, tower).to_dict()
        assert config[tower]["hidden_act"] == "quick_gelu"
        assert config[tower]["num_attention_heads"] == width // 64
        assert {name: theirs[name] for name in config[tower]} == config[tower]


def test_the_activation_of_a_folder_is_its_configs(tmp_path: Path):
    folder = formats.write_folder(formats.small_clip("gelu"), tmp_path, "safetensors")
    model = disa_on_clip(dense_config(load_clip(folder)[0]), folder)
    assert (
        type(model.backbone.clip.vision_model.encoder.layers[0].mlp.activation_fn).__name__
        == "GELUActivation"
    )


def test_published_sizes_get_the_published_grid_and_taps():
    for patch, image, depth, size, blocks in (
        (16, 224, 12, 384, (3, 7)),
        (14, 336, 24, 336, (7, 15)),
        (14, 224, 24, 336, (7, 15)),
        (32, 224, 12, 768, (3, 7)),
        (8, 96, 5, 96, (0, 2)),
    ):
        vision = {
            "patch_size": patch,
            "image_size": image,
            "num_hidden_layers": depth,
            "hidden_size": 64,
        }
        config = dense_config(
            {"model_type": "clip", "vision_config": vision | {"num_attention_heads": 1}}
        )
        assert (config.backbone_image_size, config.backbone_guidance_blocks) == (size, blocks)
        with torch.device("meta"):
            build_backbone(config)


def test_what_is_no_clip_is_refused_in_one_line(clip: CLIPModel, tmp_path: Path):
    def refused(path: Path, message: str) -> None:
        with pytest.raises(DisaError, match=message):
            load_clip(path)

    refused(tmp_path, r"config\.json.*no such file")
    folder = formats.write_folder(clip, tmp_path / "clip", "safetensors")
    assert is_clip(folder) and not is_clip(tmp_path)
    (folder / "model.safetensors").write_bytes(b"short")
    refused(folder, r"model\.safetensors: damaged")
    (folder / "model.safetensors").unlink()
    refused(folder, r"holds no weights; a CLIP folder has one of model\.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    refused(folder, "model_type.*'bert'")
    (folder / "config.json").write_text("[]")
    refused(folder, "expected an object")
    for tower in ([], "", {"num_hidden_layers": 10**9}, {"hidden_size": 0}):
        (folder / "config.json").write_text(json.dumps(config | {"vision_config": tower}))
        refused(folder, r"config\.json: .*")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": []}')
    refused(folder, r"weight_map.*expected an object")
    parts = formats.write_folder(clip, tmp_path / "parts", "sharded")
    (parts / "b.safetensors").unlink()
    refused(parts, r"b\.safetensors: no such file")
    refused(tmp_path / "none.pt", "no such file")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "no CLIP in OpenAI's form")
    state = formats.openai_state(clip)
    torch.save(
        {name: value for name, value in state.items() if name != "text_projection"},
        tmp_path / "part.pt",
    )
    refused(tmp_path / "part.pt", r"part\.pt: lacks text_projection")
    torch.save(state | {"visual.layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pt")
    refused(tmp_path / "resnet.pt", r"ResNet.*use a ViT")


def test_weights_of_another_size_are_refused_by_name(clip: CLIPModel, tmp_path: Path):
    folder = formats.write_folder(clip, tmp_path, "safetensors")
    state = {name: value.clone() for name, value in clip.state_dict().items()}
    for change, message in (
        ({"logit_scale": torch.zeros(2)}, r"logit_scale has shape \(2,\)"),
        ({"surplus": torch.zeros(2)}, "unknown surplus"),
    ):
        save_file(state | change, folder / "model.safetensors")
        with pytest.raises(DisaError, match=message):
            disa_on_clip(dense_config(clip.config.to_dict()), folder)
