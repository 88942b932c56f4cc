"""What the files of a result are called, so that no picture's replace another one's (D123)."""

import os
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TypedDict

from disa.data.images import real_path
from disa.data.picture_paths import STDIN
from disa.errors import DisaError
from disa.running.reading import read_json

LONGEST_STEM = 200  # bytes; file systems take names of 255


class Owned(TypedDict):
    """What NAME.json says of its picture."""

    image: str | None


def result_names(
    files: Sequence[Path], folders: Sequence[Path], reserved: Iterable[str] = ()
) -> list[str]:
    """Return a name for each file's results, which lie in all of the folders.

    It is the file's stem, with a number where two files share it or where a folder holds another
    picture's results by that name. No result gets a `reserved` name.
    """
    stems = [own_name(file) for file in files]
    given = {stem.casefold() for stem in stems}
    taken = set(reserved)
    names = []
    for file, stem in zip(files, stems, strict=True):
        source = None if file == STDIN else str(file)
        for name in free_names(stem, source, folders):
            # A numbered name must not be another file's own.
            is_given = name != stem and name.casefold() in given
            if not is_given and name.casefold() not in taken:
                break
        taken.add(name.casefold())
        names.append(name)
    return names


def own_name(file: Path) -> str:
    """Return what a picture's results are called where nothing else has that name."""
    return "stdin" if file == STDIN else _shortened(file.stem)


def has_results(folders: Iterable[Path], name: str) -> bool:
    """Tell whether results of that name are in all folders; the JSON file is written last."""
    return all((folder / f"{name}.json").exists() for folder in folders)


def keep_apart(files: Iterable[Path], out: Path) -> None:
    """Refuse to write among the pictures: the next run would segment the results."""
    own = real_path(out)
    if any(real_path(file).parent == own for file in files if file != STDIN):
        raise DisaError(f"{out}: holds the pictures; choose another folder for the results")


def free_names(stem: str, source: str | None, folders: Sequence[Path]) -> Iterable[str]:
    """Yield STEM, STEM-2, ... without names of another picture's results in one of the folders.

    `source` is the picture's file; what has none is nobody's but its own.
    """
    for name in chain([stem], (f"{stem}-{number}" for number in count(2))):
        if not any(_is_of_another(folder / f"{name}.json", source) for folder in folders):
            yield name


def _is_of_another(path: Path, source: str | None) -> bool:
    """Tell whether a NAME.json is there and says that it is of another picture, or of none."""
    if not path.is_file():
        return False
    try:
        owner = read_json(path, "delete it", Owned)["image"]
    except DisaError:
        return True
    if source is None or owner is None:
        return True
    return os.path.abspath(owner) != os.path.abspath(as_json_has_it(source))  # noqa: PTH100


def as_json_has_it(name: str) -> str:
    """Return a file's name as text: bytes that are none become escapes."""
    return name.encode(errors="backslashreplace").decode()


def _shortened(stem: str) -> str:
    """Shorten a name until a file system takes it with everything that results append to it."""
    while len(os.fsencode(stem)) > LONGEST_STEM:
        stem = stem[:-1]
    return stem
