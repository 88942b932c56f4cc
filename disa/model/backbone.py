"""CLIP's two towers, built on transformers' modules."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from disa.config import Finetune, ModelConfig
from disa.errors import DisaError
from disa.model.attention import attend

# CLIP's own mean and deviation of RGB in 0..255 (baseline quirk 1).
PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.323163)
LEAST_ATTENTION = 1e-4  # in multiples of the average; its logarithm stays finite


class Visual(NamedTuple):
    """What the image tower gives to the head."""

    tokens: Float[Tensor, "b d h w"]  # dense CLIP features, not normalised
    first: Float[Tensor, "b v h w"]  # output of block guidance_blocks[0], class token dropped
    second: Float[Tensor, "b v h w"]  # output of block guidance_blocks[1], class token dropped
    # What the class token attends to, of `a` heads in all blocks together (`class_attention`);
    # None unless the head asks for it.
    attention: Float[Tensor, "b a h w"] | None = None


class Backbone(nn.Module):
    """CLIP of any size, whose image tower gives one embedding per patch instead of one per image.

    To this end the last image block is reduced to its value path, without attention [B]:
    `v = W_o W_v LN(x) + class token`, then `v + MLP(LN(v))`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.clip = CLIPModel(CLIPConfig(**config.backbone_clip))
        self.guidance_blocks = config.backbone_guidance_blocks
        self.returns_attention = config.things
        depth = len(self.clip.vision_model.encoder.layers)
        if not 0 <= min(self.guidance_blocks) <= max(self.guidance_blocks) < depth - 1:
            raise DisaError(
                f"backbone_guidance_blocks {self.guidance_blocks}: choose two blocks from 0 to "
                f"{depth - 2}; the last of {depth} gives the dense tokens"
            )
        if config.backbone_image_size % self.patch_size:
            raise DisaError(
                f"backbone_image_size {config.backbone_image_size}: must be a multiple of CLIP's "
                f"patch, {self.patch_size}; choose the recipe for this CLIP, or another size"
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

    def forward(self, pixels: Float[Tensor, "b 3 H W"]) -> Visual:
        """Return dense tokens and two earlier maps of RGB pixels in 0..255.

        Raises `DisaError` if `H` or `W` is not a multiple of the patch.
        """
        rows = pixels.shape[-2] // self.patch_size
        tokens = self.embed(pixels)  # b m v, with m = 1 + n

        # The taps are whole blocks' outputs, without a norm (baseline quirk 10).
        taps = {}
        attention = []
        blocks = self.clip.vision_model.encoder.layers
        for index, block in enumerate(blocks[:-1]):
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
        attention.append(class_attention(blocks[-1], tokens.detach()))
        heads = rearrange(torch.cat(attention, 1), "b a (h w) -> b a h w", h=rows)
        return visual._replace(attention=heads)

    def run_block(
        self, block: CLIPEncoderLayer, tokens: Float[Tensor, "b m v"]
    ) -> Float[Tensor, "b m v"]:
        """Return the output of one image block; the last one goes through `dense`.

        The attention is ours, because it trains faster than transformers' on a CPU.
        """
        attention = block.self_attn
        heads = attention.num_heads
        normed = block.layer_norm1(tokens)
        query = rearrange(attention.q_proj(normed), "b m (a e) -> b a m e", a=heads)
        key = rearrange(attention.k_proj(normed), "b m (a e) -> b a m e", a=heads)
        value = rearrange(attention.v_proj(normed), "b m (a e) -> b a m e", a=heads)

        mixed = rearrange(attend(query, key, value), "b a m e -> b m (a e)")
        tokens = tokens + attention.out_proj(mixed)
        return tokens + block.mlp(block.layer_norm2(tokens))

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return the L2-normalised embedding of each row of token ids.

        It is read at the end-of-text token (baseline quirk 13).
        """
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        pooled = self.clip.text_model(input_ids=ids, position_ids=positions).pooler_output
        return F.normalize(self.clip.text_projection(pooled), dim=-1)

    def normalise(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """Return RGB in 0..255 as CLIP wants it: (x - mean) / std per channel."""
        mean = pixels.new_tensor(PIXEL_MEAN)[:, None, None]
        std = pixels.new_tensor(PIXEL_STD)[:, None, None]
        return (pixels - mean) / std

    def embed(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b m v"]:
        """Return what enters the first block: the class token, then a token per patch.

        Raises `DisaError` if a side is not a multiple of the patch.
        """
        height, width = pixels.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch:
            raise DisaError(
                f"image of {width} x {height} pixels: both sides must be multiples of the patch, "
                f"{patch}"
            )

        # A convolution with the patch as its kernel and stride: one token per patch.
        embeddings = self.clip.vision_model.embeddings
        patches = embeddings.patch_embedding(self.normalise(pixels))
        patches = rearrange(patches, "b v h w -> b (h w) v")
        class_token = embeddings.class_embedding.expand(patches.shape[0], 1, -1)
        tokens = torch.cat([class_token, patches], 1)

        # CLIP knows the positions of one grid; another grid gets interpolated ones.
        grid = (height // patch, width // patch)
        positions = resize_positions(embeddings.position_embedding.weight, grid)
        return self.clip.vision_model.pre_layrnorm(tokens + positions)

    def dense(self, tokens: Float[Tensor, "b m v"]) -> Float[Tensor, "b n d"]:
        """Return dense features of what enters the last block, the class token first.

        They are projected into the space of the text, and not normalised (baseline quirk 9).
        """
        vision = self.clip.vision_model
        values = value_path(vision.encoder.layers[-1], tokens)
        return self.clip.visual_projection(vision.post_layernorm(values))

    def restore_buffers(self) -> None:
        """Give real values to the buffers that no weights file holds.

        A network that is built on the meta device needs them after its weights are loaded.
        """
        for embeddings in (self.clip.vision_model.embeddings, self.clip.text_model.embeddings):
            count = embeddings.position_embedding.num_embeddings
            device = embeddings.position_embedding.weight.device
            embeddings.position_ids = torch.arange(count, device=device)[None]


def resize_positions(
    positions: Float[Tensor, "m v"], grid: tuple[int, int]
) -> Float[Tensor, "n v"]:
    """Return the position embeddings of another grid, class token first.

    They are resized bicubically, without antialiasing, and the class token's stays as it is
    (baseline quirk 7).
    """
    # CLIP's own grid is a square; rounding undoes the square root's error.
    side = int((len(positions) - 1) ** 0.5 + 0.5)
    # An export leaves the grid free; resizing to the same one changes nothing.
    if not torch.compiler.is_exporting() and grid == (side, side):
        return positions

    native = rearrange(positions[1:], "(h w) v -> 1 v h w", h=side)
    resized = F.interpolate(native, grid, mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], rearrange(resized, "1 v h w -> (h w) v")])


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


def trainable_names(backbone: Backbone, mode: Finetune) -> list[str]:
    """Return the parameters that `mode` trains, in both towers; biases only in `full`."""
    # The queries and keys of the last image block never reach the output, which takes the value
    # path, nor does the logit scale: no mode trains them (decision D19).
    names = [name for name, _ in backbone.named_parameters()]
    last = len(backbone.clip.vision_model.encoder.layers) - 1
    unused = (
        "clip.logit_scale",
        f"clip.vision_model.encoder.layers.{last}.self_attn.q_proj.",
        f"clip.vision_model.encoder.layers.{last}.self_attn.k_proj.",
    )
    used = [name for name in names if not name.startswith(unused)]
    if mode == "full":
        return used
    if mode == "frozen":
        return []

    # The mode is spelled by the letters of the projections that it trains.
    endings = tuple(f".self_attn.{letter}_proj.weight" for letter in mode)
    return [name for name in used if name.endswith(endings)]


def set_finetune(backbone: Backbone, mode: Finetune) -> None:
    """Let exactly `trainable_names` of the backbone receive gradients."""
    trained = set(trainable_names(backbone, mode))
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)


def class_attention(
    block: CLIPEncoderLayer, tokens: Float[Tensor, "b m v"]
) -> Float[Tensor, "b a n"]:
    """Return how much the class token attends to each patch: log of multiples of the average."""
    attention = block.self_attn
    normed = block.layer_norm1(tokens)
    heads = attention.num_heads
    query = rearrange(attention.q_proj(normed[:, :1]), "b m (a e) -> b a m e", a=heads)
    key = rearrange(attention.k_proj(normed), "b m (a e) -> b a m e", a=heads)
    score = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # b a 1 m
    share = score.softmax(-1)[:, :, 0, 1:]
    return (share * share.shape[-1]).clamp_min(LEAST_ATTENTION).log()
