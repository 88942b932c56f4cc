"""Recipes at reduced size: everything that distinguishes them, nothing that takes time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from disa.config import ModelConfig
from disa.model.disa import Disa
from disa.recipes import RECIPES


def small_config(recipe: str = "mini", **changes: Any) -> ModelConfig:
    """Return the recipe with narrow, shallow parts, and the decoder and outputs of the paper.

    Patch 8, d = 16, a native grid of 6 x 6. SigLIP recipes get a SigLIP.
    """
    tower = {
        "intermediate_size": 48,
        "num_attention_heads": 2,
        "hidden_act": "quick_gelu",
        "projection_dim": 16,
    }
    clip = {
        "projection_dim": 16,
        "text_config": tower
        | {
            "hidden_size": 12,
            "num_hidden_layers": 1,
            "vocab_size": 40,
            "max_position_embeddings": 8,
        }
        | {"bos_token_id": 38, "eos_token_id": 39},
        "vision_config": tower
        | {"hidden_size": 24, "num_hidden_layers": 4, "patch_size": 8, "image_size": 48},
    }
    if recipe.startswith("siglip"):
        # Both towers are as wide as the embeddings.
        width = {"hidden_size": 16, "hidden_act": "gelu_pytorch_tanh"}
        clip = {
            "model_type": "siglip",
            "text_config": clip["text_config"] | width,
            "vision_config": clip["vision_config"] | width,
        }
    small = {
        "backbone_clip": clip,
        "backbone_image_size": 48,
        "backbone_guidance_blocks": (0, 2),
        "cost_channels": 8,
        "saliency_heads": 2,
        "disentangle_heads": 2,
        "refine_heads": 2,
        "refine_window": 4,
        "refine_guidance_channels": 8,
        "refine_padding": 10,
        "decode_channels": (8, 4),
        "decode_guidance_source": (8, 6),
        "decode_guidance_channels": (4, 2),
        "saliency_trains": "all",
        "decode_detail_channels": 0,
        "decode_enlarge": False,
        "things": False,
    }
    return RECIPES[recipe](**small | changes)


def unit_text(t: int, p: int = 1, d: int = 16, seed: int = 0) -> torch.Tensor:
    """Return `t p d` random directions."""
    return F.normalize(torch.randn(t, p, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def stir(model: torch.nn.Module) -> None:
    """Move every trainable head parameter off its start, so that no part is the identity."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("backbone."):
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def small() -> Callable[..., ModelConfig]:
    return small_config


@pytest.fixture
def text() -> Callable[..., torch.Tensor]:
    return unit_text


@pytest.fixture(scope="module", params=list(RECIPES))
def model(request: pytest.FixtureRequest) -> Disa:
    """Every recipe in turn, stirred, in evaluation mode."""
    torch.manual_seed(0)
    model = Disa(small_config(request.param))
    stir(model)
    return model.eval()


@pytest.fixture
def make() -> Callable[..., Disa]:
    """Return a builder of stirred models."""

    def build(recipe: str = "mini", **changes: Any) -> Disa:
        torch.manual_seed(4)  # a start in which no gate's few ReLUs are all dead
        model = Disa(small_config(recipe, **changes))
        stir(model)
        return model.eval()

    return build


@pytest.fixture
def pixels() -> torch.Tensor:
    """Two images of 48 x 48 pixels in 0..255."""
    return torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1)) * 255
