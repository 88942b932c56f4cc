"""From pictures and labels to segmentations: the model with everything around it.

The model sees views of one size per batch and no labels; what belongs to a call stays in the call.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import HfApi
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import interpolate

from disa.data.images import Pixels, read_image
from disa.errors import DisaError
from disa.inference.gate import Gate, gate_of
from disa.inference.labels import FOREGROUND
from disa.inference.protocol import Layout, Protocol
from disa.inference.request import Query, parse_query
from disa.inference.segmentation import BACKGROUND, NO_THINGS, Segmentation
from disa.inference.text import TextEncoder
from disa.inference.text_store import TextStore
from disa.inference.windows import blend, stitch, strongest, views
from disa.model.dense import DenseClip
from disa.model.disa import Disa, Prediction
from disa.running.devices import choose_device
from disa.running.files import MAX_PIXELS, cache_folder
from disa.weights.load import load as load_weights
from disa.weights.model_folder import save

BATCH = 8  # views that go through the model together, fewer where the labels are many
BATCH_LABELS = 256  # labels times views of a batch, about: its memory grows with both
CHUNK = 2**22  # pixels times labels that are resized and compared at once
# Bytes of one picture's logits: one call shall not fill a laptop's memory.
MAX_LOGITS = 4_000_000_000


class Segmenter:
    """Give every pixel one of the labels of a call. Made by `disa.load`."""

    def __init__(
        self,
        model: Disa | DenseClip,
        tokenizer: Tokenizer,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model.to(device=device, dtype=dtype).eval()
        self.device = device
        self.dtype = dtype
        self.text = TextEncoder(self.model, tokenizer)

    def __call__(
        self,
        image: Any,
        labels: str | Sequence[str] | Query,
        *,
        protocol: str = "whole",
        size: int | None = None,
        overlap: int | float = 1 / 3,
        **options: Any,
    ) -> Any:
        """Segment one image, or a list of images of any sizes, by the labels of this call.

        image: path, PIL image, array or tensor (`images.read_image`), or a list of them; a list is
        answered by a list in its order, anything else by one `Segmentation`.
        labels: "house, boat|ship, sea" or a list, `|` between synonyms; or a parsed `Query`, which
        holds all other options.
        protocol: "whole", the picture in one view; "windows", sliding windows of the model's own
        size, for large pictures; "cat-seg", the baseline's published protocol.
        size: pixels of the picture's short side; more shows finer detail and takes longer. By
        default the model's own with "whole", the picture's with "windows".
        overlap: share of a window's side that it shares with the next one, with "windows".
        options: `scores`, `background`, `templates`, `max_pixels` (`request.parse_query`).
        Raises `DisaError` for input that is none of these. To ask one picture for several sets of
        labels, `open` it.
        """
        query = labels
        if not isinstance(query, Query):
            shown = Protocol(protocol, size, overlap)
            query = parse_query(query, protocol=shown, **options)
        text = self.embed(query)

        several = isinstance(image, (list, tuple))
        sources = list(image) if several else [image]
        pictures = [read_image(source, query.max_pixels) for source in sources]
        results: dict[int, Segmentation] = {}
        with torch.inference_mode():
            for index, answer in self._answers(pictures, text, query.protocol, gate_of(query)):
                result = _segmentation(answer, pictures[index], query)
                results[index] = replace(result, source=_file_name(sources[index]))
        ordered = [results[index] for index in range(len(pictures))]
        return ordered if several else ordered[0]

    def open(
        self,
        image: Any,
        *,
        protocol: str | Protocol = "whole",
        size: int | None = None,
        overlap: int | float = 1 / 3,
        max_pixels: int = MAX_PIXELS,
    ) -> "Session":
        """Look at one image, to be asked for labels as often as one likes.

        All that no label changes is computed here and kept. The arguments are those of a call.
        Raises `DisaError` for an image that cannot be read, and for a size that the model cannot
        do.
        """
        shown = protocol
        if not isinstance(shown, Protocol):
            shown = Protocol(shown, size, overlap)
        picture = read_image(image, max_pixels)
        layout = self._layout(shown, picture)
        with torch.inference_mode():
            looks = list(self._looks([picture], layout, shown))
        return Session(self, picture, _file_name(image), shown, layout, looks)

    def embed(self, query: Query) -> Float[Tensor, "t p d"]:
        """Embed the labels of a query and those of its background, kept for the next call.

        Raises `DisaError` for what suits no picture: a background or a size that the model cannot
        do, a label that is too long.
        """
        config = self.model.config
        if query.background == FOREGROUND and not config.things:
            raise DisaError(NO_THINGS)
        side = self.model.config.backbone_image_size
        query.protocol.layout(side, side, side, self.model.backbone.patch_size)
        labels = query.labels
        if isinstance(query.background, tuple):
            labels += query.background
        return self.text(labels, query.templates)

    def best_labels(
        self,
        picture: Pixels,
        text: Float[Tensor, "t p d"],
        protocol: Protocol,
        gate: int | None = None,
    ) -> Int[Tensor, "H W"]:
        """Return the index of the likeliest embedding at every pixel, among the gate's."""
        gated = Gate(gate, len(text))
        with torch.inference_mode():
            _, answer = next(self._answers([picture], text, protocol, gated))
            return answer.best_label(picture.shape[:2])[0]

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write a folder that `load` reads. Raises `DisaError` if it cannot be written."""
        save(self.model, Path(folder), tokenizer=self.text.tokenizer)

    def push_to_hub(
        self, repository: str, *, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload model, tokenizer and model card to "owner/name"; return the commit's URL.

        The repository is made if need be, and `load("owner/name")` gets them back. Needs
        `hf auth login`, or a token.
        """
        api = HfApi(token=token)
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Upload by disa"
            )
            return str(commit)

    def _answers(
        self,
        pictures: Sequence[Pixels],
        text: Float[Tensor, "t p d"],
        protocol: Protocol,
        gate: Gate,
    ) -> Iterator[tuple[int, "Answer"]]:
        """Yield each picture's index and answer; pictures of one view go through together."""
        by_layout: dict[Layout, list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            by_layout[self._layout(protocol, picture)].append(index)

        for layout, indices in by_layout.items():
            # Every picture behind a gate has labels of its own.
            together = BATCH if layout.views == 1 and not gate.closes else 1
            for start in range(0, len(indices), together):
                group = indices[start : start + together]
                # Views are made when the model asks for them: not all are held at once.
                looks = self._looks([pictures[index] for index in group], layout, protocol)
                answer = self._answer(layout, looks, text, gate)
                for row, index in enumerate(group):
                    yield index, answer.of(slice(row * layout.views, (row + 1) * layout.views))

    def _layout(self, protocol: Protocol, picture: Pixels) -> Layout:
        """Return how a picture is shown."""
        height, width, _ = picture.shape
        config = self.model.config
        return protocol.layout(
            height, width, config.backbone_image_size, self.model.backbone.patch_size
        )

    def _looks(
        self, pictures: Sequence[Pixels], layout: Layout, protocol: Protocol
    ) -> Iterator[Any]:
        """Yield what the model sees in all views, which go through it a batch at a time."""
        parts: Iterator[Tensor] = (
            part for picture in pictures for part in views(protocol, picture, layout, BATCH)
        )
        if layout.views == 1:
            parts = iter([torch.cat(list(parts))])
        for part in parts:
            yield self.model.look(part.to(self.device, self.dtype))

    def _answer(
        self, layout: Layout, looks: Iterable[Any], text: Float[Tensor, "t p d"], gate: Gate
    ) -> "Answer":
        """Return what all views say; fewer go together where the labels are many."""
        asked = torch.arange(len(text), device=text.device)
        if gate.closes:
            looks = list(looks)
            best = torch.stack([self.model.presence(look, text).amax(0) for look in looks]).amax(0)
            asked = gate.choose(best)
            text = text[asked]

        # The decoder gives 4 x 4 numbers for a token, or one for each of its pixels. Each view may
        # have other likeliest labels.
        config = self.model.config
        cell = 1.0 if config.decode_enlarge else self.model.backbone.patch_size / 4
        _check_memory(layout, min(len(text), layout.views * config.max_categories), cell)

        rows = max(1, min(BATCH, BATCH_LABELS // len(text)))
        starts = range(0, BATCH, rows)
        predictions = [
            self.model.answer(part, text)
            for look in looks
            for part in (_rows(look, slice(start, start + rows)) for start in starts)
            if part is not None
        ]
        predictions, computed = _same_labels(predictions, len(text), config.dropped_logit)
        logits = torch.cat([prediction.logits.float() for prediction in predictions])
        saliency, matched, _, things, _ = (
            None if values[0] is None else torch.cat(list(values))
            for values in zip(*(prediction[1:] for prediction in predictions), strict=True)
        )
        return Answer(layout, logits, asked[computed], asked, saliency, matched, things)


class Session:
    """One picture that a model has looked at. Made by `Segmenter.open`."""

    def __init__(
        self,
        segmenter: Segmenter,
        picture: Pixels,
        source: str | None,
        protocol: Protocol,
        layout: Layout,
        looks: list[Any],
    ) -> None:
        self.segmenter = segmenter
        self.picture = picture
        self.source = source
        self.protocol = protocol
        self.layout = layout
        self.looks = looks

    def __call__(self, labels: str | Sequence[str] | Query, **options: Any) -> Segmentation:
        """Segment the picture by these labels, as a call of the segmenter does.

        labels: as there, or a parsed `Query`, whose protocol must be the session's. options:
        `scores`, `background`, `templates`, `gate` (`request.parse_query`). Raises `DisaError` for
        labels and options that make no sense.
        """
        query = labels
        if not isinstance(query, Query):
            query = parse_query(query, protocol=self.protocol, **options)
        if query.protocol != self.protocol:
            raise DisaError(f"the picture was opened for {self.protocol}, not {query.protocol}")
        text = self.segmenter.embed(query)
        with torch.inference_mode():
            answer = self.segmenter._answer(self.layout, self.looks, text, gate_of(query))
            return replace(_segmentation(answer, self.picture, query), source=self.source)


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
            score, index = maps.max(0)
            is_better = score > best
            labels = torch.where(is_better, index.int() + first, labels)
            best = torch.where(is_better, score, best)
        return self.labels.int()[labels], best

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


def load(
    name_or_folder: str | PathLike[str] = "mini",
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
) -> Segmenter:
    """Return a segmenter for a model, whatever it is given by.

    A bundled model ("mini"); a folder that disa wrote; published weights ("cat-seg-b",
    "cat-seg-l"), fetched and converted on first use; or CLIP alone, without training:
    "clip-vit-b-16" and the like, a transformers folder, a Hub id, or OpenAI's .pt file. device:
    "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps". dtype: 32 bit unless given,
    whatever the file holds. Raises `DisaError` for an unknown model, a damaged or foreign file, a
    Hub that cannot be reached, and a device that is not there.
    """
    chosen = choose_device(device)
    model, tokenizer = load_weights(name_or_folder)
    segmenter = Segmenter(model, tokenizer, chosen, dtype)
    segmenter.text.store = TextStore(cache_folder() / "text", segmenter.model, tokenizer)
    return segmenter


def _check_memory(layout: Layout, labels: int, cell: float) -> None:
    """Refuse logits that would fill the memory: 4 bytes per label and cell of `cell` pixels."""
    cells = layout.view[0] * layout.view[1] / cell**2
    needed = layout.views * labels * cells * 4
    if needed > MAX_LOGITS:
        raise DisaError(
            f"{labels} labels in {layout.views} views take {needed / 1e9:.1f} GB, more than "
            f"{MAX_LOGITS / 1e9:.0f}; choose a smaller size, less overlap or fewer labels"
        )


def _segmentation(answer: Answer, picture: Pixels, query: Query) -> Segmentation:
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


def _users(labels: Int[Tensor, " m"], count: int) -> list[int]:
    """Return those of the labels that are the user's own, and none of the background."""
    return [index for index in labels.tolist() if index < count]


def _same_labels(
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


def _rows(look: Any, part: slice) -> Any:
    """Return some views of what a model sees; None where there are none."""
    if isinstance(look, Tensor):
        return look[part] if len(look[part]) else None
    if look is None:
        return None
    rows = [_rows(value, part) for value in look]
    if rows[0] is None:
        return None
    return look._make(rows) if hasattr(look, "_make") else tuple(rows)


def _file_name(source: object) -> str | None:
    return fspath(source) if isinstance(source, (str, PathLike)) else None
