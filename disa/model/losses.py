"""What training minimises: masks per pixel, image-text matching per crop, optionally dice per category.

`logits b t h4 w4, matched b t, target b H W -> named scalars`
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.config import ModelConfig
from disa.model.disa import Prediction

IGNORED = 255


def segmentation_loss(
    prediction: Prediction, target: Int[Tensor, "b H W"], config: ModelConfig
) -> dict[str, Float[Tensor, ""]]:
    """Return `total` and its parts `mask`, `itm` and `dice`, those that are on; parts are unweighted.

    `target` holds the category of every pixel or `IGNORED`. The total is mask + loss_itm_weight * itm +
    loss_dice_weight * dice. Sources: mask [B] quirk 26, itm [P], dice [D].
    """
    logits = F.interpolate(prediction.logits, target.shape[-2:], mode="bilinear", align_corners=False)
    valid = target != IGNORED
    counted = valid if config.loss_ignored == "masked" else torch.ones_like(valid)
    losses = {"mask": mask_loss(logits, target, counted)}
    total = losses["mask"]
    if prediction.matched is not None:
        losses["itm"] = itm_loss(prediction.matched, target)
        total = total + config.loss_itm_weight * losses["itm"]
    if config.loss_dice_weight > 0:
        losses["dice"] = dice_loss(logits, target, counted)
        total = total + config.loss_dice_weight * losses["dice"]
    return losses | {"total": total}


def mask_loss(
    logits: Float[Tensor, "b t H W"], target: Int[Tensor, "b H W"], counted: Bool[Tensor, "b H W"]
) -> Float[Tensor, ""]:
    """Return the binary cross-entropy over all counted pixels and all categories; ignored pixels are all negative.

    `BCE(x, y) = softplus(x) - x y`, and `y` is 1 for one category of a pixel: no one-hot target is built.
    """
    negative = (F.softplus(logits) * counted[:, None]).sum()
    positive = (_own(logits, target) * (target != IGNORED)).sum()
    return (negative - positive) / (counted.sum() * logits.shape[1]).clamp(min=1)


def dice_loss(
    logits: Float[Tensor, "b t H W"], target: Int[Tensor, "b H W"], counted: Bool[Tensor, "b H W"]
) -> Float[Tensor, ""]:
    """Return one minus the soft dice, averaged over the categories that each image holds; 0 without any."""
    score = logits.sigmoid() * counted[:, None]
    pixels = _pixels(target, logits.shape[1])
    own = (_own(score, target) * (target != IGNORED)).flatten(1)
    inside = torch.zeros_like(pixels).scatter_add(1, _index(target).flatten(1), own)
    dice = (2 * inside + 1) / (score.sum((2, 3)) + pixels + 1)
    present = pixels > 0
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def itm_loss(matched: Float[Tensor, "b t"], target: Int[Tensor, "b H W"]) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of the matched logit against "this category has pixels in this crop" [D]."""
    present = (_pixels(target, matched.shape[1]) > 0).to(matched.dtype)
    return F.binary_cross_entropy_with_logits(matched, present)


def _index(target: Int[Tensor, "b H W"]) -> Int[Tensor, "b H W"]:
    """Return a category for every pixel that is safe to gather by; ignored pixels point at the first."""
    return torch.where(target == IGNORED, 0, target).long()


def _own(values: Float[Tensor, "b t H W"], target: Int[Tensor, "b H W"]) -> Float[Tensor, "b H W"]:
    """Return each pixel's value for its own category."""
    return values.gather(1, _index(target)[:, None])[:, 0]


def _pixels(target: Int[Tensor, "b H W"], categories: int) -> Float[Tensor, "b t"]:
    """Return how many pixels of each category an image holds."""
    count = torch.zeros(len(target), categories, device=target.device)
    return count.scatter_add(1, _index(target).flatten(1), (target != IGNORED).float().flatten(1))
