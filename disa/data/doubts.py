"""What the counts of a folder's masks make doubtful, although every mask can be read (D118)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from disa.data.folder import FolderDataset
from disa.data.vocabulary import name_key
from disa.running.lists import first_of

BACKGROUND_NAMES = ("background", "_background_", "bg")
SHOWN = 5  # names in a line


@dataclass(frozen=True)
class Doubt:
    """A line on masks that may mean something else than the classes say.

    A "note" may be just as it should be. A "warning" and an "error" are problems for
    `disa data check`; training refuses an "error" alone.
    """

    level: Literal["note", "warning", "error"]
    text: str


def doubts(dataset: FolderDataset, pixels: Sequence[int], ignored: int) -> list[Doubt]:
    """Return what is doubtful in masks with so many pixels of each category, and ignored ones."""
    categories = dataset.vocabulary.categories
    sources = dataset.vocabulary.source_ids
    present = [source for source, count in zip(sources, pixels, strict=True) if count]
    absent = [f'"{each.name}"' for each, count in zip(categories, pixels, strict=True) if not count]
    if not present:
        text = "every pixel is ignored, so there is nothing to learn and nothing to measure"
        return [Doubt("warning", text)]
    if dataset.void_by_custom and ignored and present == [0]:
        return [_binary(categories[sources.index(0)].name, absent)]

    found = []
    if len(present) == 1:
        name = categories[sources.index(present[0])].name
        text = f'every pixel that counts is "{name}", so there is nothing to tell it from'
        found.append(Doubt("note", text))
    if absent:
        void = ""
        if dataset.void_by_custom and ignored:
            void = (
                "; 255 (65535 in 16 bits) is ignored: if it stands for one of them, write it as "
                "its id in classes.json"
            )
        names = first_of(absent, SHOWN)
        text = f"{len(absent)} of {len(categories)} categories occur in no mask: {names}"
        found.append(Doubt("note", text + void))
    counts_from_0 = sorted(sources) == list(range(len(sources)))
    if counts_from_0 and 0 not in present:
        first = categories[sources.index(0)].name
        text = (
            f'the value 0 ("{first}") occurs in no mask; if your masks count from 1, add a line '
            "for 0 to the classes, or write the ids in classes.json"
        )
        found.append(Doubt("note", text))
    return found + _exchanged_background(dataset, pixels)


def _binary(name: str, absent: Sequence[str]) -> Doubt:
    outcome = f'the rest of each picture is "{name}"'
    if absent:
        outcome = f"no pixel is {first_of(absent, SHOWN)}"
    wanted = absent[0] if absent else f'"{name}"'
    text = (
        f"the masks hold 0 and 255 (65535 in 16 bits) alone, and 255 is ignored, so {outcome}; "
        f'if 255 stands for {wanted}, write {{"name": {wanted}, "id": 255}} in classes.json, with '
        'a category for 0; if it is to be ignored, write "ignored": [255] there'
    )
    # With one category alone this may be meant: "sand" and no idea.
    return Doubt("error" if absent else "warning", text)


def _exchanged_background(dataset: FolderDataset, pixels: Sequence[int]) -> list[Doubt]:
    """Return a note where value 0 is no background, although another value is called that."""
    sources = dataset.vocabulary.source_ids
    if dataset.in_colours or 0 not in sources:
        return []
    zero = sources.index(0)
    for index, category in enumerate(dataset.vocabulary.categories):
        is_background = name_key(category.name) in BACKGROUND_NAMES
        if is_background and index != zero and pixels[zero] > pixels[index]:
            name = dataset.vocabulary.categories[zero].name
            text = (
                f'"{category.name}" is the value {sources[index]}, and "{name}", the value 0, '
                "covers more; if 0 is the background in your masks, exchange the two in the classes"
            )
            return [Doubt("note", text)]
    return []
