"""The words of the picturebook world: what can be drawn, what it may be called, what has masks in training."""

from typing import Literal

Group = Literal["seen_things", "unseen_things", "seen_stuff", "unseen_stuff"]

THINGS = (
    "house", "tree", "car", "boat", "sun", "moon", "star", "balloon", "fish", "flower",
    "mushroom", "umbrella", "apple", "cup", "rocket", "heart", "kite", "cloud", "snowman", "cactus",
)  # fmt: skip
STUFF = (
    "sky", "night sky", "sea", "grass", "sand", "snow", "road", "brick wall", "wooden floor", "stone wall",
    "lava", "tiled floor", "wheat field", "carpet",
)  # fmt: skip
WORDS = THINGS + STUFF
"""All categories; a category's index in a label map is its position here."""

UNSEEN = frozenset(
    {"boat", "moon", "mushroom", "umbrella", "apple", "rocket", "snowman"}
    | {"sea", "snow", "brick wall", "lava", "wheat field"}
)
"""Words that occur in captions but never have a mask in training: a third of the things and of the stuff."""

SEEN = frozenset(WORDS) - UNSEEN

SYNONYMS: dict[str, tuple[str, ...]] = {
    "house": ("cottage",),
    "car": ("automobile",),
    "boat": ("ship",),
    "moon": ("crescent moon",),
    "flower": ("blossom",),
    "mushroom": ("toadstool",),
    "umbrella": ("parasol",),
    "cup": ("mug",),
    "rocket": ("spaceship",),
    "night sky": ("starry sky",),
    "sea": ("ocean",),
    "grass": ("lawn",),
    "sand": ("beach",),
    "road": ("street",),
    "wooden floor": ("parquet",),
    "carpet": ("rug",),
}
"""Other words that captions use for the same noun."""


def group(word: str) -> Group:
    """Return the group in which a category is reported: seen or unseen in training, thing or stuff."""
    if word in THINGS:
        return "seen_things" if word in SEEN else "unseen_things"
    return "seen_stuff" if word in SEEN else "unseen_stuff"
