"""CLIP's two towers, built on transformers' modules."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from disa.config import ModelConfig
from disa.model.backbone import Backbone, Visual, log_share, resize_positions

# CLIP's own mean and deviation of RGB in 0..255 (baseline quirk 1).
PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.323163)


class ClipBackbone(Backbone):
    """CLIP of any size.

    For dense tokens the last image block is reduced to its value path, without attention [B]:
    `v = W_o W_v LN(x) + class token`, then `v + MLP(LN(v))`.
    """

    pixel_mean = PIXEL_MEAN
    pixel_std = PIXEL_STD

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, CLIPModel(CLIPConfig(**config.backbone_clip)))

    @property
    def embedding_width(self) -> int:
        """`d`, the width that images and text share."""
        return self.clip.config.projection_dim

    @property
    def attention_maps(self) -> int:
        """One for each head of each image block."""
        vision = self.clip.vision_model.config
        return vision.num_hidden_layers * vision.num_attention_heads

    @property
    def whole_blocks(self) -> nn.ModuleList:
        """All image blocks but the last, which goes through `dense`."""
        return self.clip.vision_model.encoder.layers[:-1]

    def forward(self, pixels: Float[Tensor, "b 3 H W"]) -> Visual:
        """Return dense tokens, two earlier maps, and what the class token attends to."""
        rows = pixels.shape[-2] // self.patch_size
        tokens = self.embed(pixels)  # b m v, with m = 1 + n

        # The taps are whole blocks' outputs, without a norm (baseline quirk 10).
        taps = {}
        attention = []
        for index, block in enumerate(self.whole_blocks):
            if self.returns_attention:
                attention.append(class_attention(block, tokens.detach()))
            tokens = self.run_block(block, tokens)
            if index in self.guidance_blocks:
                # The class token, the first one, has no place on the grid.
                taps[index] = rearrange(tokens[:, 1:], "b (h w) v -> b v h w", h=rows)

        dense = rearrange(self.dense(tokens), "b (h w) d -> b d h w", h=rows)
        visual = Visual(dense, taps[self.guidance_blocks[0]], taps[self.guidance_blocks[1]])
        if not self.returns_attention:
            return visual
        last = self.clip.vision_model.encoder.layers[-1]
        attention.append(class_attention(last, tokens.detach()))
        heads = rearrange(torch.cat(attention, 1), "b a (h w) -> b a h w", h=rows)
        return visual._replace(attention=heads)

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return the L2-normalised embedding of each row of token ids.

        It is read at the end-of-text token (baseline quirk 13).
        """
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        pooled = self.clip.text_model(input_ids=ids, position_ids=positions).pooler_output
        return F.normalize(self.clip.text_projection(pooled), dim=-1)

    def idle(self) -> tuple[str, ...]:
        """Name the logit scale, and queries and keys of the last image block.

        That block takes the value path, so they never reach the output.
        """
        last = len(self.clip.vision_model.encoder.layers) - 1
        return (
            "clip.logit_scale",
            f"clip.vision_model.encoder.layers.{last}.self_attn.q_proj.",
            f"clip.vision_model.encoder.layers.{last}.self_attn.k_proj.",
        )

    def embed(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b m v"]:
        """Return what enters the first block: the class token, then a token per patch.

        Raises `DisaError` if a side is not a multiple of the patch.
        """
        grid = self.grid(pixels)
        patches = self.embed_patches(pixels)
        embeddings = self.clip.vision_model.embeddings
        class_token = embeddings.class_embedding.expand(patches.shape[0], 1, -1)
        tokens = torch.cat([class_token, patches], 1)

        # CLIP knows the positions of one grid; another grid gets interpolated ones.
        positions = resize_positions(embeddings.position_embedding.weight, grid, before=1)
        return self.clip.vision_model.pre_layrnorm(tokens + positions)

    def dense(self, tokens: Float[Tensor, "b m v"]) -> Float[Tensor, "b n d"]:
        """Return dense features of what enters the last block, the class token first.

        They are projected into the space of the text, and not normalised (baseline quirk 9).
        """
        vision = self.clip.vision_model
        values = value_path(vision.encoder.layers[-1], tokens)
        return self.clip.visual_projection(vision.post_layernorm(values))


def value_path(block: CLIPEncoderLayer, tokens: Float[Tensor, "b m v"]) -> Float[Tensor, "b n v"]:
    """Return the last block's patch tokens with the identity as attention map.

    Every token reads its own value only. The residual is the class token, added to every token, not
    the token itself (baseline quirk 8).
    """
    attention = block.self_attn
    patches = block.layer_norm1(tokens[:, 1:])
    class_token = tokens[:, :1]
    value = attention.out_proj(attention.v_proj(patches)) + class_token
    return value + block.mlp(block.layer_norm2(value))


def class_attention(
    block: CLIPEncoderLayer, tokens: Float[Tensor, "b m v"]
) -> Float[Tensor, "b a n"]:
    """Return how much the class token attends to each patch (`log_share`)."""
    attention = block.self_attn
    normed = block.layer_norm1(tokens)
    heads = attention.num_heads
    query = rearrange(attention.q_proj(normed[:, :1]), "b m (a e) -> b a m e", a=heads)
    key = rearrange(attention.k_proj(normed), "b m (a e) -> b a m e", a=heads)
    score = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # b a 1 m
    return log_share(score.softmax(-1)[:, :, 0, 1:])
