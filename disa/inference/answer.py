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
from disa.inference.memory import HALF
from disa.inference.protocol import Layout
from disa.inference.request import Query
from disa.inference.segmentation import BACKGROUND, Segmentation
from disa.inference.windows import blend, stitch, strongest
from disa.model.few import share

CHUNK = 2**22  # pixels times labels that are resized and compared at once
COPIES = 8  # of a chunk that exist at once, about


class Answer(NamedTuple):
    """The model's outputs for every view of one picture; None where it has none.

    Labels are resized a few at a time, and a view keeps the logits of its own likeliest alone:
    memory does not grow with the number of labels (decision D32).
    """

    layout: Layout
    logits: Sequence[Float[Tensor, "m h4 w4"]]  # of every view
    labels: Int[Tensor, " u"]  # that some view computed, in the caller's order; no others
    asked: Int[Tensor, " t"]  # the labels of saliency and match
    saliency: Float[Tensor, "v t h w"] | None = None  # of the last view alone with an overview
    matched: Float[Tensor, "v t"] | None = None
    things: Float[Tensor, "v h4 w4"] | None = None
    # Places in `labels` of each view's logits, ascending; None: every view has all.
    places: Sequence[Int[Tensor, " m"]] | None = None
    fill: float = 0.0  # logit of the labels that only other views computed

    def by_picture(self) -> Iterator["Answer"]:
        """Yield the answer of each of the pictures whose views went through together."""
        views = self.layout.views
        for start in range(0, len(self.logits), views):
            yield self._of(slice(start, start + views))

    def _of(self, own: slice) -> "Answer":
        return self._replace(
            logits=self.logits[own],
            places=None if self.places is None else self.places[own],
            saliency=None if self.saliency is None else self.saliency[own],
            matched=None if self.matched is None else self.matched[own],
            things=None if self.things is None else self.things[own],
        )

    def best_label(self, shape: Sequence[int]) -> tuple[Int[Tensor, "H W"], Float[Tensor, "H W"]]:
        """Return the best label's index, the first of equals, and its probability at each pixel."""
        best = torch.full(tuple(shape), -1.0, device=self.labels.device)
        labels = torch.zeros_like(best, dtype=torch.int32)
        for first, maps in self.probabilities(len(self.labels), shape):
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
        chunk = min(CHUNK, share(HALF) // (4 * COPIES))
        step = max(1, chunk // max(shape[0] * shape[1], canvas))
        for first in range(0, count, step):
            maps = blend(self.layout, self._views(first, min(first + step, count)))
            large = interpolate(maps[None], tuple(shape), mode="bilinear", align_corners=False)
            yield first, large[0]

    def _views(self, first: int, last: int) -> Float[Tensor, "v m h4 w4"]:
        """Return the logits of some labels in all views, by their places in `labels`."""
        if self.places is None:
            return torch.stack([logits[first:last] for logits in self.logits])
        some = torch.full(
            (len(self.logits), last - first, *self.logits[0].shape[1:]), self.fill
        ).to(self.logits[0])
        for view, logits, places in zip(some, self.logits, self.places, strict=True):
            # The view's own labels among these.
            own = slice(*torch.searchsorted(places, places.new_tensor([first, last])).tolist())
            view[places[own] - first] = logits[own]
        return some


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


def computed_labels(
    chosen: Sequence[Int[Tensor, " m"]], every: Int[Tensor, " t"]
) -> tuple[Int[Tensor, " u"], list[Int[Tensor, " m"]] | None]:
    """Return the labels that some view chose, and the places of each view's own among them.

    Where no view had to choose, these are all labels, and there are no places.
    """
    if not chosen:
        return every, None
    union = torch.cat(list(chosen)).unique()
    return every[union], [torch.searchsorted(union, own) for own in chosen]


def _users(labels: Int[Tensor, " m"], count: int) -> list[int]:
    """Return those of the labels that are the user's own, and none of the background."""
    return [index for index in labels.tolist() if index < count]
