"""Texts of other people, made safe to show: labels, names of files, whatever a file says.

A terminal obeys escape sequences and a browser obeys HTML, whoever wrote them (decision D138).
"""

import re
from unicodedata import category

# Zero-width joiners, without which Persian, the scripts of India and families of emoji fall apart.
JOINERS = "\u200c\u200d"
# Controls, invisible formats such as a change of direction, halves of characters, other line ends.
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str) -> str:
    """Return a text in one line, with controls and what nobody sees as escapes such as \\u001b.

    They are those of JSON, so JSON stays what it was.
    """
    # Nearly every text: a look at each character would take longer.
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def as_markdown(text: str) -> str:
    """Return a text in one line that Markdown shows as it is: no HTML, link or table in it."""
    return re.sub(r"([\\`*_\[\]<>&|~$])", r"\\\1", printable(text))


def _escaped(character: str) -> str:
    if category(character) not in UNSEEN or character in JOINERS:
        return character
    # A character beyond the first 65,536 takes two.
    units = character.encode("utf-16-be", errors="surrogatepass").hex()
    return re.sub("(.{4})", r"\\u\1", units)
