"""What may be chosen of an evaluation; another choice is another number."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a model is measured."""

    # Which part of the data set: `val`, or `train` where there is one.
    split: str = "val"
    # The first images only, for a quick look. Default: all; 500 scenes of picturebook.
    limit: int | None = None
    # How a picture is shown to the model: `cat-seg`, as published results are measured; `whole`;
    # `windows`, sliding. Default: cat-seg for the benchmarks, whole for picturebook and a folder.
    protocol: str | None = None
    # Pixels of the picture's short side. Default: the protocol's own.
    size: int | None = None
    # Pixels of the side of picturebook's scenes. Default: the model's own.
    scene_size: int | None = None
    # Of many labels, compute only so many: those that some token of the picture resembles most.
    # Default: all.
    gate: int | None = None
    # Prompt all names of a category, averaged; published results use the first name only.
    synonyms: bool = False
    # Measure the model's CLIP alone, without the head.
    dense_clip: bool = False
    # Numbers inside the model.
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
