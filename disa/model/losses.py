"""What training minimises: masks per pixel, image-text matching per crop, optionally dice per category.

`logits b t h4 w4, matched b t, target b H W -> named scalars`
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.config import ModelConfig
from disa.model.disa import Prediction

IGNORED = -1  # no category's index, however many there are (D82)
MEANS = ("mask", "itm", "dice")  # each loss is a mean, over what `loss_counts` counts


def segmentation_loss(
    prediction: Prediction,
    target: Int[Tensor, "b H W"],
    config: ModelConfig,
    counts: Int[Tensor, "3"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return `total` and its parts `mask`, `itm` and `dice`, those that are on; parts are unweighted.

    `target` holds the category of every pixel or `IGNORED`. The total is mask + loss_itm_weight * itm +
    loss_dice_weight * dice. Sources: mask [B] quirk 26, itm [P], dice [D]. With `counts`, the `loss_counts` of a whole
    batch that this is a part of, the results of all parts add up to those of the whole (D83).
    """
    logits = F.interpolate(
        prediction.logits, target.shape[-2:], mode="bilinear", align_corners=False
    )
    counted = _counted(target, config)
    losses = {"mask": mask_loss(logits, target, counted)}
    if prediction.matched is not None:
        losses["itm"] = itm_loss(prediction.matched, target)
    if config.loss_dice_weight > 0:
        losses["dice"] = dice_loss(logits, target, counted)
    if counts is not None:
        shares = loss_counts(target, logits.shape[1], config) / counts.clamp(min=1)
        losses = {name: loss * shares[MEANS.index(name)] for name, loss in losses.items()}
    weights = {"mask": 1.0, "itm": config.loss_itm_weight, "dice": config.loss_dice_weight}
    return losses | {
        "total": torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    }


def loss_counts(
    target: Int[Tensor, "b H W"], categories: int, config: ModelConfig
) -> Int[Tensor, "3"]:
    """Return over how many pixels, images, and (image, category) pairs present the losses in `MEANS` are means.

    The counts of a batch's parts, wherever they are computed, add up to those of the batch.
    """
    present = (_pixels(target, categories) > 0).sum()
    images = torch.full_like(present, len(target))
    return torch.stack([_counted(target, config).sum(), images, present])


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
    pixels = _pixels(target, logits.shape[1]).to(score.dtype)
    own = (_own(score, target) * (target != IGNORED)).flatten(1)
    inside = torch.zeros_like(pixels).scatter_add(1, _index(target).flatten(1), own)
    dice = (2 * inside + 1) / (score.sum((2, 3)) + pixels + 1)
    present = pixels > 0
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def itm_loss(matched: Float[Tensor, "b t"], target: Int[Tensor, "b H W"]) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of the matched logit against "this category has pixels in this crop" [D]."""
    present = (_pixels(target, matched.shape[1]) > 0).to(matched.dtype)
    return F.binary_cross_entropy_with_logits(matched, present)


def _counted(target: Int[Tensor, "b H W"], config: ModelConfig) -> Bool[Tensor, "b H W"]:
    """Return which pixels the masks' losses count."""
    valid = target != IGNORED
    return valid if config.loss_ignored == "masked" else torch.ones_like(valid)


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
