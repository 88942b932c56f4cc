"""What all views of a picture say to its labels, and the segmentation that follows from it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from disa.data.images import Pixels
from disa.inference.labels import FOREGROUND
from disa.inference.protocol import Layout
from disa.inference.request import Query
from disa.inference.segmentation import BACKGROUND, Segmentation
from disa.inference.windows import blend, stitch, strongest
from disa.model.disa import Prediction

CHUNK = 2**22  # pixels times labels that are resized and compared at once


class Answer(NamedTuple):
    """The model's outputs for every view of one picture; None where it has none.

    Labels are resized a few at a time: memory does not grow with their number (decision D32).
    """

    layout: Layout
    logits: Float[Tensor, "v m h4 w4"]
    labels: Int[Tensor, " m"]  # of the logits, in the caller's order; the others were left out
    asked: Int[Tensor, " t"]  # the labels of saliency and match
    saliency: Float[Tensor, "v t h w"] | None = None
    matched: Float[Tensor, "v t"] | None = None
    things: Float[Tensor, "v h4 w4"] | None = None

    def of(self, own: slice) -> "Answer":
        """Return the answer of some of the views."""
        return self._replace(
            logits=self.logits[own],
            saliency=None if self.saliency is None else self.saliency[own],
            matched=None if self.matched is None else self.matched[own],
            things=None if self.things is None else self.things[own],
        )

    def best_label(self, shape: Sequence[int]) -> tuple[Int[Tensor, "H W"], Float[Tensor, "H W"]]:
        """Return the best label's index, the first of equals, and its probability at each pixel."""
        best = torch.full(tuple(shape), -1.0, device=self.logits.device)
        labels = torch.zeros_like(best, dtype=torch.int32)
        for first, maps in self.probabilities(self.logits.shape[1], shape):
            if len(maps) == 1:
                # Of a large picture, whose maps come one by one: an index of 64 bits for each pixel
                # would be the largest of all.
                is_better = maps[0] > best
                labels.masked_fill_(is_better, first)
                torch.where(is_better, maps[0], best, out=best)
                continue
            score, index = maps.max(0)
            is_better = score > best
            labels = torch.where(is_better, index.int() + first, labels)
            best = torch.where(is_better, score, best)
        own = self.labels.int().index_select(0, labels.flatten())
        return own.reshape(labels.shape), best

    def probabilities(
        self, count: int, shape: Sequence[int]
    ) -> Iterator[tuple[int, Float[Tensor, "m H W"]]]:
        """Yield the first `count` labels' probabilities, some at a time, with the first's index."""
        canvas = self.layout.canvas[0] * self.layout.canvas[1]
        step = max(1, CHUNK // max(shape[0] * shape[1], canvas))
        for first in range(0, count, step):
            maps = blend(self.layout, self.logits[:, first : min(first + step, count)])
            large = interpolate(maps[None], tuple(shape), mode="bilinear", align_corners=False)
            yield first, large[0]


def segmentation(answer: Answer, picture: Pixels, query: Query) -> Segmentation:
    """Take the answer to the picture's own size and apply the background policy."""
    count = len(query.labels)
    shape = picture.shape[:2]
    labels, best = answer.best_label(shape)
    labels[labels >= count] = BACKGROUND  # won by a label of the background
    if isinstance(query.background, float):
        labels[best < query.background] = BACKGROUND

    scores = None
    if query.scores:
        # Labels that were left out have none.
        scores = np.zeros((count, *shape), np.float32)
        computed = _users(answer.labels, count)
        for first, maps in answer.probabilities(len(computed), shape):
            scores[computed[first : first + len(maps)]] = maps.cpu().numpy()

    things = None
    if answer.things is not None:
        things = blend(answer.layout, answer.things[:, None].float())[0].cpu().numpy()

    saliency = None
    matched = None
    if answer.saliency is not None and answer.matched is not None:
        asked = _users(answer.asked, count)
        tokens = stitch(answer.layout, answer.saliency)[: len(asked)].float().cpu().numpy()
        saliency = np.zeros((count, *tokens.shape[1:]), np.float32)
        saliency[asked] = tokens
        match = strongest(answer.layout, answer.matched)[: len(asked)].float().sigmoid()
        matched = dict.fromkeys(query.labels)
        for index, probability in zip(asked, match.tolist(), strict=True):
            matched[query.labels[index]] = probability

    result = Segmentation(
        image=picture,
        words=query.labels,
        labels=labels.cpu().numpy(),
        confidence=best.cpu().numpy(),
        background=query.background,
        scores=scores,
        token_saliency=saliency,
        things=things,
        matched=matched,
    )
    if query.background == FOREGROUND:
        result.labels[~result.foreground] = BACKGROUND
    return result


def same_labels(
    predictions: Sequence[Prediction], labels: int, fill: float
) -> tuple[list[Prediction], Int[Tensor, " m"]]:
    """Return predictions of the same labels, and these: all that some view found likely.

    A view gives `fill` to the labels that only others chose. Memory so does not grow with labels
    that no view chose (decision D32).
    """
    chosen = [prediction.chosen for prediction in predictions if prediction.chosen is not None]
    if not chosen:
        device = predictions[0].logits.device
        return list(predictions), torch.arange(labels, device=device)
    union = torch.cat([each.flatten() for each in chosen]).unique()
    placed = [
        prediction._replace(chosen=torch.searchsorted(union, own))
        for prediction, own in zip(predictions, chosen, strict=True)
    ]
    return [prediction.whole(len(union), fill) for prediction in placed], union


def _users(labels: Int[Tensor, " m"], count: int) -> list[int]:
    """Return those of the labels that are the user's own, and none of the background."""
    return [index for index in labels.tolist() if index < count]
