"""Names of CAT-Seg's published checkpoints -> names of `Disa` in its baseline configuration.

`official state dict -> our state dict`, nothing added, nothing left over. Source: baseline [B], commit 6d3a188.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from disa.errors import DisaError

HEAD = "sem_seg_head.predictor."
BLOCK = r"resblocks\.(\d+)\."
# (official, ours); a name is rewritten by every rule that matches, in this order
RULES = (
    (rf"^{HEAD}clip_model\.visual\.transformer\.{BLOCK}", r"backbone.clip.vision_model.encoder.layers.\1."),
    (rf"^{HEAD}clip_model\.transformer\.{BLOCK}", r"backbone.clip.text_model.encoder.layers.\1."),
    (rf"^{HEAD}clip_model\.visual\.class_embedding$", "backbone.clip.vision_model.embeddings.class_embedding"),
    (rf"^{HEAD}clip_model\.visual\.conv1\.", "backbone.clip.vision_model.embeddings.patch_embedding."),
    (
        rf"^{HEAD}clip_model\.visual\.positional_embedding$",
        "backbone.clip.vision_model.embeddings.position_embedding.weight",
    ),
    (rf"^{HEAD}clip_model\.visual\.ln_pre\.", "backbone.clip.vision_model.pre_layrnorm."),
    (rf"^{HEAD}clip_model\.visual\.ln_post\.", "backbone.clip.vision_model.post_layernorm."),
    (rf"^{HEAD}clip_model\.visual\.proj$", "backbone.clip.visual_projection.weight"),
    (rf"^{HEAD}clip_model\.text_projection$", "backbone.clip.text_projection.weight"),
    (rf"^{HEAD}clip_model\.token_embedding\.", "backbone.clip.text_model.embeddings.token_embedding."),
    (rf"^{HEAD}clip_model\.positional_embedding$", "backbone.clip.text_model.embeddings.position_embedding.weight"),
    (rf"^{HEAD}clip_model\.ln_final\.", "backbone.clip.text_model.final_layer_norm."),
    (rf"^{HEAD}clip_model\.logit_scale$", "backbone.clip.logit_scale"),
    (r"\.attn\.([qkv])_proj_weight$", r".self_attn.\1_proj.weight"),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"^(backbone.*)\.ln_([12])\.", r"\1.layer_norm\2."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (rf"^{HEAD}transformer\.conv1\.", "cost.embed."),
    (rf"^{HEAD}transformer\.guidance_projection\.0\.", "refine.visual."),
    (rf"^{HEAD}transformer\.text_guidance_projection\.0\.", "refine.text."),
    (rf"^{HEAD}transformer\.layers\.(\d+)\.swin_block\.guidance_norm\.", r"refine.levels.\1.pixel.guidance_norm."),
    (rf"^{HEAD}transformer\.layers\.(\d+)\.swin_block\.block_1\.", r"refine.levels.\1.pixel.plain."),
    (rf"^{HEAD}transformer\.layers\.(\d+)\.swin_block\.block_2\.", r"refine.levels.\1.pixel.shifted."),
    (rf"^{HEAD}transformer\.layers\.(\d+)\.attention\.", r"refine.levels.\1.category.attention."),
    (r"^(refine.*)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"^(refine.*)\.mlp\.fc2\.", r"\1.mlp.2."),
    (r"^(refine.*)\.MLP\.", r"\1.mlp."),
    (r"^(refine.*)\.attention\.attention\.", r"\1.attention."),
    (r"^(refine.*?)(?:\.attn)?\.q\.", r"\1.query."),
    (r"^(refine.*?)(?:\.attn)?\.k\.", r"\1.key."),
    (r"^(refine.*?)(?:\.attn)?\.v\.", r"\1.value."),
    (r"^(refine.*)\.attn\.proj\.", r"\1.project."),
    (r"^(refine.*)\.padding_tokens$", r"\1.padding_token"),
    (rf"^{HEAD}transformer\.decoder_guidance_projection\.0\.0\.", "decode.guidance1."),
    (rf"^{HEAD}transformer\.decoder_guidance_projection\.1\.0\.", "decode.guidance2."),
    (rf"^{HEAD}transformer\.decoder([12])\.up\.", r"decode.step\1.up."),
    (rf"^{HEAD}transformer\.decoder([12])\.conv\.double_conv\.0\.", r"decode.step\1.conv1."),
    (rf"^{HEAD}transformer\.decoder([12])\.conv\.double_conv\.1\.", r"decode.step\1.norm1."),
    (rf"^{HEAD}transformer\.decoder([12])\.conv\.double_conv\.3\.", r"decode.step\1.conv2."),
    (rf"^{HEAD}transformer\.decoder([12])\.conv\.double_conv\.4\.", r"decode.step\1.norm2."),
    (rf"^{HEAD}transformer\.head\.", "decode.head."),
    (r"^upsample([12])\.", r"decode.upsample\1."),
)


def from_catseg(official: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the official weights under our names; `expected` is the state dict of a baseline `Disa`.

    Raises `DisaError` that names every missing, left-over or misshaped tensor.
    """
    ours: dict[str, Tensor] = {}
    for name, value in official.items():
        if name.endswith(".attn_mask"):
            continue  # computed from the grid here
        ours |= _rename(name, value)
    faults = [f"missing {name}" for name in expected if name not in ours]
    faults += [f"left over {name}" for name in ours if name not in expected]
    faults += [
        f"{name} has shape {tuple(ours[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in ours and ours[name].shape != value.shape
    ]
    if faults:
        raise DisaError(f"not the CAT-Seg checkpoint of this configuration: {'; '.join(faults)}")
    return {name: value.to(torch.float32) for name, value in ours.items()}


def _rename(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return one official tensor as one of ours, or as three for the fused bias of query, key and value."""
    renamed = name
    for pattern, replacement in RULES:
        renamed = re.sub(pattern, replacement, renamed)
    if renamed.endswith(".attn.in_proj_bias"):
        stem = renamed.removesuffix(".attn.in_proj_bias")
        return {f"{stem}.self_attn.{part}_proj.bias": bias for part, bias in zip("qkv", value.chunk(3), strict=True)}
    if renamed.endswith(("visual_projection.weight", "text_projection.weight")):
        return {renamed: value.t().contiguous()}  # the official ones multiply from the right
    if renamed.endswith((".padding_token", ".padding_guidance")):
        return {renamed: value.flatten()}
    return {renamed: value}
