"""Captions as people write them: they name every thing, and the background in about a quarter of the cases only."""

import numpy as np

from disa.picturebook.nouns import SYNONYMS

BACKGROUND_SHARE = 0.25
"""Share of captions that name a background. This gap is where the foreground bias of the small CLIP comes from."""

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


def name(word: str, rng: np.random.Generator) -> str:
    """Return the noun or, in a third of the cases, one of its synonyms."""
    others = SYNONYMS.get(word, ())
    return others[rng.integers(len(others))] if others and rng.random() < 1 / 3 else word


def write_caption(things: list[tuple[str, str]], stuff: list[str], rng: np.random.Generator) -> str:
    """Return a caption of a scene: `things` as (noun, colour word or ""), `stuff` as nouns, the largest first."""
    with_stuff = rng.random() < BACKGROUND_SHARE
    if not things:
        return _STUFF_ALONE[rng.integers(len(_STUFF_ALONE))].format(
            " and ".join(name(word, rng) for word in stuff)
        )
    phrases = [
        _phrase(noun, colour, rng)
        for noun, colour in (things[i] for i in rng.permutation(len(things)))
    ]
    listed = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    opening = _OPENINGS[rng.integers(len(_OPENINGS))]
    if not with_stuff:
        return opening + listed
    named = stuff[: 1 + (rng.random() < 0.3)]
    background = " and ".join(name(word, rng) for word in named)
    if rng.random() < 0.2:
        return _STUFF_BEFORE.format(background) + listed
    return opening + listed + _STUFF_AFTER[rng.integers(len(_STUFF_AFTER))].format(background)


def _phrase(noun: str, colour: str, rng: np.random.Generator) -> str:
    word = name(noun, rng)
    if colour and rng.random() < 0.35:
        word = f"{colour} {word}"
    article = (
        ("an " if word[0] in "aeiou" else "a ")
        if rng.random() < 0.85
        else ("the " if rng.random() < 0.5 else "")
    )
    return article + word
