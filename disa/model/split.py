"""Foreground and background: which tokens of an image speak for a label (paper, SDM)."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from disa.config import ModelConfig


def tiny(dtype: torch.dtype) -> float:
    """Return a number so small that it stands for zero where zero would give infinity.

    It is 1e-30, or 6e-8 in float16, whose numbers go no lower.
    """
    limits = torch.finfo(dtype)
    return max(1e-30, limits.tiny * limits.eps)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, and zero without a gradient where the whole is nothing."""
    is_some = whole > tiny(whole.dtype)
    # The inner `where` matters for the gradient: one over nothing overflows.
    return torch.where(is_some, part / torch.where(is_some, whole, 1), 0)


def foreground_count(n: int, share: float) -> int | Tensor:
    """Return `k = round(share * n)`, but at least one token on each side; 1 where `n` is 1."""
    if torch.compiler.is_exporting():
        # The number of tokens stays free: an ONNX graph rounds tensors, not sizes.
        last = torch.arange(n)[-1]
        return torch.minimum((share * (last + 1).double()).round(), last).clamp_min(1)
    return max(1, min(round(share * n), n - 1))


def split_tokens(
    saliency: Float[Tensor, "b t h w"], config: ModelConfig
) -> Float[Tensor, "b t h w"]:
    """Return each token's foreground weight: 1 or 0, and 0 .. 1 for the soft split (paper, SDM).

    - `top_k`: the k most salient tokens; of ties the lower index;
    - `relative`: tokens whose saliency, smoothed over 3 x 3, is above a share of its own peak;
    - `mass`: the smallest set that holds a share of the saliency;
    - `soft`: saliency over its peak.

    A label without any saliency has no foreground, except under `top_k`.
    """
    if config.saliency_split == "soft":
        return ratio(saliency, saliency.amax((-2, -1), keepdim=True))

    if config.saliency_split == "relative":
        # Borders average over the tokens that there are.
        smooth = F.avg_pool2d(saliency, 3, stride=1, padding=1, count_include_pad=False)
        peak = smooth.amax((-2, -1), keepdim=True)
        return (smooth > config.saliency_relative_threshold * peak).to(saliency.dtype)

    # The others count tokens from the most salient one on; the stable sort settles ties.
    flat = rearrange(saliency, "b t h w -> b t (h w)")
    ranked, order = flat.sort(dim=-1, descending=True, stable=True)
    if config.saliency_split == "top_k":
        n = flat.shape[-1]
        count = foreground_count(n, config.saliency_top_share)
        chosen = (torch.arange(n, device=flat.device) < count).expand_as(flat)
    else:
        # A token belongs to the smallest set if the more salient ones do not reach the share.
        cumulated = ranked.cumsum(-1)
        chosen = cumulated - ranked < config.saliency_mass * cumulated[..., -1:]

    # From ranks back to places on the grid.
    foreground = torch.zeros_like(flat).scatter(-1, order, chosen.to(flat.dtype))
    return rearrange(foreground, "b t (h w) -> b t h w", h=saliency.shape[-2])
