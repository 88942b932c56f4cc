"""The cost volume: how much every token looks like every label."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig


def correlate(
    tokens: Float[Tensor, "b d h w"], text: Float[Tensor, "t p d"]
) -> Float[Tensor, "b t p h w"]:
    """Return the cosine of every token with every prompt of every label, in -1 .. 1.

    `cos(token, prompt) = <token, prompt> / (|token| |prompt|)`, without CLIP's temperature
    (baseline quirk 15).
    """
    # One matrix product per image, over all prompts of all labels.
    unit_tokens = F.normalize(tokens.flatten(2), dim=1)  # b d n
    unit_text = F.normalize(text, dim=-1).flatten(0, 1)  # (t p) d
    cosine = torch.matmul(unit_text, unit_tokens)
    return rearrange(cosine, "b (t p) (h w) -> b t p h w", t=text.shape[0], h=tokens.shape[2])


def best_token(correlation: Float[Tensor, "b t p h w"]) -> Float[Tensor, "b t"]:
    """Return the cosine of each label's best token, averaged over prompts (baseline quirk 19)."""
    return correlation.mean(2).flatten(2).amax(-1)


class Cost(nn.Module):
    """A convolution from the cosines of a label's prompts to its cost channels [B].

    It is square and the same for all labels, so that their number does not matter.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        prompts = len(config.backbone_templates)
        kernel = config.cost_kernel
        self.embed = nn.Conv2d(prompts, config.cost_channels, kernel, padding=kernel // 2)

    def forward(self, correlation: Float[Tensor, "b t p h w"]) -> Float[Tensor, "b t c h w"]:
        """Return the cost volume, whose shape stays the same up to the decoder."""
        # Labels join the batch: the convolution sees each alone.
        embedded = self.embed(rearrange(correlation, "b t p h w -> (b t) p h w"))
        return rearrange(embedded, "(b t) c h w -> b t c h w", b=correlation.shape[0])
