"""What training minimises: wrong masks, and wrong matches of images with labels."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.config import IGNORED, ModelConfig
from disa.model.disa import Prediction

MEANS = ("mask", "itm", "things")  # the losses, each a mean over what `loss_counts` counts


def segmentation_loss(
    prediction: Prediction,
    target: Int[Tensor, "b H W"],
    config: ModelConfig,
    counts: Int[Tensor, "3"] | None = None,
    is_thing: Bool[Tensor, " t"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return `mask`, `itm` if the model has the SDM, `things` if it has those, and `total`.

    `total` is the sum of the three, `itm` and `things` with the weights of the config. `is_thing`
    says which labels are things; without it, `things` is left out.

    `target` holds the label of every pixel, or `IGNORED`. The mask loss is the baseline's, the
    matching loss the paper's. `counts` are the `loss_counts` of a whole batch that this is a part
    of: the results of all parts then add up to those of the whole (decision D83).
    """
    # Logits are enlarged to the pixels (baseline quirk 26).
    size = target.shape[-2:]
    logits = F.interpolate(prediction.logits, size, mode="bilinear", align_corners=False)
    losses = {"mask": mask_loss(logits, target, _counted(target, config))}
    if prediction.matched is not None:
        losses["itm"] = itm_loss(prediction.matched, target)
    if prediction.things is not None and is_thing is not None:
        things = F.interpolate(prediction.things[:, None], size, mode="bilinear")[:, 0]
        losses["things"] = things_loss(things, target, is_thing)

    if counts is not None:
        # From the mean over this part to its share of the mean over the whole batch.
        shares = loss_counts(target, config) / counts.clamp(min=1)
        for index, name in enumerate(MEANS):
            if name in losses:
                losses[name] = losses[name] * shares[index]

    total = losses["mask"]
    if "itm" in losses:
        total = total + config.loss_itm_weight * losses["itm"]
    if "things" in losses:
        total = total + config.loss_thing_weight * losses["things"]
    return losses | {"total": total}


def loss_counts(target: Int[Tensor, "b H W"], config: ModelConfig) -> Int[Tensor, "3"]:
    """Return over how many pixels and images the losses in `MEANS` are means.

    The counts of a batch's parts, wherever they are computed, add up to those of the batch.
    """
    pixels = _counted(target, config).sum()
    labelled = (target != IGNORED).sum()
    return torch.stack([pixels, torch.full_like(pixels, len(target)), labelled])


def mask_loss(
    logits: Float[Tensor, "b t H W"],
    target: Int[Tensor, "b H W"],
    counted: Bool[Tensor, "b H W"],
) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy over all counted pixels and all labels.

    `BCE(x, y) = softplus(x) - x y`. Of a pixel's labels one at most has `y = 1`, so the second term
    needs one logit per pixel, and no one-hot target is built. A counted pixel without a label is
    negative for every label (baseline quirk 26).
    """
    labelled = target != IGNORED

    # The logit of each pixel's own label.
    own = logits.gather(1, _index(target)[:, None])[:, 0]  # b H W
    negative = (F.softplus(logits) * counted[:, None]).sum()
    positive = (own * labelled).sum()
    return (negative - positive) / (counted.sum() * logits.shape[1]).clamp(min=1)


def itm_loss(matched: Float[Tensor, "b t"], target: Int[Tensor, "b H W"]) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of `matched` against "the label has pixels here" [D]."""
    # Count each label's pixels, b t, without a mask per label.
    labelled = (target != IGNORED).to(matched.dtype)
    pixels = torch.zeros_like(matched).scatter_add(
        1, _index(target).flatten(1), labelled.flatten(1)
    )
    present = (pixels > 0).to(matched.dtype)
    return F.binary_cross_entropy_with_logits(matched, present)


def things_loss(
    things: Float[Tensor, "b H W"], target: Int[Tensor, "b H W"], is_thing: Bool[Tensor, " t"]
) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of "here is a thing" over all labelled pixels [D]."""
    labelled = target != IGNORED
    truth = is_thing[_index(target)].to(things.dtype)
    loss = F.binary_cross_entropy_with_logits(things, truth, reduction="none")
    return (loss * labelled).sum() / labelled.sum().clamp(min=1)


def _counted(target: Int[Tensor, "b H W"], config: ModelConfig) -> Bool[Tensor, "b H W"]:
    """Return which pixels the mask loss counts."""
    labelled = target != IGNORED
    if config.loss_ignored == "masked":
        return labelled
    return torch.ones_like(labelled)


def _index(target: Int[Tensor, "b H W"]) -> Int[Tensor, "b H W"]:
    """Return an index for every pixel; ignored ones get the first label, with no weight later."""
    return torch.where(target == IGNORED, 0, target).long()
