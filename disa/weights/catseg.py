"""CAT-Seg's published checkpoints as a `Disa` in its baseline configuration.

Source: baseline [B], commit 6d3a188.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.disa import Disa
from disa.recipes import BASELINE
from disa.running.files import write_folder
from disa.weights.clip_files import GRID, guidance_blocks
from disa.weights.model_card import Source
from disa.weights.model_folder import build, check_config, save, try_out
from disa.weights.openai import from_openai, openai_config
from disa.weights.tensor_files import in_32_bit, named_tensors, read_torch_file
from disa.weights.tokenizer import encoder_tokenizer

PREDICTOR = "sem_seg_head.predictor."
CLIP = f"{PREDICTOR}clip_model."
HEAD = f"{PREDICTOR}transformer."
# (official, ours). A name is rewritten by every rule that matches, in this order.
RULES = (
    # Into the cost volume and to the width of the guidance.
    (rf"^{HEAD}conv1\.", "cost.embed."),
    (rf"^{HEAD}guidance_projection\.0\.", "refine.visual."),
    (rf"^{HEAD}text_guidance_projection\.0\.", "refine.text."),
    # Aggregation over pixels and over labels.
    (rf"^{HEAD}layers\.(\d+)\.", r"refine.levels.\1."),
    (r"^(refine.*)\.swin_block\.guidance_norm\.", r"\1.pixel.guidance_norm."),
    (r"^(refine.*)\.swin_block\.block_1\.", r"\1.pixel.plain."),
    (r"^(refine.*)\.swin_block\.block_2\.", r"\1.pixel.shifted."),
    (r"^(refine\.levels\.\d+)\.attention\.", r"\1.category.attention."),
    # Inside a block. Queries and keys of the two attentions lie at different depths.
    (r"^(refine.*)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"^(refine.*)\.mlp\.fc2\.", r"\1.mlp.2."),
    (r"^(refine.*)\.MLP\.", r"\1.mlp."),
    (r"^(refine.*)\.attention\.attention\.", r"\1.attention."),
    (r"^(refine.*?)(?:\.attn)?\.q\.", r"\1.query."),
    (r"^(refine.*?)(?:\.attn)?\.k\.", r"\1.key."),
    (r"^(refine.*?)(?:\.attn)?\.v\.", r"\1.value."),
    (r"^(refine.*)\.attn\.proj\.", r"\1.project."),
    (r"^(refine.*)\.padding_tokens$", r"\1.padding_token"),
    # The decoder. Its convolutions are numbered among layers without weights.
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


def convert_catseg(checkpoint: Path, out: Path, tokenizer: Path, source: Source) -> None:
    """Write the model folder `out` from a CAT-Seg checkpoint and CLIP's `tokenizer.json`.

    The folder appears whole or not at all; it is new, or empty so far. Raises `DisaError` that
    names the file and every tensor that is missing, left over or of another shape; also for a file
    with code in it, and for a tokenizer that does not fit the text tower.
    """
    # All is read and checked before anything is written.
    model = read_catseg(checkpoint)
    words = encoder_tokenizer(tokenizer, model.config.backbone_clip)
    write_folder(out, lambda part: save(model, part, tokenizer=words, source=source))


def read_catseg(checkpoint: Path) -> Disa:
    """Return the baseline with a CAT-Seg checkpoint's weights, for evaluation, in 32 bit."""
    official = _unpack(checkpoint, read_torch_file(checkpoint))
    try:
        config = catseg_config(official)
    except DisaError as error:
        raise DisaError(f"{checkpoint}: {error}") from None
    check_config(checkpoint, config)
    # The network takes no memory until it gets the file's tensors.
    model = build(checkpoint, lambda: Disa(config))
    try:
        state = from_catseg(official, model.state_dict())
    except DisaError as error:
        raise DisaError(f"{checkpoint}: {error}") from None
    model.load_state_dict(state, assign=True)
    model.backbone.restore_buffers()
    try_out(checkpoint, model.eval())
    return model


def catseg_config(official: Mapping[str, Tensor]) -> ModelConfig:
    """Return the baseline's configuration: sizes from the shapes, the rest as published.

    Raises `DisaError` naming the first tensor that is missing or does not fit the architecture.
    """
    shape = {name: tuple(value.shape) for name, value in official.items()}
    try:
        channels, prompts, kernel, _ = shape[f"{HEAD}conv1.weight"]
        guidance, *_ = shape[f"{HEAD}guidance_projection.0.weight"]
        _, source1, *_ = shape["upsample1.weight"]
        _, source2, *_ = shape["upsample2.weight"]
        guidance1, *_ = shape[f"{HEAD}decoder_guidance_projection.0.0.weight"]
        guidance2, *_ = shape[f"{HEAD}decoder_guidance_projection.1.0.weight"]
        decoded1, *_ = shape[f"{HEAD}decoder1.conv.double_conv.0.weight"]
        decoded2, *_ = shape[f"{HEAD}decoder2.conv.double_conv.0.weight"]
    except (KeyError, ValueError) as error:
        raise DisaError(
            f"lacks {error.args[0]}, or it has an impossible shape; it is no checkpoint of CAT-Seg"
        ) from None
    if prompts != 1:
        raise DisaError(
            f"{HEAD}conv1.weight reads {prompts} prompts per label; only models with one can be "
            "read"
        )
    try:
        clip = openai_config(_clip_part(official))
    except DisaError as error:
        raise DisaError(f"{CLIP[:-1]}: {error}") from None

    # Layers are counted by their numbers, each of which stands in the names of many tensors.
    layers = f"{HEAD}layers."
    levels = {name.removeprefix(layers).split(".")[0] for name in shape if name.startswith(layers)}
    vision = clip["vision_config"]
    config = ModelConfig(
        clip,
        backbone_image_size=GRID * vision["patch_size"],
        backbone_guidance_blocks=guidance_blocks(vision["num_hidden_layers"]),
        cost_channels=channels,
        cost_kernel=kernel,
        refine_levels=len(levels),
        refine_guidance_channels=guidance,
        decode_guidance_source=(source1, source2),
        decode_guidance_channels=(guidance1, guidance2),
        decode_channels=(decoded1, decoded2),
    )
    return config.replace(**BASELINE)


def from_catseg(
    official: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the official weights in 32 bit under our names.

    `expected` is the state dict of a baseline `Disa`. Raises `DisaError` that names every missing,
    left-over or misshaped tensor, by its official name where it has one.
    """
    clip = from_openai(_clip_part(official))
    ours = {f"backbone.clip.{name}": value for name, value in clip.items()}
    origin: dict[str, str] = {}
    for name, value in official.items():
        # The mask of shifted windows is computed from the grid here.
        if name.startswith(CLIP) or name.endswith(".attn_mask"):
            continue
        renamed = _rename(name)
        # Published as 1 x 1 x channels.
        is_padding = renamed.endswith((".padding_token", ".padding_guidance"))
        ours[renamed] = value.flatten() if is_padding else value
        origin[renamed] = name

    # All faults at once: together they tell which other model or version the file holds.
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
    return in_32_bit(ours)


def _unpack(path: Path, checkpoint: Any) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint. Raises `DisaError` if there is none."""
    # detectron2 keeps it beside the state of the optimiser.
    state = checkpoint.get("model", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    tensors = named_tensors(path, state)
    if not any(name.startswith(PREDICTOR) for name in tensors):
        raise DisaError(
            f"{path}: holds no tensors named {PREDICTOR}...; it is no checkpoint of CAT-Seg"
        )
    return tensors


def _clip_part(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(CLIP): value for name, value in official.items() if name.startswith(CLIP)
    }


def _rename(name: str) -> str:
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name
