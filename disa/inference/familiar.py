"""Whether a picture is of the drawn world, by what a model of that world makes of it (D126)."""

import numpy as np
from PIL import Image

from disa.data.images import Pixels
from disa.inference.segmenter import Segmenter
from disa.picturebook.nouns import NOUNS, SYNONYMS

LABELS = tuple("|".join((noun, *SYNONYMS.get(noun, ()))) for noun in NOUNS)
# The model's mean probability for the best of its own labels. It is learned from drawings, where it
# says how many pixels are named right: this model expects one wrong in ten.
FAMILIAR = 0.9
SIDE = 256  # pixels of the long side of what is judged; more changes nothing (docs/log.md)


def familiarity(segmenter: Segmenter, picture: Pixels) -> float:
    """Return how sure a model of the drawn world is of its own nouns in a picture, in 0..1."""
    small = Image.fromarray(picture)
    small.thumbnail((SIDE, SIDE))
    return float(segmenter(np.asarray(small), LABELS).confidence.mean())
