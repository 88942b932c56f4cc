"""Numbers that no label map shows: how right saliency, match, split and foreground are."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.data.dataset import Dataset
from disa.evaluation.score import percent
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter
from disa.inference.windows import views
from disa.model.disa import Prediction
from disa.picturebook import UNSEEN

BATCH = 10  # pictures that go through the model together


class SdmScores(NamedTuple):
    """Numbers per category, NaN where there is nothing to measure."""

    itm_auc: Float[Tensor, " t"]  # of the matched logit, in 0..1
    saliency_ap: Float[Tensor, " t"]  # average precision, in 0..1
    split_iou: Float[Tensor, " t"]  # percent


class ProbeScores(NamedTuple):
    """Numbers of the parts that a network has, SDM and things; None for those that it lacks."""

    sdm: SdmScores | None = None
    # Percent, by the kind of scene: the foreground mask with the things, the rest with the stuff.
    foreground_iou: dict[str, float | None] | None = None
    background_iou: dict[str, float | None] | None = None


def probe(segmenter: Segmenter, dataset: Dataset, images: int) -> ProbeScores:
    """Measure the network on the first scenes of picturebook, each in one view."""
    config = segmenter.model.config
    if not (config.disentangle or config.things):
        return ProbeScores()
    # Every noun is asked for in every scene, present or not: (t, p, d).
    text = segmenter.text(dataset.vocabulary.prompts())
    categories = dataset.vocabulary.categories
    sdm = SdmEvidence(len(categories)) if config.disentangle else None
    things = torch.tensor([category.kind == "thing" for category in categories])
    unseen = torch.tensor([category.name in UNSEEN for category in categories])
    foreground = ForegroundOverlap(things, unseen) if config.things else None
    whole = Protocol()

    # Scenes are drawn anew for every look at them, so each goes through here once.
    for first in range(0, images, BATCH):
        indices = range(first, min(first + BATCH, images))
        pictures = [dataset.image(index) for index in indices]
        layout = segmenter.layout(whole, pictures[0])
        seen = [next(views(whole, picture, layout, 1)) for picture in pictures]
        labels = torch.stack([torch.from_numpy(dataset.labels(index)) for index in indices]).long()
        pixels = torch.cat(seen).to(text.device, text.dtype)
        with torch.inference_mode():
            prediction = segmenter.model(pixels, text)
            if foreground is not None:
                foreground.update(foreground_mask(prediction, tuple(labels.shape[1:])), labels)
            if sdm is not None:
                sdm.update(prediction, labels)
    scores = ProbeScores(sdm=None if sdm is None else sdm.scores())
    if foreground is None:
        return scores
    return scores._replace(
        foreground_iou=foreground.iou(True), background_iou=foreground.iou(False)
    )


class SdmEvidence:
    """Collects how well saliency, split and matched logit agree with the true masks.

    A category counts as present in an image if it has one pixel there.
    """

    def __init__(self, categories: int) -> None:
        self.categories = categories
        # One tensor (b, t) per batch; places are NaN where a category is absent.
        self.matched: list[Tensor] = []
        self.present: list[Tensor] = []
        self.precision: list[Tensor] = []
        self.split: list[Tensor] = []

    def update(self, prediction: Prediction, labels: Int[Tensor, "b H W"]) -> None:
        """Add one batch of a model that has the SDM."""
        assert prediction.saliency is not None
        assert prediction.matched is not None
        assert prediction.foreground is not None
        saliency = prediction.saliency.float().cpu()
        matched = prediction.matched.float().cpu()
        split = prediction.foreground.float().cpu()

        grid = (saliency.shape[-2], saliency.shape[-1])
        # The network sees tokens, so the truth is the share of each token: (b, t, h, w), (b, t).
        shares = token_shares(labels, self.categories, grid)
        present = shares.flatten(2).sum(2) > 0
        self.matched.append(matched)
        self.present.append(present)

        # Places are measured where the label is present: one row per (image, label) pair.
        truth = shares.flatten(2)[present]
        precision = average_precision(saliency.flatten(2)[present], truth)
        overlap = soft_iou(split.flatten(2)[present], truth)
        nothing = torch.full(present.shape, torch.nan)
        self.precision.append(nothing.masked_scatter(present, precision))
        self.split.append(nothing.masked_scatter(present, overlap))

    def scores(self) -> SdmScores:
        """Return the means over the images that hold a category (decision D40)."""
        matched = torch.cat(self.matched)
        present = torch.cat(self.present)
        auc = [ranking_auc(matched[:, t], present[:, t]) for t in range(self.categories)]
        return SdmScores(
            itm_auc=torch.stack(auc),
            saliency_ap=torch.cat(self.precision).nanmean(0),
            split_iou=100 * torch.cat(self.split).nanmean(0).double(),
        )


class ForegroundOverlap:
    """Collects how well foreground masks agree with the things, by the kind of scene.

    "all" are all scenes; "seen_things" and "unseen_things" those whose things are all of that kind,
    "both" those with things of both kinds. What the foreground makes of things that never had a
    mask shows in "unseen_things".
    """

    def __init__(self, things: Bool[Tensor, " t"], unseen: Bool[Tensor, " t"]) -> None:
        self.things = things
        self.unseen = unseen
        # Of (foreground, background): pixels in both the mask and the truth, and in either.
        self.pixels = {
            kind: torch.zeros(2, 2, dtype=torch.int64)
            for kind in ("all", "seen_things", "unseen_things", "both")
        }

    def update(self, foreground: Bool[Tensor, "b H W"], labels: Int[Tensor, "b H W"]) -> None:
        """Add one batch."""
        for mask, image in zip(foreground.cpu(), labels, strict=True):
            true = self.things[image]
            overlap = torch.tensor(
                [
                    [(mask & true).sum(), (mask | true).sum()],
                    [(~mask & ~true).sum(), (~mask | ~true).sum()],
                ]
            )
            self.pixels["all"] += overlap
            # A scene of stuff alone shows nothing about things of either kind.
            kinds = self.unseen[image[true]]
            if len(kinds):
                self.pixels[self._kind(kinds)] += overlap

    def iou(self, of_things: bool) -> dict[str, float | None]:
        """Return the IoU of the foreground, or of the background, in percent by kind of scene."""
        row = 0 if of_things else 1
        return {kind: percent(float(p[row, 0] / p[row, 1])) for kind, p in self.pixels.items()}

    def _kind(self, unseen: Bool[Tensor, " n"]) -> str:
        if unseen.all():
            return "unseen_things"
        return "both" if unseen.any() else "seen_things"


def foreground_mask(prediction: Prediction, size: Sequence[int]) -> Bool[Tensor, "b H W"]:
    """Return the foreground of a batch at `size` (H, W), as `Segmentation.foreground` has it."""
    assert prediction.things is not None
    logits = prediction.things.float()[:, None]
    return F.interpolate(logits, tuple(size), mode="bilinear")[:, 0] > 0


def token_shares(
    labels: Int[Tensor, "b H W"], categories: int, grid: tuple[int, int]
) -> Float[Tensor, "b t h w"]:
    """Return the share of each token's pixels that a category covers."""
    masks = rearrange(F.one_hot(labels.long(), categories), "b H W t -> b t H W")
    # The mean of a mask over a token's pixels is the share of them that it covers.
    return F.adaptive_avg_pool2d(masks.float(), grid)


def ranking_auc(score: Float[Tensor, " b"], present: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the share of (present, absent) pairs that are ranked rightly; ties count half.

    This is the area under the ROC curve; NaN if all or none are present.
    """
    # Every present image against every absent one: (present, absent).
    above = score[present][:, None] - score[~present][None]
    return ((above > 0).float() + 0.5 * (above == 0).float()).mean()


def average_precision(
    score: Float[Tensor, "m n"], share: Float[Tensor, "m n"]
) -> Float[Tensor, " m"]:
    """Return the average precision of ranking tokens by score; a token is right in part, its share.

    It equals the usual measure on pixels that all have their token's score. Tied tokens are taken
    together: each gets the precision at the end of its tie.
    """
    # Precision at each rank: of the tokens up to it, the share that is right (m, n).
    ranked, order = score.sort(dim=1, descending=True)
    tokens = ranked.shape[1]
    hits = share.gather(1, order)
    rank = torch.arange(1, tokens + 1)
    precision = hits.cumsum(1) / rank

    # A tie ends where the next score differs. From the back, the last end seen is the tie's own.
    last = torch.ones(len(ranked), 1, dtype=torch.bool)
    is_end = torch.cat([ranked[:, 1:] != ranked[:, :-1], last], 1)
    end = torch.where(is_end, rank - 1, tokens)
    end = end.flip(1).cummin(1).values.flip(1)
    return (hits * precision.gather(1, end)).sum(1) / hits.sum(1)


def soft_iou(first: Float[Tensor, "m n"], second: Float[Tensor, "m n"]) -> Float[Tensor, " m"]:
    """Return intersection over union of maps in 0..1: the sum of minima over that of maxima."""
    return torch.minimum(first, second).sum(1) / torch.maximum(first, second).sum(1)
