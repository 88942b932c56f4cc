"""A class-agnostic foreground mask from what the labels attend to: saliency (b t h w), matched (b t) -> (b h w)."""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor


def foreground_density(saliency: Float[Tensor, "b t h w"], matched: Float[Tensor, "b t"]) -> Float[Tensor, "b h w"]:
    """Return how much denser than average the attention of the matching labels is at each token; 1 is the average.

    `density = n * max_t sigmoid(matched_t) * s_t / sum(s_t)`, where `s` is the saliency smoothed over 3 x 3 tokens and
    `n` the number of tokens. Every label spreads one unit of mass: a thing on a tenth of the picture reaches about 10,
    stuff on half of it about 2, and a label that the ITM finds absent nothing [D].
    """
    smooth = torch.nn.functional.avg_pool2d(saliency.float(), 3, stride=1, padding=1, count_include_pad=False)
    share = smooth / reduce(smooth, "b t h w -> b t 1 1", "sum").clamp_min(torch.finfo(smooth.dtype).tiny)
    weighted = share * matched.float().sigmoid()[..., None, None]
    tokens = saliency.shape[-2] * saliency.shape[-1]
    return tokens * reduce(weighted, "b t h w -> b h w", "max")
