"""Picturebook: a drawn world in which right and wrong can be measured (decision D1).

Scenes show one to four things before one to three backgrounds, with a caption and an exact label
map. Captions use all nouns; masks for training cover `SEEN` only, so that `UNSEEN` measures
open-vocabulary segmentation.
"""

from disa.picturebook.nouns import NOUNS, SEEN, STUFF, SYNONYMS, THINGS, UNSEEN, Group, group
from disa.picturebook.scenes import (
    LARGEST,
    SIZE,
    SMALLEST,
    TEST_SEED,
    TRAIN_SEED,
    Scene,
    render,
    render_card,
)

__all__ = [
    "LARGEST", "NOUNS", "SEEN", "SIZE", "SMALLEST", "STUFF", "SYNONYMS", "TEST_SEED", "THINGS",
    "TRAIN_SEED", "UNSEEN", "Group", "Scene", "group", "render", "render_card",
]  # fmt: skip
