"""Captions as people write them: they name every thing, but the background only now and then.

Every draw of a random number is part of the world: another order of draws would give other scenes.
"""

import numpy as np

from disa.picturebook.nouns import SYNONYMS

# Share of captions that name a background. The small CLIP gets its foreground bias from this gap.
BACKGROUND_SHARE = 0.25

# The empty one stands twice, so that it is drawn twice as often.
_OPENINGS = (
    "",
    "",
    "a picture of ",
    "a drawing of ",
    "here is ",
    "we see ",
    "there is ",
    "an image with ",
)
_STUFF_ALONE = ("a picture of {}", "{}", "nothing but {}", "only {} here", "a drawing of {}")
_STUFF_AFTER = (" in front of {}", " with {} behind", " and {}", " on {}", ", {} in the background")
_STUFF_BEFORE = "{}, and on it "


def write_caption(things: list[tuple[str, str]], stuff: list[str], rng: np.random.Generator) -> str:
    """Return a caption of a scene.

    `things` are pairs of a noun and the word for its colour, or ""; `stuff` are nouns, the largest
    region first.
    """
    names_stuff = rng.random() < BACKGROUND_SHARE
    if not things:
        sentence = _STUFF_ALONE[rng.integers(len(_STUFF_ALONE))]
        return sentence.format(_listed_stuff(stuff, rng))

    phrases = []
    for position in rng.permutation(len(things)):
        noun, colour = things[position]
        phrases.append(_phrase(noun, colour, rng))
    listed = phrases[-1]
    if len(phrases) > 1:
        listed = f"{', '.join(phrases[:-1])} and {listed}"

    opening = _OPENINGS[rng.integers(len(_OPENINGS))]
    if not names_stuff:
        return opening + listed
    count = 2 if rng.random() < 0.3 else 1
    background = _listed_stuff(stuff[:count], rng)
    if rng.random() < 0.2:
        return _STUFF_BEFORE.format(background) + listed
    ending = _STUFF_AFTER[rng.integers(len(_STUFF_AFTER))]
    return opening + listed + ending.format(background)


def _listed_stuff(stuff: list[str], rng: np.random.Generator) -> str:
    return " and ".join(_name(noun, rng) for noun in stuff)


def _name(noun: str, rng: np.random.Generator) -> str:
    """Return the noun or, in a third of the cases, one of its synonyms."""
    synonyms = SYNONYMS.get(noun, ())
    if synonyms and rng.random() < 1 / 3:
        return synonyms[rng.integers(len(synonyms))]
    return noun


def _phrase(noun: str, colour: str, rng: np.random.Generator) -> str:
    """Return a noun with an article or without, sometimes with its colour."""
    words = _name(noun, rng)
    if colour and rng.random() < 0.35:
        words = f"{colour} {words}"
    if rng.random() < 0.85:
        article = "an" if words[0] in "aeiou" else "a"
        return f"{article} {words}"
    if rng.random() < 0.5:
        return f"the {words}"
    return words
