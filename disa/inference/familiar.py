"""Whether pictures and labels are of the drawn world, which bundled models know alone (D126)."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from disa.data.images import Pixels
from disa.inference.segmenter import Segmenter
from disa.picturebook.nouns import NOUNS, SYNONYMS, without_noun
from disa.running.lists import first_of

LABELS = tuple("|".join((noun, *SYNONYMS.get(noun, ()))) for noun in NOUNS)
# The model's mean probability for the best of its own labels. It is learned from drawings, where it
# says how many pixels are named right: this model expects one wrong in ten.
FAMILIAR = 0.9
LABELS_SHOWN = 8  # of those that no caption had
# Pixels of the long side of what is judged; more changes nothing (docs/log/pictures.md).
SIDE = 256


def untaught(model: str, labels: Sequence[str]) -> list[str]:
    """Return a line on those labels that no caption can have taught a bundled model, if any."""
    strange = without_noun(labels)
    return [f"no caption of {model} had {first_of(strange, LABELS_SHOWN)}"] if strange else []


def familiarity(segmenter: Segmenter, picture: Pixels) -> float:
    """Return how sure a model of the drawn world is of its own nouns in a picture, in 0..1."""
    small = Image.fromarray(picture)
    small.thumbnail((SIDE, SIDE))
    return float(segmenter(np.asarray(small), LABELS).confidence.mean())
