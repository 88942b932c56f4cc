"""A small CAT-Seg with random weights under its official names, written without disa."""

import clip_formats as formats
import torch
from torch import Tensor

CHANNELS, GUIDANCE, LEVELS = 16, 8, 2
DECODED, SOURCES, GUIDES = (16, 16), (12, 10), (4, 4)
PREDICTOR = "sem_seg_head.predictor."


def official_state(seed: int = 0, **clip: int) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint.

    Frozen values are 16 bit, as they are in the published ones.

    `clip` goes to `clip_formats.small_clip`.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    state: dict[str, Tensor] = {}

    def layer(name: str, *shape: int, bias: int | None = None) -> None:
        state[f"{name}.weight"] = noise(*shape)
        state[f"{name}.bias"] = noise(shape[0] if bias is None else bias)

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + noise(width), noise(width)

    for name, value in formats.openai_state(formats.small_clip(**clip)).items():
        stem = f"{PREDICTOR}clip_model."
        if name.endswith("in_proj_weight"):
            for part, weight in zip("qkv", value.chunk(3), strict=True):
                state[stem + name.replace("in_proj_weight", f"{part}_proj_weight")] = weight
        else:
            state[stem + name] = value.half()
    head = f"{PREDICTOR}transformer."
    c, g = CHANNELS, GUIDANCE
    layer(f"{head}conv1", c, 1, 7, 7)
    layer(f"{head}guidance_projection.0", g, formats.PROJECTION, 3, 3)
    layer(f"{head}text_guidance_projection.0", g, formats.PROJECTION)
    for level in range(LEVELS):
        swin, category = f"{head}layers.{level}.swin_block.", f"{head}layers.{level}.attention."
        norm(f"{swin}guidance_norm", g)
        for block in ("block_1", "block_2"):
            norm(f"{swin}{block}.norm1", c)
            norm(f"{swin}{block}.norm2", c)
            layer(f"{swin}{block}.attn.q", c, c + g)
            layer(f"{swin}{block}.attn.k", c, c + g)
            layer(f"{swin}{block}.attn.v", c, c)
            layer(f"{swin}{block}.attn.proj", c, c)
            layer(f"{swin}{block}.mlp.fc1", 4 * c, c)
            layer(f"{swin}{block}.mlp.fc2", c, 4 * c)
        state[f"{swin}block_2.attn_mask"] = torch.zeros(4, 144, 144)
        state[f"{category}padding_tokens"] = noise(1, 1, c)
        state[f"{category}padding_guidance"] = noise(1, 1, g)
        layer(f"{category}attention.q", c, c + g)
        layer(f"{category}attention.k", c, c + g)
        layer(f"{category}attention.v", c, c)
        norm(f"{category}norm1", c)
        norm(f"{category}norm2", c)
        layer(f"{category}MLP.0", 4 * c, c)
        layer(f"{category}MLP.2", c, 4 * c)
    previous = c
    for step, (out, source, guide) in enumerate(
        zip(DECODED, SOURCES, GUIDES, strict=True), start=1
    ):
        layer(f"{head}decoder_guidance_projection.{step - 1}.0", guide, source, 3, 3)
        layer(f"{head}decoder{step}.up", previous, previous - guide, 2, 2, bias=previous - guide)
        state[f"{head}decoder{step}.conv.double_conv.0.weight"] = noise(out, previous, 3, 3)
        norm(f"{head}decoder{step}.conv.double_conv.1", out)
        state[f"{head}decoder{step}.conv.double_conv.3.weight"] = noise(out, out, 3, 3)
        norm(f"{head}decoder{step}.conv.double_conv.4", out)
        previous = out
        kernel = 2**step
        layer(f"upsample{step}", formats.WIDTH, source, kernel, kernel, bias=source)
    layer(f"{head}head", 1, previous, 3, 3)
    return state
