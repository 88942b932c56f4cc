"""What a user may write: labels, prompts and the background policy, checked before anything loads.

Free of torch, so that the command line can refuse bad labels before the heavy imports.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from disa.errors import DisaError
from disa.inference.appearance import appearance, oddities
from disa.running.lists import split_list
from disa.running.reading import read_json

# No policy, a threshold in 0..1, "foreground", or labels that compete with the user's.
Background = float | str | tuple[str, ...] | None
FOREGROUND = "foreground"
TEMPLATES = Path(__file__).with_name("templates.json")


def parse_labels(labels: str | Sequence[str], name: str = "label") -> tuple[str, ...]:
    """Return the labels as the caller spelt them: "house, boat|ship" -> ("house", "boat|ship").

    A string is split at commas outside of quotes (`split_list`). `name` is what messages call a
    label. Raises `DisaError` for no label, an empty or invisible one, a stray quote, and two that
    are equal by `name_key` or look the same, synonyms included.
    """
    if not isinstance(labels, Iterable):
        raise DisaError(
            f'{name}s are text ("house, sea") or a list of texts; got {type(labels).__name__}'
        )
    parts = split_list(labels) if isinstance(labels, str) else tuple(labels)
    if not parts or parts == ("",):
        raise DisaError(f'no {name} given; name at least one, such as "house, sea, grass"')

    owner: dict[str, str] = {}  # whose a synonym is
    for position, label in enumerate(parts, start=1):
        _check_text(label, f"{name} {position}")
        for synonym in synonyms(label):
            key = appearance(synonym)
            if not key:
                shown = ", ".join(parts)
                raise DisaError(
                    f'{name} {position} is empty in "{shown[:80]}"; remove the extra separator'
                )
            other = owner.get(key)
            if other is not None:
                odd = oddities(synonym) or oddities(other)
                looks = f", to look at: one holds {', '.join(odd)}" if odd else ""
                raise DisaError(
                    f'{name} "{synonym}" is given twice (in "{other}" and in "{label}"){looks}; '
                    "remove one"
                )
            owner[key] = label
    return parts


def synonyms(label: str) -> tuple[str, ...]:
    """Return the names in a label, "boat | ship" -> ("boat", "ship"), white space tidied."""
    return tuple(" ".join(part.split()) for part in label.split("|"))


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Return the published sets of prompts by name: "imagenet" -> ("a bad photo of a {}.", ...).

    They are facts of other people's work, kept as data with their sources in templates.json.
    """
    data = read_json(TEMPLATES, "install disa again")
    return {name: tuple(entry["templates"]) for name, entry in data.items()}


def check_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Return prompt templates; the name of a published set stands for all of its prompts.

    Raises `DisaError` for none, an unknown name, or a prompt that has no place for the label.
    """
    if not isinstance(templates, Iterable):
        raise DisaError(f"templates are a text or a list of texts; got {type(templates).__name__}")
    known = template_sets()
    prompts: tuple[str, ...] = ()
    for given in (templates,) if isinstance(templates, str) else templates:
        prompts += known[given] if isinstance(given, str) and given in known else (given,)

    if not prompts:
        raise DisaError('no prompt template given; use at least one, such as "a picture of a {}"')
    for template in prompts:
        _check_text(template, "the template")
        if template.count("{}") != 1:
            raise DisaError(
                f"the template {template!r} must contain {{}} once, as in 'a picture of a {{}}', "
                f"or be the name of a published set: {', '.join(known)}"
            )
    return prompts


def parse_background(
    background: int | float | str | Sequence[str] | None, labels: Sequence[str]
) -> Background:
    """Return the background policy that a value stands for.

    None or "none": every pixel gets a label. A number in 0..1: pixels whose best score is below it
    are background. "foreground": pixels outside of it are. Other labels ("wall, floor" or a
    list): they compete with `labels`, and the pixels that they win are background. Raises
    `DisaError` for anything else.
    """
    if isinstance(background, str):
        background = _number_or_text(background.strip())
    if background is None or background == FOREGROUND:
        return background
    if isinstance(background, Sequence):
        others = parse_labels(background, "background label")
        parse_labels((*labels, *others), "label or background label")
        return others
    if isinstance(background, bool) or not hasattr(background, "__float__"):
        raise DisaError(
            f'background is "none", a number, "foreground" or labels; got {background!r}'
        )
    threshold = float(background)
    if not 0 <= threshold <= 1:
        raise DisaError(f"the background threshold {threshold:g} is not between 0 and 1")
    return threshold


def _number_or_text(text: str) -> float | str | None:
    if text.lower() == "none":
        return None
    if text.lower() == FOREGROUND:
        return FOREGROUND
    if text.lower() == "saliency":  # as a label of the background it would surprise
        raise DisaError('background "saliency" is called "foreground" now')
    # Labels are separated by commas, but "0,3" is a number as half of the world writes it.
    if re.fullmatch(r"\d+,\d+", text):
        point = text.replace(",", ".")
        raise DisaError(f'background "{text}": write the number with a point, {point}')
    try:
        return float(text)
    except ValueError:
        return text


def _check_text(value: object, name: str) -> None:
    """Refuse what no tokenizer and no file takes, such as undecoded bytes of a terminal."""
    if not isinstance(value, str):
        raise DisaError(f"{name} is not text but {type(value).__name__}: {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DisaError(f"{name}, {value!r}, is no valid text; type it again, in UTF-8") from None
