"""What the network computes on its way, under the names that the published code gave it.

Every tensor is that of one picture, without the picture's axis.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.model import few
from disa.model.backbone import resize_positions
from disa.model.clip import ClipBackbone, value_path
from disa.model.disa import Disa


def image_stages(backbone: ClipBackbone, pixels: Float[Tensor, "1 3 H W"]) -> dict[str, Tensor]:
    """Return the image tower's stages, the class token first."""
    vision = backbone.clip.vision_model
    *blocks, last = vision.encoder.layers
    grid = pixels.shape[-2] // backbone.patch_size, pixels.shape[-1] // backbone.patch_size
    positions = vision.embeddings.position_embedding.weight
    tokens = backbone.embed(pixels)  # 1 n w
    stages = {
        "clip_input": backbone.normalise(pixels)[0],
        "vis.pos_embed_resized": resize_positions(positions, grid, before=1),
        "vis.ln_pre": tokens[0],
    }
    for index, block in enumerate(blocks):
        tokens = backbone.run_block(block, tokens)
        stages[f"vis.block{index}"] = tokens[0]

    # the class token twice: the first is the residual, the second one of the values
    tokens = torch.cat([tokens[:, :1], tokens], 1)
    stages[f"vis.block{len(blocks)}_dense"] = value_path(last, tokens)[0]
    stages["vis.dense_features"] = backbone.dense(tokens)[0]
    return stages


def text_stages(backbone: ClipBackbone, ids: Int[Tensor, "t l"]) -> dict[str, Tensor]:
    """Return the text tower's stages; of its first block only those of the first four texts."""
    clip = backbone.clip
    outputs: dict[str, Tensor] = {}
    with record(outputs, {"block": (clip.text_model.encoder.layers[0], as_it_is)}):
        positions = torch.arange(ids.shape[1])[None]
        pooled = clip.text_model(input_ids=ids, position_ids=positions).pooler_output
    return {
        "text.block0": outputs["block"][:4],
        "text.encode_text": clip.text_projection(pooled),
        "text.embeds_normalized": backbone.encode_text(ids),
    }


def head_stages(
    model: Disa, pixels: Float[Tensor, "1 3 H W"], text: Float[Tensor, "t p d"], pool: int
) -> dict[str, Tensor]:
    """Return the stages of aggregator and decoder, with this pooling in the attention of labels."""
    places: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
        "agg.corr_embed": ("cost", first),
        "agg.guidance_proj": ("refine.visual", first_positive),
        "agg.text_guidance_proj": ("refine.text", first_positive),
        "seg.res4": ("decode.upsample1", first),
        "seg.res5": ("decode.upsample2", first),
        "agg.decoder_guidance_proj0": ("decode.guidance1", first_positive),
        "agg.decoder_guidance_proj1": ("decode.guidance2", first_positive),
    }
    parts = {"swin1": ".pixel.plain", "swin2": ".pixel.shifted", "out": ""}
    for index in range(len(model.refine.levels)):
        for name, part in parts.items():
            places[f"agg.layer{index}.{name}"] = (f"refine.levels.{index}{part}", channels_first)
    places["dec.decoder1"] = ("decode.step1", first)
    places["dec.decoder2"] = ("decode.step2", first)

    # in the order of the table, not in that in which the network calls its parts
    stages: dict[str, Tensor] = dict.fromkeys(places, torch.empty(0))
    modules = {name: (model.get_submodule(place), form) for name, (place, form) in places.items()}
    levels: Any = model.refine.levels
    usual = [level.category.pool_test for level in levels]
    cache = few.CACHE
    try:
        few.CACHE = 10**12  # all labels together: a stage is one tensor
        for level in levels:
            level.category.pool_test = pool
        with record(stages, modules):
            stages["logits"] = model(pixels, text).logits[0]
    finally:
        few.CACHE = cache
        for level, own in zip(levels, usual, strict=True):
            level.category.pool_test = own
    return stages


@contextmanager
def record(
    outputs: dict[str, Tensor],
    modules: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]],
) -> Iterator[None]:
    """Put what each module returns into `outputs` under its name, in the form that is given."""

    def keep(name: str, form: Callable[[Tensor], Tensor], *call: Any) -> None:
        outputs[name] = form(call[-1])  # a hook is called with the module, its inputs, its output

    handles = [
        module.register_forward_hook(partial(keep, name, form))
        for name, (module, form) in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def as_it_is(output: Tensor) -> Tensor:
    """Return the output."""
    return output


def first(output: Tensor) -> Tensor:
    """Return the only picture's output."""
    return output[0]


def first_positive(output: Tensor) -> Tensor:
    """Return it after the ReLU, which belongs to the same module of the published code."""
    return output[0].relu()


def channels_first(output: Float[Tensor, "1 t h w c"]) -> Float[Tensor, "t c h w"]:
    """Return it in the published code's order of axes."""
    return rearrange(output, "1 t h w c -> t c h w")
