"""What a data set's labels mean and what a model is asked for: name or file -> Vocabulary(categories, prompts).

The seven published vocabularies are JSON files in `vocabularies/`; own ones are a `classes.txt` or a JSON file.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from disa.errors import DisaError

Kind = Literal["thing", "stuff"]
VOCABULARIES = ("coco-stuff", "a150", "a847", "pc59", "pc459", "pas20", "pas20b")
MAX_BYTES = 10_000_000  # of a vocabulary file; the largest published one has 43 kB
BACKGROUND = "background"


@dataclass(frozen=True)
class Category:
    """One category: its name as it is prompted (D60), other words for it, thing or stuff where that is known (D67).

    `source_id` is the value that stands for it in the data set's own masks; None for a word that has no masks.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    kind: Kind | None = None
    source_id: int | None = None

    def prompt(self, synonyms: bool) -> str:
        """Return the text to embed: the name, or with `synonyms` "boat|ship", whose embeddings are averaged."""
        return "|".join((self.name, *self.synonyms)) if synonyms else self.name


@dataclass(frozen=True)
class Vocabulary:
    """What is scored (`categories`, a label map's values) and what is prompted; prompt i counts as `scored[i]`.

    The two are the same but in `pas20b`, where 59 words are prompted and 39 of them count as background (D61).
    """

    name: str
    categories: tuple[Category, ...]
    prompted: tuple[Category, ...]
    scored: tuple[int, ...]

    @property
    def source_ids(self) -> tuple[int, ...]:
        """The value of each category in the data set's own masks; -1 for one that has none."""
        return tuple(
            -1 if category.source_id is None else category.source_id for category in self.categories
        )

    def prompts(self, synonyms: bool = False) -> tuple[str, ...]:
        """Return the texts to embed: as the published results use them (names only), or with all synonyms averaged."""
        return tuple(category.prompt(synonyms) for category in self.prompted)

    def identical(self, synonyms: bool = False) -> tuple[tuple[int, ...], ...]:
        """Return the groups of prompts that are the same text but for case and spaces, as indices into the prompts.

        A model cannot tell them apart: the first of a group wins all their pixels. A-847 has nine groups of names.
        """
        groups: dict[str, list[int]] = {}
        for index, prompt in enumerate(self.prompts(synonyms)):
            groups.setdefault(_plain(prompt), []).append(index)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def labels(self, synonyms: bool = False) -> tuple[str, ...]:
        """Return the prompts with every word in them once, as `disa segment` takes labels.

        Of identical names the first stays; a synonym that another category has as its name, or had before, goes.
        """
        names = {_plain(category.name) for category in self.prompted}
        seen: set[str] = set()
        kept = []
        for category in self.prompted:
            if _plain(category.name) in seen:
                continue
            words = {_plain(category.name): category.name}
            if synonyms:
                words |= {
                    _plain(word): word
                    for word in category.synonyms
                    if _plain(word) not in names | seen
                }
            kept.append("|".join(words.values()))
            seen |= words.keys()
        return tuple(kept)


def vocabulary_of(name: str, categories: Sequence[Category]) -> Vocabulary:
    """Return the vocabulary in which every category is prompted and counts as itself."""
    return Vocabulary(name, tuple(categories), tuple(categories), tuple(range(len(categories))))


def load_vocabulary(name: str | Path) -> Vocabulary:
    """Return a published vocabulary by its name, or an own one by its file (`read_vocabulary`). Raises `DisaError`."""
    if str(name) in VOCABULARIES:
        return _published(str(name))
    if Path(name).suffix.lower() in (".txt", ".json"):
        return read_vocabulary(Path(name))
    raise DisaError(
        f'unknown vocabulary "{name}"; use {", ".join(VOCABULARIES)}, or a file (classes.txt or JSON)'
    )


def read_vocabulary(path: Path) -> Vocabulary:
    """Read an own vocabulary; a category's place in it is its value in masks, unless the file says otherwise.

    `.txt`: a category a line, "boat" or "boat|ship". `.json`: a list of such texts, or {"categories": [...]} whose
    entries are texts or {"name", "synonyms", "kind": "thing" | "stuff", "id": value in masks, or "color": [r, g, b]}.
    Raises `DisaError` for anything else, and for a value that two categories share.
    """
    text = _text(path)
    entries: Any = [line.strip() for line in text.rstrip().splitlines()]
    if path.suffix.lower() == ".json":
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DisaError(f"{path}: is not JSON ({error}); mend it") from None
        entries = data.get("categories") if isinstance(data, dict) else data
        if not isinstance(entries, list):
            raise DisaError(
                f'{path}: holds no list of categories; write ["sky", ...] or {{"categories": [...]}}'
            )
    if not entries:
        raise DisaError(f"{path}: names no category; write one a line")
    categories = [_category(entry, index, path) for index, entry in enumerate(entries)]
    owners: dict[int | None, str] = {}
    for category in categories:
        if category.source_id in owners:
            other = owners[category.source_id]
            raise DisaError(
                f'{path}: "{other}" and "{category.name}" share the id {category.source_id}; change one'
            )
        owners[category.source_id] = category.name
    return vocabulary_of(path.stem, categories)


def packed(colour: Sequence[int]) -> int:
    """Return a colour (r, g, b) as the one number that stands for it in a mask of colours."""
    red, green, blue = colour
    return (red << 16) + (green << 8) + blue


@cache
def _published(name: str) -> Vocabulary:
    path = Path(__file__).parent / "vocabularies" / f"{name}.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    categories = tuple(
        _category(entry, index, path) for index, entry in enumerate(data["categories"])
    )
    if "counted_as_background" not in data:
        return vocabulary_of(name, categories)
    background = next(
        index for index, category in enumerate(categories) if category.name == BACKGROUND
    )
    named = tuple(category for category in categories if category.name != BACKGROUND)
    others = tuple(
        Category(entry["name"], tuple(entry.get("synonyms", ())))
        for entry in data["counted_as_background"]
    )
    scored = (*range(len(named)), *[background] * len(others))
    return Vocabulary(name, categories, named + others, scored)


def _category(entry: object, index: int, path: Path) -> Category:
    """Return the category that an entry of a file stands for. Raises `DisaError` that counts entries from 1."""
    place = f"{path}: category {index + 1}"
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise DisaError(f'{place} is {json.dumps(entry)[:60]}; write a name or {{"name": ...}}')
    name, *more = (" ".join(part.split()) for part in entry["name"].split("|"))
    given = entry.get("synonyms", [])
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise DisaError(f'{place} ("{name}"): "synonyms" is no list of words')
    words = (*more, *(" ".join(word.split()) for word in given))
    if not name or not all(words):
        raise DisaError(f"{place} has an empty name; remove the line or name it")
    kind = entry.get("kind")
    if kind not in (None, "thing", "stuff"):
        raise DisaError(f'{place} ("{name}"): "kind" is {kind!r}; use "thing" or "stuff"')
    return Category(name, words, kind, _source_id(entry, index, f'{place} ("{name}")'))


def _source_id(entry: dict[str, Any], index: int, place: str) -> int:
    if "color" in entry:
        colour = entry["color"]
        if (
            not isinstance(colour, list)
            or len(colour) != 3
            or not all(_is_integer(c, 255) for c in colour)
        ):
            raise DisaError(
                f'{place}: "color" is {colour!r}; write [red, green, blue] with values 0 to 255'
            )
        return packed(colour)
    source_id = entry.get("id", index)
    if not _is_integer(source_id, 65535):
        raise DisaError(f'{place}: "id" is {source_id!r}; use a whole number from 0 to 65535')
    return int(source_id)


def _is_integer(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DisaError(
                f"{path}: has {path.stat().st_size} bytes, a vocabulary at most {MAX_BYTES}; is it one?"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DisaError(
            f"{path}: cannot be read ({error.strerror}); give a classes.txt or a JSON file"
        ) from None
    except UnicodeDecodeError:
        raise DisaError(f"{path}: is not UTF-8 text; save it as such") from None


def _plain(prompt: str) -> str:
    return "|".join(" ".join(part.split()).casefold() for part in prompt.split("|"))
