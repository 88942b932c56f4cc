"""What the network computes on its way, under the names that the baseline's published code gave it (golden.py).

`model, pixels 1 3 H W, text t p d -> tensors by stage, without the image's axis`
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.model.backbone import Backbone, resize_positions, run_block, value_path
from disa.model.disa import Disa
from disa.model.refine import CategoryRefine


def image_stages(backbone: Backbone, pixels: Float[Tensor, "1 3 H W"]) -> dict[str, Tensor]:
    """Return the image tower's stages of one picture, the class token first."""
    vision, patch = backbone.clip.vision_model, backbone.patch_size
    *blocks, last = vision.encoder.layers
    tokens = backbone.embed(pixels)
    grid = pixels.shape[-2] // patch, pixels.shape[-1] // patch
    seen = {
        "clip_input": backbone.normalise(pixels)[0],
        "vis.pos_embed_resized": resize_positions(
            vision.embeddings.position_embedding.weight, grid
        ),
        "vis.ln_pre": tokens[0],
    }
    for index, block in enumerate(blocks):
        tokens = run_block(block, tokens)
        seen[f"vis.block{index}"] = tokens[0]
    everyone = torch.cat(
        [tokens[:, :1], tokens], 1
    )  # the class token once as residual, once among the values
    seen[f"vis.block{len(blocks)}_dense"] = value_path(last, everyone)[0]
    return seen | {"vis.dense_features": backbone.dense(everyone)[0]}


def text_stages(backbone: Backbone, ids: Int[Tensor, "t l"]) -> dict[str, Tensor]:
    """Return the text tower's stages; of its first block those of the first four texts."""
    clip, first = backbone.clip, []
    handle = clip.text_model.encoder.layers[0].register_forward_hook(
        lambda _module, _inputs, out: first.append(out)
    )
    pooled = clip.text_model(
        input_ids=ids, position_ids=torch.arange(ids.shape[1])[None]
    ).pooler_output
    handle.remove()
    return {
        "text.block0": first[0][:4],
        "text.encode_text": clip.text_projection(pooled),
        "text.embeds_normalized": backbone.encode_text(ids),
    }


def head_stages(
    model: Disa, pixels: Float[Tensor, "1 3 H W"], text: Float[Tensor, "t p d"], pool: int
) -> dict[str, Tensor]:
    """Return the stages of aggregator and decoder of one picture, by hooks; `pool` as in the published evaluation."""
    places: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
        "agg.corr_embed": ("cost", _first),
        "agg.guidance_proj": ("refine.visual", _first_positive),
        "agg.text_guidance_proj": ("refine.text", _first_positive),
        "seg.res4": ("decode.upsample1", _first),
        "seg.res5": ("decode.upsample2", _first),
        "agg.decoder_guidance_proj0": ("decode.guidance1", _first_positive),
        "agg.decoder_guidance_proj1": ("decode.guidance2", _first_positive),
    }
    parts = {"swin1": ".pixel.plain", "swin2": ".pixel.shifted", "out": ""}
    for index in range(len(model.refine.levels)):
        for name, place in parts.items():
            places[f"agg.layer{index}.{name}"] = (f"refine.levels.{index}{place}", _channels_first)
    places |= {"dec.decoder1": ("decode.step1", _first), "dec.decoder2": ("decode.step2", _first)}
    seen: dict[str, Tensor] = dict.fromkeys(places, torch.empty(0))  # in this order
    handles = []
    for stage, (place, form) in places.items():

        def record(
            _module: nn.Module, _inputs: Any, out: Tensor, stage: str = stage, form: Any = form
        ) -> None:
            seen[stage] = form(out)

        handles.append(model.get_submodule(place).register_forward_hook(record))
    refined = [cast(CategoryRefine, level.category) for level in model.refine.levels]
    usual = [category.pool_test for category in refined]
    try:
        for category in refined:
            category.pool_test = pool
        return seen | {"logits": model(pixels, text).logits[0]}
    finally:
        for category, own in zip(refined, usual, strict=True):
            category.pool_test = own
        for handle in handles:
            handle.remove()


def _first(out: Tensor) -> Tensor:
    return out[0]


def _first_positive(out: Tensor) -> Tensor:
    return out[0].relu()


def _channels_first(out: Float[Tensor, "1 t h w c"]) -> Float[Tensor, "t c h w"]:
    return rearrange(out, "1 t h w c -> t c h w")
