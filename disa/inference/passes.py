"""Views through a model: as many together as memory allows, and each one's answer kept apart."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from disa.data.images import Pixels
from disa.inference.answer import Answer, computed_labels
from disa.inference.gate import Gate
from disa.inference.memory import Needs, check_memory, fitting
from disa.inference.protocol import Layout, Protocol
from disa.inference.windows import views
from disa.model.dense import DenseClip
from disa.model.disa import Disa, Prediction
from disa.weights.exported import ExportedModel

BATCH = 8  # views that go through the model together, fewer where the labels are many
BATCH_LABELS = 256  # labels times views of a batch, about: its memory grows with both


class Passes:
    """Take views through a model on its device, within the memory of the call."""

    def __init__(
        self,
        model: Disa | DenseClip | ExportedModel,
        device: torch.device,
        dtype: torch.dtype,
        vision_width: int,
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.vision_width = vision_width

    def groups(
        self, layouts: Sequence[Layout], labels: int = 0, gate: Gate | None = None
    ) -> Iterator[tuple[Layout, list[int]]]:
        """Yield the indices of pictures that go through the model together: those of one view.

        `labels` are asked for then and there.
        """
        by_layout: dict[Layout, list[int]] = defaultdict(list)
        for index, layout in enumerate(layouts):
            by_layout[layout].append(index)

        for layout, indices in by_layout.items():
            # Every picture behind a gate has labels of its own.
            together = 1
            if layout.views == 1 and not (gate is not None and gate.closes):
                needs = self._needs(layout)
                answers = self._computed(labels) * needs.logits + labels * needs.tokens
                together = fitting(needs.view + answers, BATCH)
            for start in range(0, len(indices), together):
                yield layout, indices[start : start + together]

    def layout(self, protocol: Protocol, picture: Pixels) -> Layout:
        """Return how a picture is shown."""
        height, width, _ = picture.shape
        config = self.model.config
        return protocol.layout(height, width, config.backbone_image_size, self.model.patch_size)

    def looks(
        self, pictures: Sequence[Pixels], layout: Layout, protocol: Protocol
    ) -> Iterator[Any]:
        """Yield what the model sees in all views, which go through it a batch at a time."""
        parts: Iterator[Tensor] = (
            part
            for picture in pictures
            for part in views(protocol, picture, layout, self._together(layout))
        )
        if layout.views == 1:
            parts = iter([torch.cat(list(parts))])
        for part in parts:
            yield self.model.look(part.to(self.device, self.dtype))

    def answer(
        self, layout: Layout, looks: Iterable[Any], text: Float[Tensor, "t p d"], gate: Gate
    ) -> Answer:
        """Return what all views say; fewer go together where the labels are many."""
        asked = torch.arange(len(text), device=text.device)
        if gate.closes:
            looks = list(looks)
            best = torch.stack([self.model.presence(look, text).amax(0) for look in looks]).amax(0)
            asked = gate.choose(best)
            text = text[asked]

        # Each view may have other likeliest labels.
        config = self.model.config
        computed = self._computed(len(text))
        needs = self._needs(layout)
        check_memory(needs, layout, len(text), computed)

        most = min(BATCH, BATCH_LABELS // len(text))
        rows = fitting(computed * needs.label + len(text) * needs.tokens, most)
        starts = range(0, BATCH, rows)
        predictions: list[Prediction] = []
        for look in looks:
            for part in (part_of(look, slice(start, start + rows)) for start in starts):
                if part is None:
                    continue
                if layout.overview and predictions:
                    # Its saliency stands for the picture, and it is the last.
                    predictions[-1] = predictions[-1]._replace(saliency=None)
                predictions.append(self.model.answer(part, text))
        chosen = [own for each in predictions if each.chosen is not None for own in each.chosen]
        labels, places = computed_labels(chosen, asked)
        return Answer(
            layout,
            [logits.float() for each in predictions for logits in each.logits],
            labels,
            asked,
            joined([each.saliency for each in predictions if each.saliency is not None]),
            joined([each.matched for each in predictions if each.matched is not None]),
            joined([each.things for each in predictions if each.things is not None]),
            places,
            config.dropped_logit,
        )

    def _computed(self, labels: int) -> int:
        """Return how many of the labels the model gives logits for, in each view."""
        if isinstance(self.model, DenseClip):
            return labels
        return min(labels, self.model.config.max_categories)

    def _needs(self, layout: Layout) -> Needs:
        patch = self.model.patch_size
        return Needs.of(self.model.config, self.vision_width, patch, layout, self.dtype)

    def _together(self, layout: Layout) -> int:
        """Return how many views go through the model together."""
        return fitting(self._needs(layout).view, BATCH)


def part_of(look: Any, part: slice) -> Any:
    """Return some views of what a model sees; None where there are none."""
    if isinstance(look, Tensor):
        return look[part] if len(look[part]) else None
    if look is None:
        return None
    rows = [part_of(value, part) for value in look]
    if rows[0] is None:
        return None
    return look._make(rows) if hasattr(look, "_make") else tuple(rows)


def joined(looks: Sequence[Any]) -> Any:
    """Return several looks, or tensors, as one of all their views, in memory of its own.

    None where there are none.
    """
    if not looks or looks[0] is None:
        return None
    first = looks[0]
    if isinstance(first, Tensor):
        return torch.cat(list(looks))
    parts = [joined(values) for values in zip(*looks, strict=True)]
    return first._make(parts) if hasattr(first, "_make") else tuple(parts)


def size_of(look: Any) -> int:
    """Return the memory of what a model sees."""
    if isinstance(look, Tensor):
        return look.nbytes
    return 0 if look is None else sum(map(size_of, look))
