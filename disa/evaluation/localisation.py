"""What the SDM knows about place and presence: ITM's AUC, the saliency's precision, the split's IoU, the foreground.

Signature: batches of (Prediction, labels `b H W`) -> numbers per category.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.inference.foreground import foreground_density
from disa.inference.segmentation import FOREGROUND_DENSITY
from disa.model.disa import Prediction


class Localisation:
    """Collects, batch by batch, how well saliency, split and matched logit agree with the true masks.

    A category counts as present in an image if it has one pixel there.
    """

    def __init__(self, categories: int, things: Bool[Tensor, " t"]) -> None:
        self.categories, self.things = categories, things
        self.matched: list[Tensor] = []
        self.present: list[Tensor] = []
        self.precision: list[Tensor] = []
        self.split: list[Tensor] = []
        self.overlap = torch.zeros(
            2, 2, dtype=torch.int64
        )  # foreground, background: pixels in both, in either

    def update(self, prediction: Prediction, labels: Int[Tensor, "b H W"]) -> None:
        """Add one batch of a model that has the SDM."""
        assert (
            prediction.saliency is not None
            and prediction.matched is not None
            and prediction.foreground is not None
        )
        maps = (prediction.saliency, prediction.matched, prediction.foreground)
        saliency, matched, split = (value.float().cpu() for value in maps)
        shares = token_shares(labels, self.categories, (saliency.shape[-2], saliency.shape[-1]))
        present = shares.flatten(2).sum(2) > 0
        self.matched.append(matched)
        self.present.append(present)
        nothing = torch.full(present.shape, torch.nan)
        flat = [
            rearrange(values, "b t h w -> b t (h w)")[present]
            for values in (saliency, split, shares)
        ]
        self.precision.append(nothing.masked_scatter(present, average_precision(flat[0], flat[2])))
        self.split.append(nothing.masked_scatter(present, soft_iou(flat[1], flat[2])))
        density = F.interpolate(
            foreground_density(saliency, matched)[:, None], labels.shape[-2:], mode="bilinear"
        )
        found, true = density[:, 0] > FOREGROUND_DENSITY, self.things[labels.long()]
        pairs = ((found, true), (~found, ~true))
        self.overlap += torch.stack(
            [torch.stack([(one & two).sum(), (one | two).sum()]) for one, two in pairs]
        )

    def auc(self) -> Float[Tensor, " t"]:
        """Return per category the share of (present, absent) image pairs that the matched logit ranks rightly."""
        matched, present = torch.cat(self.matched), torch.cat(self.present)
        return torch.stack(
            [ranking_auc(matched[:, t], present[:, t]) for t in range(self.categories)]
        )

    def saliency_precision(self) -> Float[Tensor, " t"]:
        """Return per category the mean of `average_precision` over the images that hold it; NaN without any."""
        return torch.cat(self.precision).nanmean(0)

    def split_iou(self) -> Float[Tensor, " t"]:
        """Return per category the mean of `soft_iou` over the images that hold it; NaN without any."""
        return torch.cat(self.split).nanmean(0)

    def foreground_iou(self) -> float:
        """Return the IoU, over all pixels, of the class-agnostic foreground mask with the things."""
        return float(self.overlap[0, 0].double() / self.overlap[0, 1])

    def background_iou(self) -> float:
        """Return the IoU, over all pixels, of what the foreground mask leaves out with the stuff."""
        return float(self.overlap[1, 0].double() / self.overlap[1, 1])


def token_shares(
    labels: Int[Tensor, "b H W"], categories: int, grid: tuple[int, int]
) -> Float[Tensor, "b t h w"]:
    """Return the share of each token's pixels that a category covers; sides must be multiples of the grid's."""
    masks = rearrange(F.one_hot(labels.long(), 256)[..., :categories], "b H W t -> b t H W")
    return F.avg_pool2d(masks.float(), (labels.shape[1] // grid[0], labels.shape[2] // grid[1]))


def ranking_auc(score: Float[Tensor, " b"], present: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the area under the ROC curve; ties count half. NaN if all or none are present."""
    above = score[present][:, None] - score[~present][None]
    return ((above > 0).float() + 0.5 * (above == 0).float()).mean()


def average_precision(
    score: Float[Tensor, "m n"], share: Float[Tensor, "m n"]
) -> Float[Tensor, " m"]:
    """Return the average precision of ranking tokens by score, each token being right in part (its share, 0..1).

    It equals the usual measure on pixels that all have their token's score; tied tokens are taken together.
    """
    ranked, order = score.sort(dim=1, descending=True)
    hits = share.gather(1, order)
    count = torch.arange(1, ranked.shape[1] + 1)
    precision = hits.cumsum(1) / count
    ends = torch.cat(
        [ranked[:, 1:] != ranked[:, :-1], torch.ones(len(ranked), 1, dtype=torch.bool)], 1
    )
    end = (
        torch.where(ends, count - 1, ranked.shape[1]).flip(1).cummin(1).values.flip(1)
    )  # of each token's tie
    return (hits * precision.gather(1, end)).sum(1) / hits.sum(1)


def soft_iou(first: Float[Tensor, "m n"], second: Float[Tensor, "m n"]) -> Float[Tensor, " m"]:
    """Return intersection over union of two maps in 0..1: the sum of minima over the sum of maxima."""
    return torch.minimum(first, second).sum(1) / torch.maximum(first, second).sum(1)
