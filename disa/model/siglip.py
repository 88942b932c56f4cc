"""SigLIP 2 in place of CLIP, built on transformers' modules of the first SigLIP.

All checkpoints of a fixed resolution are built so. SigLIP has no class token: a probe of its own
looks at the tokens behind the last block, and its MLP leads into the space of the text.
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import SiglipConfig, SiglipModel
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

from disa.config import ModelConfig
from disa.model.backbone import Backbone, Visual, log_share, resize_positions

HALF = 127.5  # mean and deviation of RGB in 0..255: pixels from -1 to 1


class SiglipBackbone(Backbone):
    """SigLIP 2 of any size.

    All image blocks run whole. For dense tokens it is the pooling head that is reduced to its value
    path, `v = W_o W_v x`, then `v + MLP(LN(v))`: what an image would be to the probe if it looked
    at this token alone (decision D161).
    """

    pixel_mean = (HALF, HALF, HALF)
    pixel_std = (HALF, HALF, HALF)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, SiglipModel(SiglipConfig(**config.backbone_clip)))

    @property
    def embedding_width(self) -> int:
        """`d`, the width that images and text share: the image tower's own."""
        return self.vision_width

    @property
    def attention_maps(self) -> int:
        """One for each head of the pooling head, the only place where the probe looks."""
        return self.clip.vision_model.head.attention.num_heads

    @property
    def whole_blocks(self) -> nn.ModuleList:
        """All image blocks."""
        return self.clip.vision_model.encoder.layers

    def forward(self, pixels: Float[Tensor, "b 3 H W"]) -> Visual:
        """Return dense tokens, two earlier maps, and what the probe attends to."""
        vision = self.clip.vision_model
        rows, columns = self.grid(pixels)
        positions = vision.embeddings.position_embedding.weight
        tokens = self.embed_patches(pixels) + resize_positions(positions, (rows, columns))

        taps = {}
        for index, block in enumerate(self.whole_blocks):
            tokens = self.run_block(block, tokens)
            if index in self.guidance_blocks:
                taps[index] = rearrange(tokens, "b (h w) v -> b v h w", h=rows)
        tokens = vision.post_layernorm(tokens)

        dense = rearrange(value_path(vision.head, tokens), "b (h w) d -> b d h w", h=rows)
        visual = Visual(dense, taps[self.guidance_blocks[0]], taps[self.guidance_blocks[1]])
        if not self.returns_attention:
            return visual
        attention = probe_attention(vision.head, tokens.detach())
        return visual._replace(attention=rearrange(attention, "b a (h w) -> b a h w", h=rows))

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return the L2-normalised embedding of each row of token ids.

        It is read at the last of all places, and every place sees every other. So a text is padded
        with 0 to the whole context, as in training (decision D162).
        """
        context = self.clip.text_model.config.max_position_embeddings
        padded = F.pad(ids, (0, context - ids.shape[1]))
        return F.normalize(self.clip.text_model(input_ids=padded).pooler_output, dim=-1)

    def idle(self) -> tuple[str, ...]:
        """Name the logit's scale and bias, and what makes the probe's queries and keys.

        They share one matrix with the values, which stand still with them.
        """
        head = "clip.vision_model.head."
        return "clip.logit_", f"{head}probe", f"{head}attention.in_proj_"


def value_path(
    head: SiglipMultiheadAttentionPoolingHead, tokens: Float[Tensor, "b n d"]
) -> Float[Tensor, "b n d"]:
    """Return what the pooling head makes of each token alone."""
    attention = head.attention
    _, _, weight = attention.in_proj_weight.chunk(3)
    _, _, bias = attention.in_proj_bias.chunk(3)
    value = attention.out_proj(F.linear(tokens, weight, bias))
    return value + head.mlp(head.layernorm(value))


def probe_attention(
    head: SiglipMultiheadAttentionPoolingHead, tokens: Float[Tensor, "b n d"]
) -> Float[Tensor, "b a n"]:
    """Return how much the probe attends to each token (`log_share`)."""
    attention = head.attention
    query_weight, key_weight, _ = attention.in_proj_weight.chunk(3)
    query_bias, key_bias, _ = attention.in_proj_bias.chunk(3)
    heads = attention.num_heads
    query = rearrange(F.linear(head.probe, query_weight, query_bias), "1 1 (a e) -> a 1 e", a=heads)
    key = rearrange(F.linear(tokens, key_weight, key_bias), "b n (a e) -> b a n e", a=heads)
    score = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # b a 1 n
    return log_share(score.softmax(-1)[:, :, 0])
