"""Fonts for labels in any script: Pillow's own, else one that fontconfig finds (D127)."""

import subprocess
import unicodedata
from functools import lru_cache
from typing import cast

from PIL import ImageFont

Font = ImageFont.FreeTypeFont
NO_CHARACTER = "\uffff"  # every font draws its box for it
FC_MATCH_SECONDS = 10
_places: dict[str, tuple[str, int] | None] = {}  # by script


@lru_cache(maxsize=4096)
def fonts_for(text: str, size: int | float) -> tuple[Font, ...]:
    """Return fonts of this size (pixels) that draw the text together, as far as any are found.

    Pillow's own comes first.
    """
    # It is a font of one size only where none is given.
    fonts = [cast(Font, ImageFont.load_default(size))]
    for character in missing(fonts[0], text):
        if all(missing(font, character) for font in fonts):
            other = _from_system(character, size)
            fonts += [] if other is None else [other]
    return tuple(fonts)


def missing(font: Font, text: str) -> str:
    """Return the characters of a text that a font lacks: it draws boxes for them."""
    box = _drawn(font, NO_CHARACTER)
    visible = [character for character in dict.fromkeys(text) if _is_visible(character)]
    return "".join(character for character in visible if _drawn(font, character) == box)


def _is_visible(character: str) -> bool:
    """Tell letters and signs from spaces, marks on letters and controls."""
    return unicodedata.category(character)[0] not in "ZCM"


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _from_system(character: str, size: int | float) -> Font | None:
    """Return the system's font for the script of a character; None where there is none."""
    # Labels share few scripts, and each question to fontconfig starts a process.
    script = unicodedata.name(character, character).split()[0]
    if script not in _places:
        _places[script] = _matched(character)
    place = _places[script]
    if place is None:
        return None
    file, index = place
    try:
        font = ImageFont.truetype(file, size, index)
        font.getmask(character)
    except (OSError, ValueError):
        return None
    return font


def _matched(character: str) -> tuple[str, int] | None:
    """Return the file of the font that fontconfig would take, and the font's number in it."""
    command = ["fc-match", "--format=%{file}\n%{index}", f":charset={ord(character):x}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=FC_MATCH_SECONDS
        )
        file, index = done.stdout.splitlines()
        # The upper bits choose a variant of a font with axes.
        return file, int(index) & 0xFFFF
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
