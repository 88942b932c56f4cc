"""A class-agnostic foreground mask from what the labels attend to: saliency (b t h w), matched (b t) -> (b h w)."""

import torch
from einops import einsum, reduce
from jaxtyping import Float
from torch import Tensor


def foreground_density(
    saliency: Float[Tensor, "b t h w"], matched: Float[Tensor, "b t"]
) -> Float[Tensor, "b h w"]:
    """Return how much denser than average the attention of the matching labels is at each token; 1 is the average.

    `density = sum_t p_t^2 * n * s_t / sum(s_t)  /  sum_t p_t^2`, where `s` is the saliency smoothed over 3 x 3 tokens,
    `n` the number of tokens and `p = sigmoid(matched)`. Every label spreads one unit of mass, so that compact things
    stand out from stuff; the square quiets labels that the ITM doubts. Being a mean, it needs one threshold for any
    number of labels, present or not: maximum and sum over labels do not [D].
    """
    smooth = torch.nn.functional.avg_pool2d(
        saliency.float(), 3, stride=1, padding=1, count_include_pad=False
    )
    share = smooth / reduce(smooth, "b t h w -> b t 1 1", "sum").clamp_min(
        torch.finfo(smooth.dtype).tiny
    )
    weight = matched.float().sigmoid().square().clamp_min(1e-12)
    weight = weight / weight.sum(1, keepdim=True)
    return share[0, 0].numel() * einsum(weight, share, "b t, b t h w -> b h w")
