"""CLIP under the names that OpenAI gave its tensors, and under those of transformers.

Source: openai/CLIP (MIT), model.py.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from disa.errors import DisaError
from disa.recipes import openai_clip

# Channels per attention head, in every published CLIP. No shape tells them.
HEAD_WIDTH = 64
# Numbers and masks among the tensors.
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
# (OpenAI's, transformers'). A name is rewritten by every rule that matches, in this order.
RULES = (
    # The two towers.
    (r"^visual\.transformer\.resblocks\.(\d+)\.", r"vision_model.encoder.layers.\1."),
    (r"^transformer\.resblocks\.(\d+)\.", r"text_model.encoder.layers.\1."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^text_projection$", "text_projection.weight"),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    # Inside a block of either tower.
    (r"\.attn\.([qkv])_proj_weight$", r".self_attn.\1_proj.weight"),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def openai_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return `CLIPConfig` data: sizes from the shapes, QuickGELU, 64 channels a head.

    Raises `DisaError` naming what is missing, and for a CLIP with a ResNet.
    """
    if "visual.layer1.0.conv1.weight" in state:
        raise DisaError("a CLIP with a ResNet has no patch tokens; use a ViT, such as ViT-B-16.pt")
    shape = {name: tuple(value.shape) for name, value in state.items()}
    try:
        vision, _, _, patch = shape["visual.conv1.weight"]
        tokens, _ = shape["visual.positional_embedding"]
        context, text = shape["positional_embedding"]
        words, _ = shape["token_embedding.weight"]
        _, projection = shape["text_projection"]
    except (KeyError, ValueError) as error:
        raise DisaError(
            f"lacks {error.args[0]}, or it has an impossible shape; it is no CLIP in OpenAI's "
            "form, such as ViT-B-16.pt"
        ) from None
    # One token stands for the whole picture, the others for a square of patches.
    side = int(max(0, tokens - 1) ** 0.5 + 0.5)
    config = openai_clip(
        projection,
        text=(text, _depth(state, "transformer."), max(1, text // HEAD_WIDTH)),
        vision=(vision, _depth(state, "visual.transformer."), max(1, vision // HEAD_WIDTH)),
        patch=patch,
        image=side * patch,
    )
    # The two highest ids start and end a text.
    start_end = {"bos_token_id": words - 2, "eos_token_id": words - 1}
    config["text_config"] |= {"vocab_size": words, "max_position_embeddings": context, **start_end}
    return config


def from_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under transformers' names, in their own types.

    Nothing is left out but `NO_WEIGHTS`. Raises `DisaError` for a tensor of an impossible shape.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.rpartition(".")[2] in NO_WEIGHTS:
            continue
        try:
            renamed |= _rename(name, value)
        except (RuntimeError, ValueError):
            raise DisaError(
                f"{name} has the impossible shape {tuple(value.shape)}; download the file again"
            ) from None
    return renamed


def _rename(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return one tensor, or three where query, key and value are fused."""
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)

    # OpenAI keeps query, key and value in one tensor, one below the other.
    if fused := re.fullmatch(r"(.*)\.attn\.in_proj_(weight|bias)", name):
        stem, kind = fused.groups()
        return {
            f"{stem}.self_attn.{part}_proj.{kind}": each
            for part, each in zip("qkv", value.chunk(3), strict=True)
        }
    if name in ("visual_projection.weight", "text_projection.weight"):
        # OpenAI multiplies from the right, transformers' linear layers from the left.
        return {name: value.t().contiguous()}
    return {name: value}


def _depth(state: Mapping[str, Any], tower: str) -> int:
    blocks = {
        name.split("resblocks.")[1].split(".")[0]
        for name in state
        if name.startswith(f"{tower}resblocks.")
    }
    return len(blocks)
