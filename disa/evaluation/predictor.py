"""The model as an evaluation sees it: picture -> category of every pixel. Words and protocol are settled beforehand."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from disa.data.images import Pixels
from disa.data.vocabulary import Vocabulary
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Settings:
    """What of an evaluation may be chosen; another choice is another number."""

    own: bool = False  # a folder of one's own, whatever its name
    split: str = "val"
    limit: int | None = None  # the first images only; None: all
    protocol: str = "cat-seg"  # see `inference.protocol`; published results are by "cat-seg" (D72)
    size: int | None = None  # pixels of the picture's short side; None: the protocol's own
    dtype: str = "fp32"
    synonyms: bool = (
        False  # prompt all names of a category, averaged; published results use the first only
    )
    dense_clip: bool = False  # the model's CLIP alone, without the head


class Predictor:
    """Loads the model and embeds the prompts when the first picture comes: a finished run needs neither."""

    def __init__(
        self, load: Callable[[], Segmenter], vocabulary: Vocabulary, settings: Settings
    ) -> None:
        """Raises `DisaError` for a protocol and a size that make no sense together."""
        self.load, self.vocabulary, self.settings = load, vocabulary, settings
        self.protocol = Protocol(settings.protocol, settings.size)
        self._ready: tuple[Segmenter, Tensor, Tensor] | None = None

    def __call__(self, picture: Pixels) -> Int[Tensor, "H W"]:
        """Return the index of the category that the best prompt of every pixel counts as, on the model's device."""
        if self._ready is None:
            segmenter = self.load()
            text = segmenter.text(self.vocabulary.prompts(self.settings.synonyms))
            self._ready = (
                segmenter,
                text,
                torch.tensor(self.vocabulary.scored, device=segmenter.device),
            )
        segmenter, text, scored = self._ready
        return scored[segmenter.best_labels(picture, text, self.protocol).long()]
