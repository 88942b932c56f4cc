"""Labels that are not what they look like: unseen characters, letters of another script (D122)."""

import unicodedata
from collections.abc import Iterator, Sequence

from disa.data.vocabulary import name_key

# Beside the characters of formatting (Cf): fillers and joiners that Unicode calls letters or marks.
UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe0e\ufe0f\uffa0"
JOINERS = "\u200c\u200d"
SHAPES = "\ufe0e\ufe0f"  # how an emoji is drawn
# Small letters that look like Latin ones in most fonts, by their names.
LATIN = {
    "CYRILLIC": {
        "A": "a", "IE": "e", "O": "o", "ER": "p", "ES": "c", "U": "y", "HA": "x", "DZE": "s",
        "BYELORUSSIAN-UKRAINIAN I": "i", "JE": "j", "SHHA": "h", "KOMI DE": "d", "QA": "q",
        "WE": "w",
    },
    "GREEK": {"ALPHA": "a", "OMICRON": "o", "RHO": "p", "NU": "v", "IOTA": "i", "UPSILON": "u"},
}  # fmt: skip
_AS_LATIN = {
    ord(unicodedata.lookup(f"{script} SMALL LETTER {letter}")): latin
    for script, letters in LATIN.items()
    for letter, latin in letters.items()
}


def appearance(name: str) -> str:
    """Return what all names share that look the same, "" for one that nobody can see."""
    seen = "".join(character for character in name if not _is_unseen(character))
    return name_key(name_key(seen).translate(_AS_LATIN))


def oddities(name: str) -> list[str]:
    """Return what a reader cannot see in a name, in words: U+200B ZERO WIDTH SPACE, Cyrillic "a".

    Joiners of letters beyond ASCII and shapes of emoji belong to their scripts, so they are none.
    """
    unseen = [
        character
        for position, character in enumerate(name)
        if _is_unseen(character)
        and not (character in JOINERS + SHAPES and not name[max(0, position - 1)].isascii())
    ]
    found = [_in_words(character) for character in dict.fromkeys(unseen)]
    key = name_key(name)
    for word in key.split():
        others = [letter for letter in word if _script(letter) in LATIN]
        is_mixed = any(_script(letter) == "LATIN" for letter in word)
        if is_mixed or _is_latin(key.translate(_AS_LATIN)):
            found += [_in_words(letter) for letter in dict.fromkeys(others)]
    return found


def doubts(labels: Sequence[str]) -> Iterator[str]:
    """Yield a line on each label that is not what it looks like."""
    for label in labels:
        if odd := oddities(label):
            yield f'the label "{label}" holds {", ".join(odd)}; type it again if it should not'


def _is_unseen(character: str) -> bool:
    return character in UNSEEN or unicodedata.category(character) == "Cf"


def _is_latin(text: str) -> bool:
    """Tell whether every letter of a text is Latin."""
    return all(_script(letter) == "LATIN" for letter in text if letter.isalpha())


def _script(letter: str) -> str:
    return unicodedata.name(letter, " ").split(" ")[0]


def _in_words(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"
