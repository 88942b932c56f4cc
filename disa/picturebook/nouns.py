"""The nouns of the drawn world: what can be drawn, what it is called, what has training masks."""

from collections.abc import Iterable
from typing import Literal

Group = Literal["seen_things", "unseen_things", "seen_stuff", "unseen_stuff"]

THINGS = (
    "house", "tree", "car", "boat", "sun", "moon", "star", "balloon", "fish", "flower",
    "mushroom", "umbrella", "apple", "cup", "rocket", "heart", "kite", "cloud", "snowman", "cactus",
)  # fmt: skip
STUFF = (
    "sky", "night sky", "sea", "grass", "sand", "snow", "road", "brick wall", "wooden floor",
    "stone wall", "lava", "tiled floor", "wheat field", "carpet",
)  # fmt: skip
# All nouns; the index of a noun in a label map is its position here.
NOUNS = THINGS + STUFF

# Nouns that occur in captions but have no mask in training: a third of the things and of the stuff.
UNSEEN = frozenset(
    {"boat", "moon", "mushroom", "umbrella", "apple", "rocket", "snowman"}
    | {"sea", "snow", "brick wall", "lava", "wheat field"}
)
SEEN = frozenset(NOUNS) - UNSEEN

# Other words that captions use for the same noun.
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


def group(noun: str) -> Group:
    """Return the group in which a noun's results are reported."""
    if noun in THINGS:
        return "seen_things" if noun in SEEN else "unseen_things"
    return "seen_stuff" if noun in SEEN else "unseen_stuff"


def names_a_noun(text: str) -> bool:
    """Tell whether captions hold a noun of this text: "red house" and "ship", but not "cow"."""
    words = f" {' '.join(text.casefold().split())} "
    known = (*NOUNS, *(word for others in SYNONYMS.values() for word in others))
    return any(f" {noun} " in words for noun in known)


def without_noun(labels: Iterable[str]) -> list[str]:
    """Return the labels that no caption can have taught: none of their synonyms names a noun."""
    return [label for label in labels if not any(map(names_a_noun, label.split("|")))]
