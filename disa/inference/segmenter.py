"""From pictures and words to segmentations: (images, labels) -> Segmentation. Owns resizing, batches and words.

The model sees one size per batch and no words; everything that belongs to a call stays in the call.
"""

from collections import defaultdict
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, overload

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from disa.data.images import MAX_PIXELS, Pixels, read_image
from disa.errors import DisaError
from disa.inference.foreground import foreground_density
from disa.inference.labels import SALIENCY, Background, parse_background, parse_labels
from disa.inference.segmentation import BACKGROUND, Segmentation
from disa.inference.text import TextEncoder
from disa.model.disa import Disa, Prediction

BATCH = 8  # images of one size that go through the model together
ImageLike = str | PathLike[str] | Image.Image | NDArray[Any] | Tensor
MAX_ASPECT = 8  # a longer picture is squeezed to this, or its long side would not fit into memory


class Segmenter:
    """Give every pixel one of the words of a call. Made by `disa.load`."""

    def __init__(
        self, model: Disa, tokenizer: Tokenizer, device: torch.device, dtype: torch.dtype = torch.float32
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
        max_pixels: int = MAX_PIXELS,
    ) -> Segmentation | list[Segmentation]:
        """Segment one image, or a list of images of any sizes, by the labels of this call.

        image: path, PIL image, array or tensor (see `images.read_image`), or a list of them, answered in its order.
        labels: "house, boat|ship, sea" or a list; `|` separates synonyms of one label.
        scores: keep every label's probability per pixel (t, H, W) in the result.
        background: None, a threshold in 0..1, "saliency", or background words (see `labels.parse_background`).
        templates: prompts such as "a picture of a {}" in place of the model's own.
        size: pixels of the picture's short side inside the model; more shows finer detail and takes longer.
        Raises `DisaError` for input that is none of these.
        """
        words = parse_labels(labels)
        policy = parse_background(background, words)
        if policy == SALIENCY and not self.model.config.disentangle:
            raise DisaError('background "saliency" needs a model with the SDM; this one has none (disentangle=False)')
        text = self.text(words + policy if isinstance(policy, tuple) else words, templates)
        sources = list(image) if isinstance(image, (list, tuple)) else [image]
        pictures = [read_image(source, max_pixels) for source in sources]
        results: list[Segmentation | None] = [None] * len(pictures)
        for batch, indices in self._batches(pictures, size):
            with torch.inference_mode():
                prediction = self.model(batch, text)
                for row, index in enumerate(indices):
                    results[index] = _segmentation(
                        prediction, row, pictures[index], words, policy, scores, _name(sources[index])
                    )
        done = [result for result in results if result is not None]
        return done if isinstance(image, (list, tuple)) else done[0]

    def _batches(self, pictures: Sequence[Pixels], size: int | None) -> list[tuple[Tensor, list[int]]]:
        """Group pictures that have the same size inside the model, at most `BATCH` together."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            groups[self.model_size(picture.shape[0], picture.shape[1], size)].append(index)
        parts = [
            (shape, indices[start : start + BATCH])
            for shape, indices in groups.items()
            for start in range(0, len(indices), BATCH)
        ]
        return [(self._pixels([pictures[i] for i in indices], shape), indices) for shape, indices in parts]

    def model_size(self, height: int, width: int, size: int | None = None) -> tuple[int, int]:
        """Return the model's (H, W) for a picture: short side `size`, the aspect kept, multiples of the patch."""
        patch = self.model.backbone.patch_size
        short = self.model.config.backbone_image_size if size is None else size
        if short < patch:
            raise DisaError(f"size {short} is smaller than one patch of the model; use at least {patch} pixels")
        scale = short / min(height, width)
        limit = short * MAX_ASPECT
        high, wide = (max(1, round(min(side * scale, limit) / patch)) * patch for side in (height, width))
        return high, wide

    def _pixels(self, pictures: Sequence[Pixels], shape: tuple[int, int]) -> Float[Tensor, "b 3 H W"]:
        """Resize pictures to one shape with Pillow, which gives the same on every device; values 0..255."""
        resized = [np.array(Image.fromarray(p).resize(shape[::-1], Image.Resampling.BICUBIC)) for p in pictures]
        batch = torch.from_numpy(np.stack(resized)).to(self.device, self.dtype)
        return rearrange(batch, "b H W rgb -> b rgb H W")


def _segmentation(
    prediction: Prediction,
    row: int,
    picture: Pixels,
    words: tuple[str, ...],
    policy: Background,
    keep_scores: bool,
    source: str | None,
) -> Segmentation:
    """Take one image of a batch to its own size and apply the background policy."""
    probabilities = prediction.logits[row].float().sigmoid()
    labels, best = _best_label(probabilities, picture.shape[:2])
    labels[labels >= len(words)] = BACKGROUND  # won by a background word
    if isinstance(policy, float):
        labels[best < policy] = BACKGROUND
    saliency, matched, density = None, None, None
    if prediction.saliency is not None and prediction.matched is not None:
        own = slice(row, row + 1), slice(0, len(words))
        saliency = prediction.saliency[own][0].float().cpu().numpy()
        matched = prediction.matched[own][0].float().sigmoid().tolist()
        density = foreground_density(prediction.saliency[own], prediction.matched[own])[0].cpu().numpy()
    result = Segmentation(
        image=picture,
        words=words,
        labels=labels.cpu().numpy(),
        confidence=best.cpu().numpy(),
        background=policy,
        scores=_resized(probabilities[: len(words)], picture.shape[:2]).cpu().numpy() if keep_scores else None,
        token_saliency=saliency,
        token_density=density,
        matched=None if matched is None else dict(zip(words, matched, strict=True)),
        source=source,
    )
    if policy == SALIENCY:
        result.labels[~result.foreground] = BACKGROUND
    return result


def _best_label(probabilities: Float[Tensor, "t h w"], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the best label's index and probability per pixel; one label at a time: memory does not grow with `t`."""
    best = _resized(probabilities[:1], shape)[0]
    labels = torch.zeros_like(best, dtype=torch.int32)
    for index in range(1, len(probabilities)):
        score = _resized(probabilities[index : index + 1], shape)[0]
        labels[score > best] = index
        best = torch.maximum(best, score)
    return labels, best


def _resized(maps: Float[Tensor, "t h w"], shape: Sequence[int]) -> Float[Tensor, "t H W"]:
    return torch.nn.functional.interpolate(maps[None], size=tuple(shape), mode="bilinear", align_corners=False)[0]


def _name(source: object) -> str | None:
    return fspath(source) if isinstance(source, (str, PathLike)) else None
