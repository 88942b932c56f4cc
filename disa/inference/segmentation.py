"""One picture's result, in the caller's words: labels (H, W), scores (t, H, W), saliency and foreground (H, W)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disa.data.images import Pixels
from disa.errors import DisaError
from disa.inference.labels import Background

Array = NDArray[Any]
BACKGROUND = -1  # in `labels`, where a background policy found none of the words
FOREGROUND_DENSITY = (
    1.5  # foreground.py's density above which a pixel is foreground; best on picturebook
)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the model says about one picture. Everything has the picture's own size; `words` are the caller's."""

    image: Pixels  # (H, W, 3)
    words: tuple[str, ...]
    labels: Array  # (H, W) int32: index into `words`, or -1 where a background policy found none of them
    confidence: Array  # (H, W) float32 in 0..1: the best score, background words included
    background: Background = None  # the policy of the call
    scores: Array | None = None  # (t, H, W) float32 in 0..1 per label, not competing; if asked for
    matched: dict[str, float] | None = (
        None  # probability per label that it is in the picture at all (ITM)
    )
    token_saliency: Array | None = None  # (t, h, w) >= 0, as the model gives it
    token_density: Array | None = None  # (h, w) of foreground.py
    source: str | None = None  # the file it came from

    @property
    def saliency(self) -> Mapping[str, Array]:
        """Where each label looks: word -> (H, W) float32, its own peak at 1. `matched` says whether it is there.

        Raises `DisaError` for a model without the SDM.
        """
        if self.token_saliency is None:
            raise DisaError(
                "saliency needs a model with the SDM; this one has none (disentangle=False)"
            )
        return _SaliencyMaps(self.words, self.token_saliency, self.labels.shape)

    @property
    def foreground(self) -> Array:
        """Return (H, W) bool: the things that the matching labels point at, of whatever class (foreground.py).

        Raises `DisaError` for a model without the SDM.
        """
        if self.token_density is None:
            raise DisaError(
                "the foreground mask needs a model with the SDM; this one has none (disentangle=False)"
            )
        return _enlarged(self.token_density, self.labels.shape) > FOREGROUND_DENSITY

    @property
    def areas(self) -> dict[str, int]:
        """Pixels of each word."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.words))
        return {word: int(count) for word, count in zip(self.words, counts, strict=True)}

    @property
    def mean_scores(self) -> dict[str, float | None]:
        """Mean score of each word over the pixels that it won, in 0..1; None where it won none."""
        inside = self.labels >= 0
        sums = np.bincount(
            self.labels[inside], weights=self.confidence[inside], minlength=len(self.words)
        )
        return {
            word: float(total / area) if area else None
            for (word, area), total in zip(self.areas.items(), sums, strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain data: size, and per word its area in pixels, share of the picture, mean score and match."""
        height, width = self.labels.shape
        means = self.mean_scores
        words = [
            {
                "word": word,
                "index": index,
                "area": area,
                "share": area / (height * width),
                "mean_score": means[word],
                "matched": None if self.matched is None else self.matched[word],
            }
            for index, (word, area) in enumerate(self.areas.items())
        ]
        empty = int((self.labels == BACKGROUND).sum())
        background = {"policy": self.background, "area": empty, "share": empty / (height * width)}
        return {
            "image": self.source,
            "width": width,
            "height": height,
            "words": words,
            "background": background,
        }

    def save(
        self,
        folder: str | Path,
        stem: str | None = None,
        *,
        saliency: bool = False,
        beside: bool = False,
    ) -> list[Path]:
        """Write STEM_overlay.png, STEM_labels.png and STEM.json (and more if asked for); return the paths.

        `stem` is the source file's unless given. Scores, where kept, go to STEM_scores.npz. Each file appears whole or
        not at all. Raises `DisaError` if the folder cannot be written.
        """
        from disa.inference.saving import save

        return save(self, Path(folder), stem, saliency=saliency, beside=beside)

    def plot(self) -> Any:
        """Return a matplotlib figure of the picture and its segmentation, for notebooks.

        Raises `DisaError` if matplotlib, an extra, is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise DisaError(
                "plot() needs matplotlib: pip install 'disa[plot]'; save() works without it"
            ) from None
        from disa.inference.render import overlay

        drawn = overlay(self.image, self.labels, self.words, beside=True)
        figure = Figure(
            figsize=(drawn.width / 100, drawn.height / 100), dpi=100, layout="constrained"
        )
        axes = figure.add_subplot()
        axes.imshow(np.asarray(drawn))
        axes.set_axis_off()
        return figure


class _SaliencyMaps(Mapping[str, Array]):
    """Maps made when asked for: all of them at full size would fill the memory of a call with many labels."""

    def __init__(self, words: tuple[str, ...], tokens: Array, shape: tuple[int, ...]) -> None:
        self._words, self._tokens, self._shape = words, tokens, shape

    def __getitem__(self, word: str) -> Array:
        if word not in self._words:
            raise KeyError(f"{word!r} is none of the labels {', '.join(self._words)}")
        tokens = self._tokens[self._words.index(word)]
        peak = tokens.max()
        return _enlarged(tokens / peak if peak > 0 else tokens, self._shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)


def _enlarged(tokens: Array, shape: tuple[int, ...]) -> Array:
    """Resize a map (h, w) to (H, W), bilinear."""
    image = Image.fromarray(tokens.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
