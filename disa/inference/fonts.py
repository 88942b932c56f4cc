"""Fonts for labels in any script: Pillow's own, else one that fontconfig finds (D127)."""

import subprocess
import unicodedata
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
NO_CHARACTER = "\uffff"  # every font draws its box for it
FC_MATCH_SECONDS = 10
_places: dict[str, tuple[str, int] | None] = {}  # by script


@lru_cache(maxsize=4096)
def font_for(text: str, size: int | float) -> Font:
    """Return a font of this size (pixels) that draws as much of the text as any that was found."""
    own = ImageFont.load_default(size)
    missing = _missing(own, text)
    if not missing:
        return own
    other = _from_system(missing, size)
    if other is None or len(_missing(other, text)) >= len(missing):
        return own
    return other


def undrawn(text: str) -> str:
    """Return the characters of a text that its font lacks: boxes stand for them."""
    return _missing(font_for(text, 16), text)


def _missing(font: Font, text: str) -> str:
    box = _drawn(font, NO_CHARACTER)
    visible = [character for character in dict.fromkeys(text) if _is_visible(character)]
    return "".join(character for character in visible if _drawn(font, character) == box)


def _is_visible(character: str) -> bool:
    """Tell letters and signs from spaces, marks on letters and controls."""
    return unicodedata.category(character)[0] not in "ZCM"


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _from_system(missing: str, size: int | float) -> Font | None:
    """Return the system's font for the script of these characters; None where there is none."""
    # Labels share few scripts, and each question to fontconfig starts a process.
    script = unicodedata.name(missing[0], missing[0]).split()[0]
    if script not in _places:
        _places[script] = _matched(missing[0])
    place = _places[script]
    if place is None:
        return None
    file, index = place
    try:
        font = ImageFont.truetype(file, size, index)
        font.getmask(missing)
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
