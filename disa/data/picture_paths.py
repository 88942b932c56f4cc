"""Which files paths, folders and globs name, and which they leave out (decision D117)."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path

from disa.data.images import refuse_address
from disa.data.picture_files import HEIF_SUFFIXES, SUFFIXES, has_heif
from disa.errors import DisaError

STDIN = Path("-")
RAW_SUFFIXES = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2")
UNREAD_SUFFIXES = (*RAW_SUFFIXES, ".jxl", ".jxr", ".psd", ".svg", ".xcf")
# Ends of the files that a result NAME.json lies beside.
RESULT_ENDS = ("_overlay.png", "_labels.png", "_saliency.png")


@dataclass
class Found:
    """The files to read, and what a user should know about the others."""

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # pictures by suffix
    notes: list[str] = field(default_factory=list)

    def unread(self) -> str:
        """Return a line on pictures that cannot be read, with the remedy; "" without any."""
        if not self.left_out:
            return ""
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.left_out.items()))
        remedies = []
        if self.left_out.keys() & set(HEIF_SUFFIXES):
            remedies.append("pip install 'disa-seg[heif]' for HEIC")
        if self.left_out.keys() - set(HEIF_SUFFIXES):
            remedies.append("save them as JPEG or PNG")
        return f"left out: {kinds}; {', or '.join(remedies)}"


def expand(inputs: Iterable[str | PathLike[str]], recursive: bool = False) -> Found:
    """Find the files that paths, folders and globs name: in the order given, each name once.

    A folder gives the pictures in it (by suffix, without hidden ones), sorted; with `recursive`
    those of its subfolders, too, as `**` in a glob does. Results of earlier runs are no pictures,
    unless they are named one by one. "-" is standard input. A single missing file stays among the
    files, so that reading it reports it while the others are read. Raises `DisaError` for an
    address, and for a folder or a glob without pictures.
    """
    found = Found()
    for given in inputs:
        _add(found, fspath(given), recursive)

    # A file may be named twice, also by different spellings. Two links to one file are two names.
    unique: dict[str, Path] = {}
    for file in found.files:
        unique.setdefault(os.path.abspath(file), file)  # noqa: PTH100 (links stay)
    found.files = list(unique.values())
    return found


def subfolder_with_pictures(folder: Path) -> Path | None:
    """Return the first folder below this one that holds a picture."""
    deeper = (file.parent for file in _below(folder) if file.parent != folder)
    return next(deeper, None)


def in_subfolder(folder: Path) -> str:
    """Return a few words on where pictures are instead; "" if there are none."""
    inner = subfolder_with_pictures(folder)
    return "" if inner is None else f" but in its subfolder {inner.relative_to(folder)}"


def _add(found: Found, name: str, recursive: bool) -> None:
    """Add the files that one argument names: a file, a folder or a glob."""
    path = Path(name)
    if not name:
        raise DisaError("a picture's path is empty; give a file, a folder or a glob")
    refuse_address(name)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises on names that are too long)
        _add_folder(found, path, recursive)
    elif glob.has_magic(name) and not os.path.exists(path):  # noqa: PTH110 (as above)
        # iglob: unlike `Path.glob` it takes absolute patterns
        matches = map(Path, glob.iglob(name, recursive=True))  # noqa: PTH207
        every = sorted(file for file in matches if file.is_file())
        files = readable(found, [file for file in every if not _is_result(file)])
        if not files:
            besides = " but results of earlier runs, or pictures that cannot be read"
            raise DisaError(f"{name}: matches no file{besides if every else ''}")
        found.files += files
    else:
        found.files.append(path)


def _add_folder(found: Found, folder: Path, recursive: bool) -> None:
    every = sorted(_below(folder) if recursive else _directly_in(folder))
    files = readable(found, every)
    inner = None if recursive else subfolder_with_pictures(folder)
    if not files:
        if inner is not None:
            raise DisaError(
                f"{folder}: no picture in this folder{in_subfolder(folder)}; name {inner}, or add "
                "--recursive"
            )
        unread = found.unread() or f"looked for {', '.join(SUFFIXES)}"
        if any(map(_is_result, folder.iterdir())):
            unread = "but results of earlier runs"
        raise DisaError(f"{folder}: no picture in this folder ({unread})")
    if inner is not None:
        found.notes.append(
            f"{folder}: pictures in subfolders such as {inner} are left out; --recursive takes them"
        )
    found.files += files


def _directly_in(folder: Path) -> Iterator[Path]:
    """Yield what looks like a picture, can be read or not; hidden files and results do not."""
    for file in folder.iterdir():
        if looks_like_picture(file) and file.is_file() and not _is_result(file):
            yield file


def looks_like_picture(file: Path) -> bool:
    """Tell whether a name is a picture's, that can be read or not, and is not hidden."""
    known = file.suffix.lower() in (*SUFFIXES, *UNREAD_SUFFIXES)
    return known and not file.name.startswith(".")


def _below(folder: Path) -> Iterator[Path]:
    """Yield what looks like a picture in a folder and in its subfolders, without hidden ones.

    Links to folders are followed; each folder is visited once.
    """
    seen = set()
    for root, inner, _ in os.walk(folder, followlinks=True):
        place = os.path.realpath(root)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if place in seen:
            inner.clear()
            continue
        seen.add(place)
        yield from _directly_in(Path(root))


def readable(found: Found, files: Iterable[Path]) -> list[Path]:
    """Return the files that can be read; the others are counted in `found`."""
    unread = UNREAD_SUFFIXES if has_heif() else (*UNREAD_SUFFIXES, *HEIF_SUFFIXES)
    kept = []
    for file in files:
        if file.suffix.lower() in unread:
            found.left_out[file.suffix.lower()] += 1
        else:
            kept.append(file)
    return kept


def _is_result(file: Path) -> bool:
    """Tell whether a picture was written by disa: beside NAME.json, or in a folder of GeoTIFFs."""
    if file.parent.name == "geotiff" and file.suffix == ".tif":
        return (file.parent.parent / f"{file.stem}.json").exists()
    for end in RESULT_ENDS:
        if file.name.endswith(end):
            return file.with_name(f"{file.name.removesuffix(end)}.json").exists()
    return False
