"""CAT-Seg's published checkpoints as a `Disa` in its baseline configuration.

`official state dict -> ModelConfig, our state dict`. Source: baseline [B], commit 6d3a188.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.recipes import BASELINE
from disa.weights.clip_files import GRID, guidance_blocks
from disa.weights.openai import from_openai, openai_config

PREDICTOR = "sem_seg_head.predictor."
CLIP = f"{PREDICTOR}clip_model."
HEAD = f"{PREDICTOR}transformer."
# (official, ours); a name is rewritten by every rule that matches, in this order
RULES = (
    (rf"^{HEAD}conv1\.", "cost.embed."),
    (rf"^{HEAD}guidance_projection\.0\.", "refine.visual."),
    (rf"^{HEAD}text_guidance_projection\.0\.", "refine.text."),
    (
        rf"^{HEAD}layers\.(\d+)\.swin_block\.guidance_norm\.",
        r"refine.levels.\1.pixel.guidance_norm.",
    ),
    (rf"^{HEAD}layers\.(\d+)\.swin_block\.block_1\.", r"refine.levels.\1.pixel.plain."),
    (rf"^{HEAD}layers\.(\d+)\.swin_block\.block_2\.", r"refine.levels.\1.pixel.shifted."),
    (rf"^{HEAD}layers\.(\d+)\.attention\.", r"refine.levels.\1.category.attention."),
    (r"^(refine.*)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"^(refine.*)\.mlp\.fc2\.", r"\1.mlp.2."),
    (r"^(refine.*)\.MLP\.", r"\1.mlp."),
    (r"^(refine.*)\.attention\.attention\.", r"\1.attention."),
    (r"^(refine.*?)(?:\.attn)?\.q\.", r"\1.query."),
    (r"^(refine.*?)(?:\.attn)?\.k\.", r"\1.key."),
    (r"^(refine.*?)(?:\.attn)?\.v\.", r"\1.value."),
    (r"^(refine.*)\.attn\.proj\.", r"\1.project."),
    (r"^(refine.*)\.padding_tokens$", r"\1.padding_token"),
    (rf"^{HEAD}decoder_guidance_projection\.0\.0\.", "decode.guidance1."),
    (rf"^{HEAD}decoder_guidance_projection\.1\.0\.", "decode.guidance2."),
    (rf"^{HEAD}decoder([12])\.up\.", r"decode.step\1.up."),
    (rf"^{HEAD}decoder([12])\.conv\.double_conv\.0\.", r"decode.step\1.conv1."),
    (rf"^{HEAD}decoder([12])\.conv\.double_conv\.1\.", r"decode.step\1.norm1."),
    (rf"^{HEAD}decoder([12])\.conv\.double_conv\.3\.", r"decode.step\1.conv2."),
    (rf"^{HEAD}decoder([12])\.conv\.double_conv\.4\.", r"decode.step\1.norm2."),
    (rf"^{HEAD}head\.", "decode.head."),
    (r"^upsample([12])\.", r"decode.upsample\1."),
)


def unpack(checkpoint: Any) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint, which detectron2 keeps under `model`.

    Raises `DisaError` if there is none.
    """
    state = checkpoint.get("model", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not isinstance(state, Mapping) or not any(str(name).startswith(PREDICTOR) for name in state):
        raise DisaError(f"holds no tensors named {PREDICTOR}...; it is no checkpoint of CAT-Seg")
    if wrong := [str(name) for name, value in state.items() if not isinstance(value, Tensor)]:
        raise DisaError(f"{wrong[0]} is no tensor; it is no checkpoint of CAT-Seg")
    return {str(name): value for name, value in state.items()}


def catseg_config(official: Mapping[str, Tensor]) -> ModelConfig:
    """Return the baseline's configuration with every size that the shapes tell.

    The others are the published ones.

    Raises `DisaError` naming the first tensor that is missing or does not fit the architecture.
    """
    shape = {name: tuple(value.shape) for name, value in official.items()}
    try:
        channels, prompts, kernel, _ = shape[f"{HEAD}conv1.weight"]
        guidance, *_ = shape[f"{HEAD}guidance_projection.0.weight"]
        sources = shape["upsample1.weight"][1], shape["upsample2.weight"][1]
        guides = tuple(
            shape[f"{HEAD}decoder_guidance_projection.{step}.0.weight"][0] for step in (0, 1)
        )
        decoded = tuple(
            shape[f"{HEAD}decoder{step}.conv.double_conv.0.weight"][0] for step in (1, 2)
        )
    except (KeyError, ValueError) as error:
        raise DisaError(
            f"lacks {error.args[0]}, or it has an impossible shape; it is no checkpoint of CAT-Seg"
        ) from None
    if prompts != 1:
        raise DisaError(
            f"{HEAD}conv1.weight reads {prompts} prompts per category; only models with one can be "
            "read"
        )
    try:
        clip = openai_config(_clip_part(official))
    except DisaError as error:
        raise DisaError(f"{CLIP[:-1]}: {error}") from None
    levels = {
        name.removeprefix(f"{HEAD}layers.").split(".")[0]
        for name in shape
        if name.startswith(f"{HEAD}layers.")
    }
    vision = clip["vision_config"]
    config = ModelConfig(
        clip,
        backbone_image_size=GRID * vision["patch_size"],
        backbone_guidance_blocks=guidance_blocks(vision["num_hidden_layers"]),
        cost_channels=channels,
        cost_kernel=kernel,
        refine_levels=len(levels),
        refine_guidance_channels=guidance,
        decode_guidance_source=(sources[0], sources[1]),
        decode_guidance_channels=(guides[0], guides[1]),
        decode_channels=(decoded[0], decoded[1]),
    )
    return config.replace(**BASELINE)


def from_catseg(
    official: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the official weights in 32 bit under our names.

    `expected` is the state dict of a baseline `Disa`.

    Raises `DisaError` that names every missing, left-over or misshaped tensor, by its official name
    where it has one.
    """
    ours = {
        f"backbone.clip.{name}": value for name, value in from_openai(_clip_part(official)).items()
    }
    origin: dict[str, str] = {}
    for name, value in official.items():
        if not name.startswith(CLIP) and not name.endswith(
            ".attn_mask"
        ):  # the mask is computed from the grid here
            renamed = _rename(name)
            ours[renamed] = (
                value.flatten()
                if renamed.endswith((".padding_token", ".padding_guidance"))
                else value
            )
            origin[renamed] = name
    faults = [f"missing {name}" for name in expected if name not in ours]
    faults += [f"left over {origin.get(name, name)}" for name in ours if name not in expected]
    faults += [
        f"{origin.get(name, name)} has shape {tuple(ours[name].shape)}, expected "
        f"{tuple(value.shape)}"
        for name, value in expected.items()
        if name in ours and ours[name].shape != value.shape
    ]
    if faults:
        raise DisaError(f"not the CAT-Seg checkpoint of this configuration: {'; '.join(faults)}")
    return {name: value.to(torch.float32, copy=True) for name, value in ours.items()}


def _clip_part(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(CLIP): value for name, value in official.items() if name.startswith(CLIP)
    }


def _rename(name: str) -> str:
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name
