"""From pictures and words to segmentations: (images, labels) -> Segmentation. Owns batches and words.

The model sees views of one size per batch and no words; everything that belongs to a call stays in the call.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, overload

import numpy as np
import torch
from huggingface_hub import HfApi
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from disa.data.images import MAX_PIXELS, Pixels, read_image
from disa.errors import DisaError
from disa.inference.answers import Answer
from disa.inference.foreground import foreground_density
from disa.inference.labels import SALIENCY, Background, parse_background, parse_labels
from disa.inference.protocol import Protocol
from disa.inference.segmentation import BACKGROUND, Segmentation
from disa.inference.text import TextEncoder
from disa.inference.windows import Layout, stitch, strongest
from disa.model.dense import DenseClip
from disa.model.disa import Disa, Prediction
from disa.running.devices import choose_device
from disa.weights.load import load as load_weights
from disa.weights.model_folder import save

BATCH = 8  # views that go through the model together, fewer where the labels are many
BATCH_LABELS = 256  # labels times views of a batch, about: its memory grows with both
MAX_ANSWER = (
    4_000_000_000  # bytes of one picture's logits: one call shall not fill a laptop's memory
)
ImageLike = str | PathLike[str] | Image.Image | NDArray[Any] | Tensor


class Segmenter:
    """Give every pixel one of the words of a call. Made by `disa.load`."""

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

    @overload
    def __call__(
        self,
        image: list[Any] | tuple[Any, ...],
        labels: str | Sequence[str],
        *,
        scores: bool = ...,
        background: int | float | str | Sequence[str] | None = ...,
        templates: str | Sequence[str] | None = ...,
        size: int | None = ...,
        protocol: str = ...,
        overlap: int | float = ...,
        max_pixels: int = ...,
    ) -> list[Segmentation]: ...
    @overload
    def __call__(
        self,
        image: ImageLike,
        labels: str | Sequence[str],
        *,
        scores: bool = ...,
        background: int | float | str | Sequence[str] | None = ...,
        templates: str | Sequence[str] | None = ...,
        size: int | None = ...,
        protocol: str = ...,
        overlap: int | float = ...,
        max_pixels: int = ...,
    ) -> Segmentation: ...

    def __call__(
        self,
        image: object,
        labels: str | Sequence[str],
        *,
        scores: bool = False,
        background: int | float | str | Sequence[str] | None = None,
        templates: str | Sequence[str] | None = None,
        size: int | None = None,
        protocol: str = "whole",
        overlap: int | float = 1 / 3,
        max_pixels: int = MAX_PIXELS,
    ) -> Segmentation | list[Segmentation]:
        """Segment one image, or a list of images of any sizes, by the labels of this call.

        image: path, PIL image, array or tensor (see `images.read_image`), or a list of them, answered in its order.
        labels: "house, boat|ship, sea" or a list; `|` separates synonyms of one label.
        scores: keep every label's probability per pixel (t, H, W) in the result.
        background: None, a threshold in 0..1, "saliency", or background words (see `labels.parse_background`).
        templates: prompts such as "a picture of a {}", or the name of a published set (templates.json), in place
            of the model's own.
        size: pixels of the picture's short side; more shows finer detail and takes longer. Default: with "whole" the
            model's own, with "windows" the picture's.
        protocol: "whole", the picture in one view; "windows", sliding windows of the model's own size, for large
            pictures; "cat-seg", the baseline's published protocol (four windows and an overview, 640 x 640).
        overlap: share of a window's side that it shares with the next one, with "windows".
        Raises `DisaError` for input that is none of these.
        """
        words = parse_labels(labels)
        policy = parse_background(background, words)
        shown = Protocol(protocol, size, overlap)
        text = self.embed(words, policy, templates, shown)
        sources = list(image) if isinstance(image, (list, tuple)) else [image]
        pictures = [read_image(source, max_pixels) for source in sources]
        results: dict[int, Segmentation] = {}
        with torch.inference_mode():
            for index, answer in self._answers(pictures, text, shown):
                picture, name = pictures[index], _name(sources[index])
                results[index] = _segmentation(answer, picture, words, policy, scores, name)
        done = [results[index] for index in range(len(pictures))]
        return done if isinstance(image, (list, tuple)) else done[0]

    def embed(
        self,
        words: tuple[str, ...],
        policy: Background,
        templates: str | Sequence[str] | None,
        protocol: Protocol,
    ) -> Float[Tensor, "t p d"]:
        """Embed the words of a call and those of its background; embeddings are kept for the next call.

        Raises `DisaError` for what suits no picture: a policy or a size that the model cannot do, a label too long.
        """
        if policy == SALIENCY and not self.model.config.disentangle:
            raise DisaError(
                'background "saliency" needs a model with the SDM; this one has none (disentangle=False)'
            )
        side = self.model.config.backbone_image_size
        protocol.layout(side, side, side, self.model.backbone.patch_size)
        return self.text(words + policy if isinstance(policy, tuple) else words, templates)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write model and tokenizer as a folder that `load` reads. Raises `DisaError` if it cannot be written."""
        save(self.model, Path(folder), tokenizer=self.text.tokenizer)

    def push_to_hub(
        self, repository: str, *, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload model, tokenizer and model card to "owner/name" on the Hub, made if need be; return the commit's URL.

        `load("owner/name")` gets them back. Needs `hf auth login`, or a token.
        """
        api = HfApi(token=token)
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(
                api.upload_folder(
                    repo_id=repository, folder_path=folder, commit_message="Upload by disa"
                )
            )

    def best_labels(
        self, picture: Pixels, text: Float[Tensor, "t p d"], protocol: Protocol
    ) -> Int[Tensor, "H W"]:
        """Return the index of the likeliest embedding at every pixel, for callers that own the words themselves."""
        with torch.inference_mode():
            ((_, answer),) = self._answers([picture], text, protocol)
            return answer.best_label(picture.shape[:2])[0]

    def _answers(
        self, pictures: Sequence[Pixels], text: Float[Tensor, "t p d"], protocol: Protocol
    ) -> Iterator[tuple[int, Answer]]:
        """Yield the model's answer to every picture with its index; pictures of one view go through together."""
        side, patch = self.model.config.backbone_image_size, self.model.backbone.patch_size
        batch = max(1, min(BATCH, BATCH_LABELS // len(text)))
        alike: dict[Layout, list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            height, width, _ = picture.shape
            alike[protocol.layout(height, width, side, patch)].append(index)
        for layout, indices in alike.items():
            _check_size(layout, len(text), patch)
            together = batch if layout.views == 1 else 1
            for start in range(0, len(indices), together):
                group = indices[start : start + together]
                shown = (
                    view
                    for index in group
                    for view in protocol.views(pictures[index], layout, batch)
                )
                parts = shown if layout.views > 1 else iter([torch.cat(list(shown))])
                logits, saliency, matched = self._predict(parts, text)
                for row, index in enumerate(group):
                    own = slice(row * layout.views, (row + 1) * layout.views)
                    if saliency is None or matched is None:
                        yield index, Answer(layout, logits[own], None, None)
                    else:
                        yield index, Answer(layout, logits[own], saliency[own], matched[own])

    def _predict(
        self, parts: Iterator[Tensor], text: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return logits, saliency and match of all views, which go through the model part by part."""
        found: list[Prediction] = [
            self.model(views.to(self.device, self.dtype), text) for views in parts
        ]
        logits = torch.cat([one.logits.float() for one in found])
        saliency = [one.saliency for one in found if one.saliency is not None]
        matched = [one.matched for one in found if one.matched is not None]
        return (
            logits,
            torch.cat(saliency) if saliency else None,
            torch.cat(matched) if matched else None,
        )


def _check_size(layout: Layout, labels: int, patch: int) -> None:
    tokens = layout.view[0] * layout.view[1] // patch**2
    needed = layout.views * labels * 16 * tokens * 4
    if needed > MAX_ANSWER:
        raise DisaError(
            f"{labels} labels in {layout.views} views take {needed / 1e9:.1f} GB, more than {MAX_ANSWER / 1e9:.0f}; "
            "choose a smaller size, less overlap or fewer labels"
        )


def _segmentation(
    answer: Answer,
    picture: Pixels,
    words: tuple[str, ...],
    policy: Background,
    keep_scores: bool,
    source: str | None,
) -> Segmentation:
    """Take the answer to the picture's own size and apply the background policy."""
    shape = picture.shape[:2]
    labels, best = answer.best_label(shape)
    labels[labels >= len(words)] = BACKGROUND  # won by a background word
    if isinstance(policy, float):
        labels[best < policy] = BACKGROUND
    saliency, matched, density, scores = None, None, None, None
    if answer.saliency is not None and answer.matched is not None:
        tokens = stitch(answer.layout, answer.saliency)[: len(words)]
        match = strongest(answer.layout, answer.matched)[: len(words)]
        saliency = tokens.float().cpu().numpy()
        matched = match.float().sigmoid().tolist()
        density = foreground_density(tokens[None], match[None])[0].cpu().numpy()
    if keep_scores:
        scores = np.empty((len(words), *shape), np.float32)
        for first, maps in answer.probabilities(len(words), shape):
            scores[first : first + len(maps)] = maps.cpu().numpy()
    result = Segmentation(
        image=picture,
        words=words,
        labels=labels.cpu().numpy(),
        confidence=best.cpu().numpy(),
        background=policy,
        scores=scores,
        token_saliency=saliency,
        token_density=density,
        matched=None if matched is None else dict(zip(words, matched, strict=True)),
        source=source,
    )
    if policy == SALIENCY:
        result.labels[~result.foreground] = BACKGROUND
    return result


def _name(source: object) -> str | None:
    return fspath(source) if isinstance(source, (str, PathLike)) else None


def load(
    name_or_folder: str | PathLike[str] = "mini",
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
) -> Segmenter:
    """Return a segmenter for a model, whatever it is given by.

    A bundled model ("mini"); a folder that disa wrote; published weights ("cat-seg-b", "cat-seg-l"), fetched and
    converted on first use; or CLIP alone, without training: "clip-vit-b-16" and the like, a transformers folder, a Hub
    id, or OpenAI's .pt file. device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps". dtype: fp32
    unless given, whatever the file holds. Raises `DisaError` for an unknown model, a damaged or foreign file, a Hub
    that cannot be reached, and a device that is not there.
    """
    where = choose_device(device)
    model, tokenizer = load_weights(name_or_folder)
    return Segmenter(model, tokenizer, where, dtype)
