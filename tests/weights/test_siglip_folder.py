"""A folder of SigLIP 2 that transformers wrote is a model, and a head goes onto it."""

import json
from pathlib import Path

import numpy as np
import pytest
import siglip_formats as formats
import torch
import torch.nn.functional as F
from command_line import invoke
from refusals import refused
from safetensors.torch import load_file, save_file
from small_network import small_config
from transformers import SiglipModel

import disa
from disa.model.dense import DenseClip
from disa.training.initial_weights import InitialWeights
from disa.weights.clip_files import load_clip
from disa.weights.load import load

LABELS = ["House", "the sea", "boat|ship"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    formats.write_siglip(folder)
    return folder


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


@torch.no_grad()
def test_texts_are_embedded_as_in_training(folder: Path):
    theirs = SiglipModel.from_pretrained(folder).eval()
    ids = formats.small_tokenizer()("a house").input_ids
    whole = torch.tensor([[*ids, 1] + [0] * (formats.CONTEXT - len(ids) - 1)])
    expected = F.normalize(theirs.get_text_features(whole).pooler_output, dim=-1)

    segmenter = disa.load(folder, device="cpu")
    for text in ("a house", "A HOUSE"):
        torch.testing.assert_close(segmenter.text([text], ["{}"])[0], expected)
    with refused("too long", formats.CONTEXT):
        segmenter.text(["x" * formats.CONTEXT], ["{}"])


@torch.no_grad()
def test_siglip_alone_segments(folder: Path, picture: np.ndarray):
    segmenter = disa.load(folder, device="cpu")
    assert isinstance(segmenter.model, DenseClip)
    result = segmenter(picture, LABELS, size=formats.SIDE, scores=True)
    assert result.labels.shape == picture.shape[:2]
    # The largest scale leaves no ties: the label with the largest cosine wins.
    text = segmenter.text(LABELS).mean(1)
    pixels = torch.rand(1, 3, formats.SIDE, formats.SIDE) * 255
    tokens = F.normalize(segmenter.model.backbone(pixels).tokens, dim=1)
    logits = segmenter.model(pixels, text[:, None]).logits
    cosines = F.interpolate(
        torch.einsum("bdhw,td->bthw", tokens, text), scale_factor=4, mode="bilinear"
    )
    assert torch.equal(logits.argmax(1), cosines.argmax(1))


def test_a_folder_that_disa_wrote_again_is_the_same_model(
    folder: Path, tmp_path: Path, picture: np.ndarray
):
    segmenter = disa.load(folder, device="cpu")
    segmenter.save_pretrained(tmp_path)
    again = disa.load(tmp_path, device="cpu")
    ours, theirs = again(picture, LABELS, scores=True), segmenter(picture, LABELS, scores=True)
    assert np.array_equal(ours.scores, theirs.scores)
    SiglipModel.from_pretrained(tmp_path)


def test_a_head_on_siglip_from_its_folder(folder: Path, tmp_path: Path, picture: np.ndarray):
    config = small_config("siglip2-b-16", backbone_image_size=32, things=True)
    weights = InitialWeights(clip=folder)
    torch.manual_seed(0)
    model = weights.build(config.replace(backbone_guidance_blocks=(0, 1))).eval()
    state = load_clip(folder)[1]
    assert all(torch.equal(model.backbone.clip.state_dict()[name], state[name]) for name in state)

    tokenizer = load(folder).tokenizer
    segmenter = disa.Segmenter(model, tokenizer, torch.device("cpu"))
    segmenter.save_pretrained(tmp_path / "model")
    result = segmenter(picture, LABELS, scores=True)
    assert set(result.matched) == set(LABELS)
    again = disa.load(tmp_path / "model", device="cpu")(picture, LABELS, scores=True)
    assert np.array_equal(again.scores, result.scores)
    assert np.array_equal(again.things, result.things)


def test_commands_take_the_folder(folder: Path, tmp_path: Path):
    assert invoke("picturebook", tmp_path / "scenes", "--count", 1, "--size", 32).exit_code == 0
    words = ["segment", tmp_path / "scenes", "--labels", "house, sea", "--out", tmp_path / "out"]
    result = invoke(*words, "--model", folder, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").glob("*_labels.png"))) == 1
    facts = json.loads(invoke("info", folder, "--json").stdout)
    sizes = [value.numel() for value in load_clip(folder)[1].values()]
    assert facts["parameters"]["total"] == sum(sizes)
    assert facts["parameters"]["CLIP visual"] + facts["parameters"]["CLIP text"] == sum(sizes) - 2


def changed(folder: Path, target: Path, **config: object) -> Path:
    """Copy a folder with other entries in its configuration."""
    target.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (target / name).write_bytes((folder / name).read_bytes())
    data = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(data | config))
    return target


def test_what_is_no_such_siglip_is_refused(folder: Path, tmp_path: Path):
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    for number, (config, facts) in enumerate(
        (
            ({"vision_config": vision | {"vision_use_head": False}}, ("vision_use_head",)),
            ({"vision_config": vision | {"patch_size": [8, 8]}}, ("patch_size",)),
            ({"vision_config": vision | {"num_hidden_layers": 2}}, ("encoder.layers.2",)),
            ({"model_type": "siglip2"}, ("'siglip2'", "'siglip'")),
        )
    ):
        with refused(*facts):
            disa.load(changed(folder, tmp_path / str(number), **config), device="cpu")

    first = changed(folder, tmp_path / "first")
    tokenizer = json.loads((first / "tokenizer.json").read_text())
    del tokenizer["model"]["vocab"]["<eos>"]
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "<eos>"]
    (first / "tokenizer.json").write_text(json.dumps(tokenizer))
    with refused(first / "tokenizer.json", "<eos>"):
        disa.load(first, device="cpu")

    lacking = changed(folder, tmp_path / "lacking")
    state = load_file(lacking / "model.safetensors")
    del state["vision_model.head.probe"]
    save_file(state, lacking / "model.safetensors")
    with refused(lacking, "vision_model.head.probe"):
        disa.load(lacking, device="cpu")
