"""Named configurations. Every one takes keyword overrides: `mini(cost_channels=16)`."""

from collections.abc import Callable
from typing import Any

from disa.config import ModelConfig

BASELINE = {"disentangle": False, "refine_category_reweight": False, "refine_semantic": False}


def vit_b16(**changes: Any) -> ModelConfig:
    """Return DiSa on OpenAI's CLIP ViT-B/16; images of 384 pixels, a grid of 24 x 24 [P]."""
    clip = _clip(512, text=(512, 12, 8), vision=(768, 12, 12), patch=16, image=224)
    return ModelConfig(clip).replace(**changes)


def vit_l14(**changes: Any) -> ModelConfig:
    """Return DiSa on OpenAI's CLIP ViT-L/14@336, a grid of 24 x 24; published with 456.2 M parameters [P]."""
    clip = _clip(768, text=(768, 12, 12), vision=(1024, 24, 16), patch=14, image=336)
    config = ModelConfig(clip, backbone_image_size=336, backbone_guidance_blocks=(7, 15))
    return config.replace(**changes)


def mini(**changes: Any) -> ModelConfig:
    """Return the bundled model's shape: 96 pixels, a grid of 12 x 12, trained from scratch on two CPU cores [D]."""
    clip = _clip(128, text=(128, 2, 4), vision=(192, 6, 6), patch=8, image=96, vocabulary=1024, context=32)
    config = ModelConfig(
        clip,
        backbone_image_size=96,
        backbone_guidance_blocks=(1, 3),
        backbone_templates=("a picture of a {}",),
        cost_channels=32,
        saliency_layers=1,
        saliency_heads=4,
        refine_heads=4,
        refine_window=6,
        refine_guidance_channels=32,
        refine_padding=32,
        decode_channels=(32, 16),
        decode_guidance_source=(64, 32),
        decode_guidance_channels=(16, 8),
        decode_image_channels=8,
        loss_ignored="masked",
    )
    return config.replace(**changes)


def vit_b16_baseline(**changes: Any) -> ModelConfig:
    """Return CAT-Seg on ViT-B/16: ablation row I, 154,289,378 parameters [B]."""
    return vit_b16(**BASELINE | changes)


def vit_l14_baseline(**changes: Any) -> ModelConfig:
    """Return CAT-Seg on ViT-L/14@336: ablation row I, 433,726,946 parameters [B]."""
    return vit_l14(**BASELINE | changes)


def mini_baseline(**changes: Any) -> ModelConfig:
    """Return `mini` without what DiSa adds to CAT-Seg."""
    return mini(**BASELINE | changes)


RECIPES: dict[str, Callable[..., ModelConfig]] = {
    "mini": mini,
    "mini-baseline": mini_baseline,
    "vit-b-16": vit_b16,
    "vit-b-16-baseline": vit_b16_baseline,
    "vit-l-14": vit_l14,
    "vit-l-14-baseline": vit_l14_baseline,
}


def _clip(
    projection: int,
    text: tuple[int, int, int],
    vision: tuple[int, int, int],
    patch: int,
    image: int,
    vocabulary: int = 49408,
    context: int = 77,
) -> dict[str, Any]:
    """Return what `transformers.CLIPConfig` takes; the towers are (width, layers, heads), the MLP is 4 x wide."""

    def tower(width: int, layers: int, heads: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "hidden_act": "quick_gelu",
            "projection_dim": projection,
        }

    # the end-of-text token is the last of the vocabulary, the start-of-text token the one before it
    tokens = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    return {
        "projection_dim": projection,
        "text_config": {**tower(*text), "vocab_size": vocabulary, "max_position_embeddings": context, **tokens},
        "vision_config": {**tower(*vision), "patch_size": patch, "image_size": image},
    }
