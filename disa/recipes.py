"""Named configurations. Every one takes keyword overrides: `mini(cost_channels=16)`."""

from collections.abc import Callable
from typing import Any

from disa.config import ModelConfig

BASELINE = {"disentangle": False, "refine_category_reweight": False, "refine_semantic": False}


def vit_b16(**changes: Any) -> ModelConfig:
    """Return DiSa on OpenAI's CLIP ViT-B/16; images of 384 pixels, a grid of 24 x 24 [P].

    Command: `disa train vit-b-16 --clip clip-vit-b-16 --dataset coco-stuff --data datasets --out runs/disa-b`, with the
    schedule published for the baseline: 80,000 steps of 4 images [B].
    Hardware: one GPU; 37.2 GB in fp32, estimated. Within 12 GB: `--set micro_batch=1` (10.8 GB), with a frozen CLIP
    as well, `--set backbone_finetune=frozen` (9.2 GB); docs/training.md has the table.
    Hours: not published, and nobody has measured them here.
    Expected mIoU on A-847, PC-459, A-150, PC-59, PAS-20, PAS-20b: of DiSa only the large model's is on record here; the
    baseline's, for `vit_b16_baseline`: 12.0, 19.0, 31.8, 57.5, 94.6, 77.3 as published [B].
    """
    clip = openai_clip(512, text=(512, 12, 8), vision=(768, 12, 12), patch=16, image=224)
    return ModelConfig(clip).replace(**changes)


def vit_l14(**changes: Any) -> ModelConfig:
    """Return DiSa on OpenAI's CLIP ViT-L/14@336, a grid of 24 x 24; published with 456.2 M parameters [P].

    Command: `disa train vit-l-14 --clip clip-vit-l-14-336 --dataset coco-stuff --data datasets --out runs/disa-l`, with
    the schedule published for the baseline: 80,000 steps of 4 images [B]. On 4 GPUs, the same batch with an image each:
    `torchrun --nproc-per-node 4 -m disa train ...`.
    Hardware: one GPU; 42.7 GB in fp32, 13.9 GB with `--set micro_batch=1`, estimated; docs/training.md has the table.
    Hours: not published, and nobody has measured them here.
    Expected mIoU on A-847, PC-459, A-150, PC-59, PAS-20, PAS-20b: 16.3, 24.9, 38.9, 64.7, 98.7, 84.7 as published [P];
    the baseline's, for `vit_l14_baseline`: 16.0, 23.8, 37.9, 63.3, 97.0, 82.5 [B].
    """
    clip = openai_clip(768, text=(768, 12, 12), vision=(1024, 24, 16), patch=14, image=336)
    config = ModelConfig(clip, backbone_image_size=336, backbone_guidance_blocks=(7, 15))
    return config.replace(**changes)


def mini(**changes: Any) -> ModelConfig:
    """Return the bundled model's shape: 96 pixels, a grid of 12 x 12, trained from scratch on two CPU cores [D]."""
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


def openai_clip(
    projection: int,
    text: tuple[int, int, int],
    vision: tuple[int, int, int],
    patch: int,
    image: int,
) -> dict[str, Any]:
    """Return what `transformers.CLIPConfig` takes for OpenAI's weights: QuickGELU, texts of 77 tokens of 49,408."""
    return _clip(projection, text, vision, patch, image, 49408, 77, "quick_gelu", (49406, 49407))


def small_clip(
    projection: int,
    text: tuple[int, int, int],
    vision: tuple[int, int, int],
    patch: int,
    image: int,
    vocabulary: int,
    context: int,
) -> dict[str, Any]:
    """Return the same for a CLIP trained from scratch, with the tokenizer of `disa pretrain-clip`."""
    return _clip(projection, text, vision, patch, image, vocabulary, context, "gelu", (0, 1))


def _clip(
    projection: int,
    text: tuple[int, int, int],
    vision: tuple[int, int, int],
    patch: int,
    image: int,
    vocabulary: int,
    context: int,
    activation: str,
    start_end: tuple[int, int],
) -> dict[str, Any]:
    """Assemble a `CLIPConfig`; the towers are (width, layers, heads), the MLP is 4 x wide."""

    def tower(width: int, layers: int, heads: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "hidden_act": activation,
            "projection_dim": projection,
        }

    start, end = start_end
    tokens = {
        "vocab_size": vocabulary,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": 0,
    }
    return {
        "projection_dim": projection,
        "text_config": {**tower(*text), "max_position_embeddings": context, **tokens},
        "vision_config": {**tower(*vision), "patch_size": patch, "image_size": image},
    }
