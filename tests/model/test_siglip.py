"""SigLIP's towers: against transformers' own forward pass and its own pooling head."""

import pytest
import torch
import torch.nn.functional as F

from disa.model.backbone import trainable_names
from disa.model.encoders import build_backbone
from disa.model.siglip import SiglipBackbone


@pytest.fixture
def backbone(small) -> SiglipBackbone:
    torch.manual_seed(0)
    backbone = build_backbone(small("siglip2-b-16", things=True)).eval()
    assert isinstance(backbone, SiglipBackbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 48), (40, 72)])
def test_a_dense_token_is_what_the_pooling_head_makes_of_it_alone(backbone, size):
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 255
    vision = backbone.clip.vision_model
    vision.set_attn_implementation("eager")
    theirs = vision(
        pixels / 127.5 - 1,
        interpolate_pos_encoding=True,
        output_hidden_states=True,
        output_attentions=True,
    )
    visual = backbone(pixels)
    grid = (size[0] // 8, size[1] // 8)

    tokens = theirs.last_hidden_state  # behind the last norm
    alone = torch.stack([vision.head(tokens[:, [index]]) for index in range(tokens.shape[1])], 2)
    torch.testing.assert_close(visual.tokens, alone.unflatten(2, grid), rtol=1e-4, atol=1e-4)
    for tap, block in ((visual.first, 0), (visual.second, 2)):
        expected = theirs.hidden_states[block + 1].mT.unflatten(2, grid)
        torch.testing.assert_close(tap, expected, rtol=1e-4, atol=1e-4)

    probe = vision.head.probe.expand(2, -1, -1)
    shares = vision.head.attention(probe, tokens, tokens, average_attn_weights=False)[1]
    expected = (shares[:, :, 0] * tokens.shape[1]).log().unflatten(2, grid)
    torch.testing.assert_close(visual.attention, expected, rtol=1e-3, atol=1e-3)
    assert backbone.attention_maps == expected.shape[1]


@torch.no_grad()
def test_text_is_transformers_own_for_texts_that_fill_the_context(backbone):
    short = torch.tensor([[3, 4, 1], [5, 1, 0]])
    padded = F.pad(short, (0, 5))
    theirs = backbone.clip.get_text_features(padded).pooler_output
    torch.testing.assert_close(backbone.encode_text(short), F.normalize(theirs, dim=-1))
    torch.testing.assert_close(backbone.encode_text(short), backbone.encode_text(padded))


def test_trained_names_of_each_mode(backbone):
    names = {mode: set(trainable_names(backbone, mode)) for mode in ("frozen", "qk", "qv", "full")}
    image = "clip.vision_model.encoder.layers.{}.self_attn.{}_proj.weight"
    text = "clip.text_model.encoder.layers.0.self_attn.{}_proj.weight"
    assert names["frozen"] == set()
    for mode in ("qk", "qv"):
        assert names[mode] == {image.format(block, part) for block in range(4) for part in mode} | {
            text.format(part) for part in mode
        }
    everything = {name for name, _ in backbone.named_parameters()}
    head = "clip.vision_model.head."
    assert everything - names["full"] == {
        "clip.logit_scale",
        "clip.logit_bias",
        f"{head}probe",
        f"{head}attention.in_proj_weight",
        f"{head}attention.in_proj_bias",
    }


@pytest.mark.parametrize("mode", ["qv", "full"])
def test_gradients_reach_exactly_what_the_mode_lists(small, pixels, mode):
    torch.manual_seed(0)
    backbone = build_backbone(small("siglip2-b-16", backbone_finetune=mode))
    tokens = F.normalize(backbone(pixels).tokens, dim=1)
    text = backbone.encode_text(torch.tensor([[3, 4, 1], [5, 6, 1]]))
    torch.einsum("bdhw,td->bthw", tokens, text).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    reached = {name for name, gradient in gradients.items() if gradient is not None}
    assert reached == set(trainable_names(backbone, mode))
    # The bias of a key moves all scores of a query alike, which a softmax does not see.
    still = {name for name in reached if not gradients[name].any()}
    assert all("k_proj.bias" in name for name in still)
