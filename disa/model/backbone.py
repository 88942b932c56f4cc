"""CLIP's two towers, built on transformers' modules: pixels -> `Visual`, token ids -> text embeddings.

`b 3 H W -> tokens b d h w, first b v h w, second b v h w` and `m l -> m d`
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.attention import attend
from disa.model.recompute import recomputed

PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)  # CLIP's own, in 0..255 RGB
PIXEL_STD = (68.5005327, 66.6321579, 70.323163)

Finetune = Literal["frozen", "qk", "qv", "full"]


class Visual(NamedTuple):
    """What the image tower gives to the head."""

    tokens: Float[Tensor, "b d h w"]  # dense CLIP features, not normalised
    first: Float[Tensor, "b v h w"]  # output of block guidance_blocks[0], class token dropped
    second: Float[Tensor, "b v h w"]  # output of block guidance_blocks[1], class token dropped


class Backbone(nn.Module):
    """CLIP of any size, with the last image block taken through its value path only. Baseline quirks 1, 6-10, 13."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.clip = CLIPModel(CLIPConfig(**config.backbone_clip))
        self.guidance_blocks = config.backbone_guidance_blocks
        depth = len(self.clip.vision_model.encoder.layers)
        if not 0 <= min(self.guidance_blocks) <= max(self.guidance_blocks) < depth - 1:
            raise DisaError(
                f"backbone_guidance_blocks {self.guidance_blocks}: choose two blocks from 0 to {depth - 2}, "
                f"the last of {depth} gives the dense tokens"
            )
        if config.backbone_image_size % self.patch_size:
            raise DisaError(
                f"backbone_image_size {config.backbone_image_size}: must be a multiple of CLIP's patch, "
                f"{self.patch_size}; choose the recipe that goes with this CLIP, or another size"
            )
        set_finetune(self, config.backbone_finetune)

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch."""
        return self.clip.vision_model.config.patch_size

    @property
    def embedding_width(self) -> int:
        """`d`, the width that images and text share."""
        return self.clip.config.projection_dim

    @property
    def vision_width(self) -> int:
        """`v`, the width of the image tower's blocks."""
        return self.clip.vision_model.config.hidden_size

    def normalise(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """Return 0..255 RGB as CLIP wants it."""
        mean, std = pixels.new_tensor(PIXEL_MEAN), pixels.new_tensor(PIXEL_STD)
        return (pixels - mean[:, None, None]) / std[:, None, None]

    def forward(self, pixels: Float[Tensor, "b 3 H W"], recompute: bool = False) -> Visual:
        """Return dense tokens and two earlier maps of 0..255 RGB pixels.

        `H` and `W` are multiples of the patch, otherwise `DisaError`. Baseline [B].
        """
        tokens, rows, taps = self.embed(pixels), pixels.shape[-2] // self.patch_size, {}
        for index, block in enumerate(self.clip.vision_model.encoder.layers[:-1]):
            tokens = recomputed(recompute, run_block, block, tokens)
            if index in self.guidance_blocks:
                taps[index] = rearrange(tokens[:, 1:], "b (h w) v -> b v h w", h=rows)
        return Visual(
            rearrange(self.dense(tokens), "b (h w) d -> b d h w", h=rows),
            taps[self.guidance_blocks[0]],
            taps[self.guidance_blocks[1]],
        )

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return the L2-normalised embedding of each row of token ids, read at the end-of-text token [B]."""
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        pooled = self.clip.text_model(input_ids=ids, position_ids=positions).pooler_output
        return F.normalize(self.clip.text_projection(pooled), dim=-1)

    def restore_buffers(self) -> None:
        """Give real values to the buffers that no weights file holds, after loading onto a meta-device model."""
        for embeddings in (self.clip.vision_model.embeddings, self.clip.text_model.embeddings):
            count = embeddings.position_embedding.num_embeddings
            device = embeddings.position_embedding.weight.device
            embeddings.position_ids = torch.arange(count, device=device)[None]

    def embed(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b m v"]:
        """Return what enters the first block: the class token and a token per patch. Baseline quirks 1, 6, 7."""
        height, width = pixels.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch:
            raise DisaError(
                f"image of {width} x {height} pixels: both sides must be multiples of the patch, {patch}"
            )
        embeddings = self.clip.vision_model.embeddings
        patches = rearrange(
            embeddings.patch_embedding(self.normalise(pixels)), "b v h w -> b (h w) v"
        )
        tokens = torch.cat([embeddings.class_embedding.expand(len(patches), 1, -1), patches], 1)
        positions = resize_positions(
            embeddings.position_embedding.weight, (height // patch, width // patch)
        )
        return self.clip.vision_model.pre_layrnorm(tokens + positions)

    def dense(self, tokens: Float[Tensor, "b m v"]) -> Float[Tensor, "b n d"]:
        """Return dense features, not normalised, of what enters the last block (class token first): quirks 8 and 9."""
        vision = self.clip.vision_model
        return self.clip.visual_projection(
            vision.post_layernorm(value_path(vision.encoder.layers[-1], tokens))
        )


def resize_positions(
    positions: Float[Tensor, "m v"], grid: tuple[int, int]
) -> Float[Tensor, "n v"]:
    """Return the position embeddings of another grid: bicubic, the class token's kept. Baseline quirk 7."""
    side = int((len(positions) - 1) ** 0.5 + 0.5)
    if grid == (side, side):
        return positions
    native = rearrange(positions[1:], "(h w) v -> 1 v h w", h=side)
    resized = F.interpolate(native, grid, mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], rearrange(resized, "1 v h w -> (h w) v")])


def run_block(block: CLIPEncoderLayer, tokens: Float[Tensor, "b m v"]) -> Float[Tensor, "b m v"]:
    """Return the output of one of transformers' image blocks, with our attention, which trains faster on a CPU."""
    attention, normed = block.self_attn, block.layer_norm1(tokens)
    query, key, value = (
        rearrange(layer(normed), "b m (a e) -> b a m e", a=attention.num_heads)
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    tokens = tokens + attention.out_proj(
        rearrange(attend(query, key, value), "b a m e -> b m (a e)")
    )
    return tokens + block.mlp(block.layer_norm2(tokens))


def value_path(block: CLIPEncoderLayer, tokens: Float[Tensor, "b m v"]) -> Float[Tensor, "b n v"]:
    """Return the last block's patch tokens with the identity as attention map. Baseline quirk 8.

    The residual is the class token, added to every token, not the token itself.
    """
    attention = block.self_attn
    value = attention.out_proj(attention.v_proj(block.layer_norm1(tokens[:, 1:]))) + tokens[:, :1]
    return value + block.mlp(block.layer_norm2(value))


def trainable_names(backbone: Backbone, mode: Finetune) -> list[str]:
    """Return the backbone's parameters that `mode` trains, in both towers; biases only in `full`.

    The last image block's queries and keys never reach the output (value path), nor does the logit scale: they are
    in no list (decision D19).
    """
    names = [name for name, _ in backbone.named_parameters()]
    depth = len(backbone.clip.vision_model.encoder.layers)
    unused = [
        f"clip.vision_model.encoder.layers.{depth - 1}.self_attn.{part}_proj." for part in "qk"
    ]
    used = [
        name for name in names if name != "clip.logit_scale" and not name.startswith(tuple(unused))
    ]
    if mode == "full":
        return used
    parts = {"frozen": "", "qk": "qk", "qv": "qv"}[mode]
    return [
        name
        for name in used
        if name.endswith(tuple(f".self_attn.{part}_proj.weight" for part in parts))
    ]


def set_finetune(backbone: Backbone, mode: Finetune) -> None:
    """Let exactly `trainable_names` of the backbone receive gradients."""
    trained = set(trainable_names(backbone, mode))
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)
