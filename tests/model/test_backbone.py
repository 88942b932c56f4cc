"""CLIP's towers: against transformers' own forward pass, and the baseline's peculiar last block."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from disa.model.backbone import resize_positions, trainable_names
from disa.model.clip import PIXEL_MEAN, PIXEL_STD, ClipBackbone
from disa.weights.load import disa_on_clip
from disa.weights.model_folder import load_disa, save


@pytest.fixture
def backbone(small) -> ClipBackbone:
    torch.manual_seed(0)
    return ClipBackbone(small()).eval()


@torch.no_grad()
def test_tapped_blocks_are_those_of_transformers_own_forward_pass(backbone, pixels):
    normalised = (pixels - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[
        :, None, None
    ]
    states = backbone.clip.vision_model(normalised, output_hidden_states=True).hidden_states
    visual = backbone(pixels)
    for ours, block in ((visual.first, 0), (visual.second, 2)):
        theirs = states[block + 1][:, 1:]  # entry 0 is the embedding
        torch.testing.assert_close(
            rearrange(ours, "b v h w -> b (h w) v"), theirs, rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_dense_tokens_take_the_value_path_and_the_class_token_as_residual(backbone, pixels):
    vision = backbone.clip.vision_model
    before = backbone.clip.vision_model(
        backbone.normalise(pixels), output_hidden_states=True
    ).hidden_states[-2]
    block = vision.encoder.layers[-1]
    tokens = backbone(pixels).tokens
    for image in range(2):
        for position in (0, 7, 35):
            x = before[image, 1 + position]
            x = (
                block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(x)))
                + before[image, 0]
            )
            x = x + block.mlp(block.layer_norm2(x))
            expected = backbone.clip.visual_projection(vision.post_layernorm(x))
            torch.testing.assert_close(
                tokens[image, :, position // 6, position % 6], expected, rtol=1e-4, atol=1e-5
            )


@torch.no_grad()
def test_text_is_transformers_own_and_of_unit_length(backbone):
    ids = torch.tensor([[38, 3, 39, 0], [38, 4, 5, 39]])
    ours = backbone.encode_text(ids)
    theirs = backbone.clip.text_projection(backbone.clip.text_model(input_ids=ids).pooler_output)
    torch.testing.assert_close(ours, F.normalize(theirs, dim=-1))
    torch.testing.assert_close(ours.norm(dim=-1), torch.ones(2))


@torch.no_grad()
def test_what_follows_the_end_of_text_does_not_matter(backbone):
    short, padded = torch.tensor([[38, 3, 39]]), torch.tensor([[38, 3, 39, 0, 17, 0]])
    torch.testing.assert_close(backbone.encode_text(short), backbone.encode_text(padded))


def test_positions_are_resized_row_by_row():
    ramp = torch.arange(36.0).reshape(6, 6)
    positions = torch.cat([torch.tensor([[-1.0]]), ramp.reshape(-1, 1)])
    assert resize_positions(positions, (6, 6), before=1) is positions
    for grid in ((6, 12), (12, 6), (3, 5)):
        resized = resize_positions(positions, grid, before=1)
        expected = F.interpolate(ramp[None, None], grid, mode="bicubic", align_corners=False)
        assert resized[0] == -1
        assert torch.equal(resized[1:, 0], expected.flatten())


def test_trained_names_of_each_mode(backbone):
    names = {mode: set(trainable_names(backbone, mode)) for mode in ("frozen", "qk", "qv", "full")}
    image = "clip.vision_model.encoder.layers.{}.self_attn.{}_proj.weight"
    text = "clip.text_model.encoder.layers.0.self_attn.{}_proj.weight"
    assert names["frozen"] == set()
    assert names["qk"] == {image.format(i, p) for i in range(3) for p in "qk"} | {
        text.format(p) for p in "qk"
    }
    assert names["qv"] == (
        {image.format(i, p) for i in range(3) for p in "qv"}
        | {image.format(3, "v")}
        | {text.format(p) for p in "qv"}
    )
    everything = {name for name, _ in backbone.named_parameters()}
    last = "clip.vision_model.encoder.layers.3.self_attn."
    unused = {f"{last}{part}_proj.{kind}" for part in "qk" for kind in ("weight", "bias")} | {
        "clip.logit_scale"
    }
    assert names["full"] == everything - unused


def test_a_head_on_a_clip_from_its_folder(tmp_path, small, backbone, pixels, text):
    backbone.clip.save_pretrained(tmp_path)
    model = disa_on_clip(small(backbone_clip={}), tmp_path)
    assert torch.equal(model.backbone(pixels).tokens, backbone(pixels).tokens)
    save(model, tmp_path / "disa")  # the clip's own config is in the model's
    again = load_disa(tmp_path / "disa")
    assert torch.equal(again(pixels, text(2)).logits, model.eval()(pixels, text(2)).logits)


@torch.no_grad()
def test_attention_of_the_class_token_is_that_of_transformers(small, pixels):
    backbone = ClipBackbone(small(things=True)).eval()
    vision = backbone.clip.vision_model
    vision.set_attn_implementation("eager")
    outputs = vision(backbone.normalise(pixels), output_attentions=True)
    shares = torch.cat([each[:, :, 0, 1:] for each in outputs.attentions], 1)  # b a n
    expected = (shares * shares.shape[-1]).log().unflatten(2, (6, 6))
    torch.testing.assert_close(backbone(pixels).attention, expected, rtol=1e-4, atol=1e-4)
    assert ClipBackbone(small())(pixels).attention is None
