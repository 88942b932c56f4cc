"""What a user may call labels: "house, boat|ship" becomes ("house", "boat|ship").

Free of torch, so that the command line can refuse bad labels before the heavy imports.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from numbers import Real
from pathlib import Path

from disa.errors import DisaError

Background = (
    float | str | tuple[str, ...] | None
)  # none, a threshold, "saliency", or competing words
SALIENCY = "saliency"
TEMPLATES = Path(__file__).with_name("templates.json")


def parse_labels(labels: str | Sequence[str], name: str = "label") -> tuple[str, ...]:
    """Return the labels as the caller spelt them.

    A string is split at commas and each part stripped.

    Raises `DisaError` for no label, an empty one, and two that are the same but for case, spaces or
    synonyms.
    """
    if not isinstance(labels, Iterable):
        raise DisaError(
            f'{name}s are text ("house, sea") or a list of texts; got {type(labels).__name__}'
        )
    words = (
        tuple(part.strip() for part in labels.split(","))
        if isinstance(labels, str)
        else tuple(labels)
    )
    if not words or (isinstance(labels, str) and not labels.strip()):
        raise DisaError(f'no {name} given; name at least one, such as "house, sea, grass"')
    owner: dict[str, str] = {}
    for position, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise DisaError(f"{name} {position} is not text but {type(word).__name__}: {word!r}")
        if not _is_unicode(word):
            raise DisaError(
                f"{name} {position}, {word!r}, is no valid text; type it again, in UTF-8"
            )
        for synonym in synonyms(word):
            if not synonym:
                raise DisaError(
                    f'{name} {position} is empty in "{_joined(words)}"; remove the extra separator'
                )
            if synonym.casefold() in owner:
                other = owner[synonym.casefold()]
                raise DisaError(
                    f'{name} "{synonym}" is given twice (in "{other}" and in "{word}"); remove one'
                )
            owner[synonym.casefold()] = word
    return words


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Return the published sets of prompts by name: "imagenet" -> ("a bad photo of a {}.", ...).

    They are facts of other people's work, kept as data with their sources in templates.json.
    """
    data = json.loads(TEMPLATES.read_text(encoding="utf-8"))
    return {name: tuple(entry["templates"]) for name, entry in data.items()}


def synonyms(word: str) -> tuple[str, ...]:
    """Return the names in a label, "boat | ship" -> ("boat", "ship"), white space tidied."""
    return tuple(" ".join(part.split()) for part in word.split("|"))


def check_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Return prompt templates as a tuple.

    The name of a published set (templates.json) stands for all of its prompts.

    Raises `DisaError` for none, an unknown name, or a prompt that has no place for the word.
    """
    if not isinstance(templates, Iterable):
        raise DisaError(f"templates are a text or a list of texts; got {type(templates).__name__}")
    known = template_sets()
    checked: tuple[str, ...] = ()
    for given in (templates,) if isinstance(templates, str) else templates:
        checked += known[given] if isinstance(given, str) and given in known else (given,)
    if not checked:
        raise DisaError('no prompt template given; use at least one, such as "a picture of a {}"')
    for template in checked:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise DisaError(
                f"the template {template!r} must contain {{}} once, as in 'a picture of a {{}}', "
                f"or be the name of a published set: {', '.join(known)}"
            )
    if broken := [template for template in checked if not _is_unicode(template)]:
        raise DisaError(f"the template {broken[0]!r} is no valid text; type it again, in UTF-8")
    return checked


def parse_background(
    background: int | float | str | Sequence[str] | None, words: Sequence[str]
) -> Background:
    """Return the background policy that a value stands for.

    None or "none": every pixel gets a label. A number in 0..1: pixels whose best score is below it
    are background. "saliency": pixels outside the foreground mask are. Words ("wall, floor" or a
    list): they compete with the labels, and the pixels that they win are background. Raises
    `DisaError` for anything else.
    """
    if background is None or (isinstance(background, str) and background.strip().lower() == "none"):
        return None
    if isinstance(background, str):
        text = background.strip()
        if text.lower() == SALIENCY:
            return SALIENCY
        try:
            background = float(text)
        except ValueError:
            if re.fullmatch(r"\d+,\d+", text):
                point = text.replace(",", ".")
                raise DisaError(
                    f'background "{text}": write the number with a point, {point}'
                ) from None
            return _background_words(text, words)
    if isinstance(background, bool) or not isinstance(background, Real):
        if isinstance(background, Sequence):
            return _background_words(background, words)
        raise DisaError(f'background is "none", a number, "saliency" or words; got {background!r}')
    background = float(background)
    if not 0 <= background <= 1:
        raise DisaError(f"the background threshold {background:g} is not between 0 and 1")
    return background


def _background_words(background: str | Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    others = parse_labels(background, "background word")
    parse_labels((*words, *others), "label or background word")
    return others


def _is_unicode(text: str) -> bool:
    """Tell text from undecoded bytes of a terminal, which no tokenizer and no file takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _joined(words: Sequence[str]) -> str:
    text = ", ".join(words)
    return text if len(text) <= 80 else f"{text[:80]}..."
