"""What a data set's labels mean and what a model is asked for.

The vocabularies of the published data sets are JSON files in `vocabularies/`; your own is a
`classes.txt` or a JSON file.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

from disa.errors import DisaError
from disa.running.reading import check_form, read_json, read_text

Kind = Literal["thing", "stuff"]
Level = Annotated[int, range(256)]  # of one of the three colours
FOLDER = Path(__file__).with_name("vocabularies")
VOCABULARIES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
BACKGROUND = "background"
REMEDY = 'write a name, or {"name": "boat"} and what else docs/data.md says of a category'
# A line of CVAT's labelmap.txt: "boat:10,200,30:parts:actions"; colour and the rest may be empty.
LABELMAP = re.compile(r"(?P<name>.+?):(?P<colour>[\d, ]*):[^:]*:[^:]*")
NUMBERED = re.compile(r"(?P<id>\d{1,10})\s*[:;,=\t]\s*(?P<name>.+)")  # "7: boat"


@dataclass(frozen=True)
class Category:
    """One category: its name as it is prompted (decision D60) and other names for it.

    `kind` is None where it is not known (decision D67). `source_id` is the value that stands for
    the category in the data set's own masks; None for one that has no masks.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    kind: Kind | None = None
    source_id: int | None = None

    def prompt(self, synonyms: bool) -> str:
        """Return the text to embed: the name, or "boat|ship", whose embeddings are averaged."""
        return "|".join((self.name, *self.synonyms)) if synonyms else self.name


@dataclass(frozen=True)
class Vocabulary:
    """What is scored (`categories`) and what is prompted; prompt i counts as `scored[i]`.

    The two are the same but in `pas20b`, which prompts 59 labels and counts 39 of them as
    background (decision D61).
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
        """Return the texts to embed: names only, as in published results, or all synonyms."""
        return tuple(category.prompt(synonyms) for category in self.prompted)

    def identical(self, synonyms: bool = False) -> tuple[tuple[int, ...], ...]:
        """Return groups of prompts, by index, that are equal by `name_key`.

        A model cannot tell them apart: the first of a group wins all their pixels. A-847 has nine
        such groups of names.
        """
        groups: dict[str, list[int]] = {}
        for index, prompt in enumerate(self.prompts(synonyms)):
            key = "|".join(map(name_key, prompt.split("|")))
            groups.setdefault(key, []).append(index)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def labels(self, synonyms: bool = False) -> tuple[str, ...]:
        """Return the prompts as `disa segment` takes labels, with every name once.

        Of categories with identical names the first stays. A synonym goes that is another
        category's name, or a synonym of an earlier one.
        """
        names = {name_key(category.name) for category in self.prompted}
        used: set[str] = set()
        labels = []
        for category in self.prompted:
            if name_key(category.name) in used:
                continue
            # The names of this label, "boat|ship", by how a model reads them.
            parts = {name_key(category.name): category.name}
            for synonym in category.synonyms if synonyms else ():
                if name_key(synonym) not in names | used:
                    parts[name_key(synonym)] = synonym
            labels.append("|".join(parts.values()))
            used |= parts.keys()
        return tuple(labels)


class Entry(TypedDict):
    """An object in a list of categories."""

    name: str
    synonyms: NotRequired[list[str]]
    kind: NotRequired[Kind | None]
    # The value in masks, or the colour.
    id: NotRequired[Annotated[int, range(2**16)]]
    color: NotRequired[tuple[Level, Level, Level]]


class ClassFile(NamedTuple):
    """What a `classes.txt` or `classes.json` holds, before anything of it is checked."""

    path: Path
    # Names, or objects with the name and more.
    entries: list[Any]
    # Values in masks that do not count; only JSON can say so.
    ignored: Any = None

    def has_colours(self) -> bool:
        """Tell whether masks hold colours. Raises `DisaError` if only some categories have one."""
        coloured = [isinstance(entry, dict) and "color" in entry for entry in self.entries]
        if any(coloured) and not all(coloured):
            first = json.dumps(self.entries[coloured.index(False)])
            raise DisaError(
                f'{self.path}: {first} has no "color", others have; give all of them one, or none'
            )
        return any(coloured)


def vocabulary_of(name: str, categories: Sequence[Category]) -> Vocabulary:
    """Return the vocabulary in which every category is prompted and counts as itself."""
    return Vocabulary(name, tuple(categories), tuple(categories), tuple(range(len(categories))))


def load_vocabulary(name: str | Path) -> Vocabulary:
    """Return a published vocabulary by its name, or your own by its file.

    Raises `DisaError` for an unknown name, and as `read_class_file` and `categories_of` do.
    """
    if str(name) in VOCABULARIES:
        return _published(str(name))
    path = Path(name)
    if path.suffix.lower() in (".txt", ".json"):
        return vocabulary_of(path.stem, categories_of(read_class_file(path)))
    raise DisaError(
        f'unknown vocabulary "{name}"; use {", ".join(VOCABULARIES)}, '
        "or a file (classes.txt or JSON)"
    )


def read_class_file(path: Path) -> ClassFile:
    """Read a list of categories.

    `.txt` has a category a line, "boat" or "boat|ship"; on all lines the value in masks may come
    first, "7: boat". Or it is CVAT's `labelmap.txt`: a name, a colour and more with colons between.
    `#` begins a comment, within a line only after a space.
    `.json` has a list of such texts, or
    {"categories": [...]} whose entries are texts or objects with "name" and, if wanted,
    "synonyms", "kind" ("thing" or "stuff"), and "id" (value in masks) or "color" ([r, g, b]).
    Raises `DisaError` for a file that cannot be read or holds no list.
    """
    if path.suffix.lower() == ".json":
        data = read_json(path, "give a list of categories")
        options = data if isinstance(data, dict) else {"categories": data}
        entries = options.get("categories")
        if not isinstance(entries, list):
            raise DisaError(
                f'{path}: holds no list of categories; write ["sky", ...] or '
                '{"categories": [...]}'
            )
        class_file = ClassFile(path, entries, options.get("ignored"))
    else:
        # An empty line at the end is usual; one between names is a mistake and stays.
        text = read_text(path, "give a classes.txt or a JSON file")
        class_file = ClassFile(path, _entries_of_text(text))
    if not class_file.entries:
        raise DisaError(f"{path}: names no category; write one a line")
    return class_file


def categories_of(class_file: ClassFile) -> list[Category]:
    """Return the categories of a file; the value of one in masks is its place, unless it says so.

    Raises `DisaError` for an entry that is none, and for a value that two categories share.
    """
    path = class_file.path
    categories = [_category(entry, index, path) for index, entry in enumerate(class_file.entries)]
    # Two categories with one value could not be told apart in masks.
    owners: dict[int | None, str] = {}
    for category in categories:
        if category.source_id in owners:
            other = owners[category.source_id]
            raise DisaError(
                f'{path}: "{other}" and "{category.name}" share the id {category.source_id}; '
                "change one"
            )
        owners[category.source_id] = category.name
    return categories


def name_key(name: str) -> str:
    """Return what all spellings of a name share: case, spaces and Unicode form make no other word.

    An accent may be a character of its own, as in names of files on macOS, and a letter may have
    the width of a Chinese one.
    """
    # Twice: folding the case can undo the form, and the form the case.
    for _ in range(2):
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", name).casefold())
    return " ".join(name.split())


def packed(colour: Sequence[int]) -> int:
    """Return a colour (r, g, b) as the one number that stands for it in a mask of colours."""
    red, green, blue = colour
    return (red << 16) + (green << 8) + blue


def _entries_of_text(text: str) -> list[Any]:
    """Return the entries of a list of classes, which may be numbered, or CVAT's labelmap."""
    # An empty line at the end is usual; one between names is a mistake and stays.
    lines = [line for line in text.rstrip().splitlines() if not line.lstrip().startswith("#")]
    names = [re.split(r"\s#", line, maxsplit=1)[0].strip() for line in lines]
    for form, entry in ((LABELMAP, _labelmap_entry), (NUMBERED, _numbered_entry)):
        found = [form.fullmatch(name) for name in names]
        if all(found):
            return [entry(fields) for fields in found if fields]
    return names


def _labelmap_entry(fields: re.Match[str]) -> dict[str, Any]:
    shares = [int(share) for share in re.findall(r"\d{1,10}", fields["colour"])]
    return {"name": fields["name"]} | ({"color": shares} if shares else {})


def _numbered_entry(fields: re.Match[str]) -> dict[str, Any]:
    return {"name": fields["name"], "id": int(fields["id"])}


@cache
def _published(name: str) -> Vocabulary:
    path = FOLDER / f"{name}.json"
    data = read_json(path, "install disa again")
    categories = categories_of(ClassFile(path, data["categories"]))
    if "counted_as_background" not in data:
        return vocabulary_of(name, categories)

    # Background is scored but never prompted; other names are prompted in its place.
    named = [category for category in categories if category.name != BACKGROUND]
    others = [
        Category(entry["name"], tuple(entry.get("synonyms", ())))
        for entry in data["counted_as_background"]
    ]
    background = [category.name for category in categories].index(BACKGROUND)
    scored = (*range(len(named)), *[background] * len(others))
    return Vocabulary(name, tuple(categories), (*named, *others), scored)


def _category(entry: object, index: int, path: Path) -> Category:
    """Return the category of an entry. Raises `DisaError` that counts entries from 1."""
    place = f"{path}: category {index + 1}, {json.dumps(entry, ensure_ascii=False)[:60]}"
    fields: Any = {"name": entry} if isinstance(entry, str) else entry
    check_form(fields, Entry, place, REMEDY)

    # "boat|ship" gives synonyms as well as "synonyms": ["ship"] does.
    texts = [*fields["name"].split("|"), *fields.get("synonyms", ())]
    names = [" ".join(text.split()) for text in texts]
    if not all(names):
        raise DisaError(f"{place}: has an empty name; remove the line or name it")
    source_id = packed(fields["color"]) if "color" in fields else fields.get("id", index)
    return Category(names[0], tuple(names[1:]), fields.get("kind"), source_id)
