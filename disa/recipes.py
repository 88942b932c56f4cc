"""Named configurations. Every one takes keyword overrides: `mini(cost_channels=16)`.

[P], [B] and [D] mark sources as in `disa/config.py`.
"""

from collections.abc import Callable
from typing import Any

from disa.config import ModelConfig

# One of CLIP's transformers: its width, layers and heads. The MLP is 4 x as wide.
Tower = tuple[int, int, int]

# What turns DiSa into CAT-Seg.
BASELINE = {"disentangle": False, "refine_category_reweight": False, "refine_semantic": False}


def vit_b16(**changes: Any) -> ModelConfig:
    """Return DiSa on OpenAI's CLIP ViT-B/16: images of 384 pixels, a grid of 24 x 24 [P].

    Command: `disa train vit-b-16 --clip clip-vit-b-16 --dataset coco-stuff --data datasets --out
    runs/disa-b`, with the schedule published for the baseline: 80,000 steps of 4 images [B].
    Hardware: one GPU; 37.2 GB in fp32, estimated. `--set micro_batch=1` needs 10.8 GB, with
    `--set backbone_finetune=frozen` as well 9.2 GB; docs/training_runs.md has the table.
    Hours: neither published nor measured.
    Expected mIoU on A-847, PC-459, A-150, PC-59, PAS-20, PAS-20b: not on record here for DiSa; as
    published for the baseline, `vit_b16_baseline`: 12.0, 19.0, 31.8, 57.5, 94.6, 77.3 [B].
    """
    clip = openai_clip(512, text=(512, 12, 8), vision=(768, 12, 12), patch=16, image=224)
    return ModelConfig(clip).replace(**changes)


def vit_l14(**changes: Any) -> ModelConfig:
    """Return DiSa on OpenAI's CLIP ViT-L/14@336: a grid of 24 x 24, 456.2 M parameters [P].

    Command: `disa train vit-l-14 --clip clip-vit-l-14-336 --dataset coco-stuff --data datasets
    --out runs/disa-l`, with the schedule published for the baseline: 80,000 steps of 4 images [B].
    On 4 GPUs, an image each: `torchrun --nproc-per-node 4 -m disa train ...`.
    Hardware: one GPU; 42.7 GB in fp32, 13.9 GB with `--set micro_batch=1`, estimated;
    docs/training_runs.md has the table.
    Hours: neither published nor measured.
    Expected mIoU on A-847, PC-459, A-150, PC-59, PAS-20, PAS-20b, as published: 16.3, 24.9, 38.9,
    64.7, 98.7, 84.7 [P]; the baseline's, `vit_l14_baseline`: 16.0, 23.8, 37.9, 63.3, 97.0, 82.5
    [B].
    """
    clip = openai_clip(768, text=(768, 12, 12), vision=(1024, 24, 16), patch=14, image=336)
    config = ModelConfig(clip, backbone_image_size=336, backbone_guidance_blocks=(7, 15))
    return config.replace(**changes)


def siglip2_b16(**changes: Any) -> ModelConfig:
    """Return DiSa on SigLIP 2 ViT-B/16: images of 384 pixels, a grid of 24 x 24 [D].

    Command: `disa train siglip2-b-16 --clip google/siglip2-base-patch16-384 --dataset coco-stuff
    --data datasets --out runs/disa-siglip2`, with the schedule of `vit_b16`.
    Hardware: as `vit_b16`, and 0.8 GB for the embeddings of 256,000 tokens.
    Hours, expected mIoU: nobody has trained it.
    """
    tower = _tower((768, 12, 12))
    text = tower | {"max_position_embeddings": 64, "vocab_size": 256_000}
    vision = tower | {"patch_size": 16, "image_size": 384}
    clip = {"model_type": "siglip", "text_config": text, "vision_config": vision}
    return ModelConfig(clip).replace(**changes)


def mini(**changes: Any) -> ModelConfig:
    """Return the bundled model's shape: images of 96 pixels, a grid of 12 x 12.

    It is small enough to be trained from scratch on two CPU cores [D].
    """
    clip = small_clip(
        128, text=(128, 2, 4), vision=(160, 5, 5), patch=8, image=96, vocabulary=758, context=40
    )
    config = ModelConfig(
        clip,
        backbone_image_size=96,
        backbone_guidance_blocks=(1, 3),
        backbone_templates=("a picture of a {}",),
        cost_channels=32,
        saliency_layers=1,
        saliency_heads=4,
        saliency_itm_head="product",
        saliency_split="relative",
        saliency_trains="scale",
        refine_heads=4,
        refine_window=6,
        refine_guidance_channels=32,
        refine_padding=32,
        decode_channels=(32, 16),
        decode_guidance_source=(64, 32),
        decode_guidance_channels=(16, 8),
        decode_detail_channels=16,
        decode_enlarge=True,
        things=True,
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
    "siglip2-b-16": siglip2_b16,
    "vit-b-16": vit_b16,
    "vit-b-16-baseline": vit_b16_baseline,
    "vit-l-14": vit_l14,
    "vit-l-14-baseline": vit_l14_baseline,
}


def openai_clip(
    projection: int, text: Tower, vision: Tower, patch: int, image: int
) -> dict[str, Any]:
    """Return what `transformers.CLIPConfig` takes for OpenAI's weights."""
    tokens = {
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    }
    pixels = {"patch_size": patch, "image_size": image}
    return _clip(projection, "quick_gelu", _tower(text) | tokens, _tower(vision) | pixels)


def small_clip(
    projection: int,
    text: Tower,
    vision: Tower,
    patch: int,
    image: int,
    vocabulary: int,
    context: int,
) -> dict[str, Any]:
    """Return the same for a CLIP trained from scratch, with the tokenizer trained along with it."""
    tokens = {
        "max_position_embeddings": context,
        "vocab_size": vocabulary,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    pixels = {"patch_size": patch, "image_size": image}
    return _clip(projection, "gelu", _tower(text) | tokens, _tower(vision) | pixels)


def _tower(tower: Tower) -> dict[str, Any]:
    width, layers, heads = tower
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _clip(
    projection: int, activation: str, text: dict[str, Any], vision: dict[str, Any]
) -> dict[str, Any]:
    """Join two towers: they share the width of the embeddings and the activation."""
    shared = {"hidden_act": activation, "projection_dim": projection}
    return {
        "projection_dim": projection,
        "text_config": text | shared | {"pad_token_id": 0},
        "vision_config": vision | shared,
    }
