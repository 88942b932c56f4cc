"""Annotations of another tool become a data set of your own: images/, masks/, classes.json."""

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from disa.data.images import SUFFIXES, read_size, write_png
from disa.data.imports.annotations import AnnotatedPicture, Annotations, Canvas, LeftOut
from disa.data.masks import Labels, ignored_value
from disa.errors import DisaError
from disa.running.files import prepare_folder, write_bytes, write_json, write_text
from disa.running.locks import hold
from disa.running.reading import read_json
from disa.running.terminal import Report

FOLDERS = ("images", "masks")
MARK = "unfinished-import.json"  # in a folder until its import is done (decision D141)
LOCK = ".lock"
CLASSES = "classes.json"
UNANNOTATED = "without an annotation"
UNDRAWN = "of which no annotation can be drawn"


@dataclass
class Written:
    """What an import has written, and what not."""

    categories: int
    # Annotations and pictures that were left out, by the reason.
    annotations: LeftOut
    failed: LeftOut = field(default_factory=lambda: defaultdict(list))
    pictures: int = 0
    # Pixels that a later annotation of another category has covered, and pictures with such.
    covered: int = 0
    overlaps: int = 0
    begun_again: bool = False  # in the folder of an import that was interrupted


def write_folder(
    source: Annotations, origin: Path, out: Path, background: str | None, report: Report
) -> Written:
    """Write all pictures that have annotations, with their masks; `classes.json` comes last.

    Pixels without an annotation are ignored, or become the category `background`, and then
    pictures without any annotation count, too. The folder is new, empty, or that of an import of
    the same `origin` that was interrupted. Raises `DisaError` for any other and for one that cannot
    be written, and if no picture is left.
    """
    writer = _Writer(source, out, background)
    if not all(entry["name"] for entry in writer.entries):
        raise DisaError("the background has no name; give one, such as --background background")
    if not writer.entries:
        raise DisaError(f"{out}: not written, because the {source.kind} names no category")
    with _begun(out, origin) as writer.written.begun_again:
        writer.write(report)
    return writer.written


@contextmanager
def _begun(out: Path, origin: Path) -> Iterator[bool]:
    """Make the folder for the block to fill; yield whether an interrupted import was in it.

    What that one wrote is removed, because its source may have changed. If the block fails for want
    of pictures, an empty folder is left. Raises `DisaError`.
    """
    mark = out / MARK
    began = {"source": os.path.abspath(origin)}  # noqa: PTH100 (links stay)
    is_there = mark.is_file() and not (out / CLASSES).exists()
    if is_there and read_json(mark, f"delete {out}") != began:
        raise DisaError(f"{out}: holds an unfinished import of another source; delete it")
    if not is_there and out.is_dir() and any(file.name != LOCK for file in out.iterdir()):
        raise DisaError(f"{out}: is not empty; choose a new folder")
    prepare_folder(out)
    lock = out / LOCK
    with hold(lock, 0.0, f"{out}: another import is at work in it; wait for it"):
        try:
            write_json(mark, began)
            for name in FOLDERS:
                shutil.rmtree(out / name, ignore_errors=True)
                prepare_folder(out / name)
            yield is_there
            mark.unlink(missing_ok=True)
        finally:
            # Windows removes no file that is open; there it stays.
            with suppress(OSError):
                lock.unlink()


def _named(pictures: list[AnnotatedPicture]) -> list[tuple[str | None, AnnotatedPicture]]:
    """Return each picture with the name of its files; None for one that was there before."""
    paths = [Path(picture.name.replace("\\", "/")) for picture in pictures]
    # A name without folders and suffix, where that is enough to tell all pictures apart.
    counts = Counter(path.stem.casefold() for path in paths)
    named: list[tuple[str | None, AnnotatedPicture]] = []
    seen: set[str] = set()
    for path, picture in zip(paths, pictures, strict=True):
        name = path.stem
        if counts[name.casefold()] > 1:
            parts = [part for part in path.parts if part.strip("./")]
            name = "_".join(parts).replace(".", "_")
        # Hidden files are no part of a data set.
        name = name.lstrip(".") or "picture"
        is_new = name.casefold() not in seen
        seen.add(name.casefold())
        named.append((name if is_new else None, picture))
    return named


class _Writer:
    """Fills a folder with the pictures of a source, and counts what it does."""

    def __init__(self, source: Annotations, out: Path, background: str | None) -> None:
        self.source = source
        self.out = out
        self.empty_label = None if background is None else source.categories.add(background)
        self.entries = source.categories.entries
        self.ignored = ignored_value(len(self.entries))
        self.written = Written(len(self.entries), source.left_out)

    def write(self, report: Report) -> None:
        """Write all of it. Raises `DisaError` if no picture is left."""
        failed = self.written.failed
        ids = {}
        for index, (name, picture) in enumerate(_named(self.source.pictures)):
            if name is None:
                failed["listed twice"].append(picture.name)
                continue
            try:
                if self._write_picture(picture, name):
                    ids[picture.name] = name
            except DisaError as error:
                failed["that cannot be read or written"].append(f"{picture.name} ({error})")
            report(index + 1, len(self.source.pictures))

        self.written.pictures = len(ids)
        if not ids:
            # Other commands must find the folder empty again.
            for name in FOLDERS:
                (self.out / name).rmdir()
            (self.out / MARK).unlink()
            reasons = "; ".join(f"{reason}: {names[0]}" for reason, names in failed.items())
            raise DisaError(
                f"{self.out}: no picture could be imported ({reasons or 'none is listed'}); name "
                "the folder of the pictures with --images"
            )
        self._write_lists(ids)
        write_json(self.out / CLASSES, {"categories": self.entries, "ignored": [self.ignored]})

    def _write_picture(self, picture: AnnotatedPicture, name: str) -> bool:
        """Write a picture and its mask; False if it is left out. Raises `DisaError`."""
        place = picture.picture
        if place is None:
            reason = "that are not among the pictures, or more than once"
            self.written.failed[reason].append(picture.name)
            return False
        suffix = Path(place if isinstance(place, Path) else picture.name).suffix
        if suffix.lower() not in SUFFIXES:
            self.written.failed[f"in the format {suffix}"].append(picture.name)
            return False
        try:
            content = place.read_bytes() if isinstance(place, Path) else place()
        except OSError as error:
            raise DisaError(f"{place}: {error.strerror}") from None

        # The size is that of the copy, which may have come from memory.
        file = self.out / "images" / f"{name}{suffix}"
        write_bytes(file, content)
        is_whole = False
        try:
            mask = self._mask(picture, read_size(file))
            if mask is not None:
                write_png(self.out / "masks" / f"{name}.png", mask)
                is_whole = True
        finally:
            if not is_whole:
                file.unlink()
        return is_whole

    def _mask(self, picture: AnnotatedPicture, size: tuple[int, int]) -> Labels | None:
        """Draw the mask (H, W) of a picture of this size; None if the picture is left out."""
        written = self.written
        # Polygons for another size would lie in the wrong places, without a word.
        if picture.size not in (None, size):
            reason = "of another size than the annotations are for (resized, or turned by EXIF)"
            written.failed[reason].append(picture.name)
            return None
        canvas = Canvas(size, self.ignored, written.annotations, picture.name)
        picture.draw(canvas)
        written.covered += canvas.covered
        written.overlaps += canvas.covered > 0
        if self.empty_label is not None:
            canvas.fill(self.empty_label)
        elif not canvas.drawn.any():
            written.failed[UNDRAWN if canvas.rejected else UNANNOTATED].append(picture.name)
            return None
        return canvas.labels

    def _write_lists(self, ids: Mapping[str, str]) -> None:
        """Write the lists of splits, with the pictures that were written (their name -> id)."""
        for split, names in self.source.splits.items():
            lines = [ids[name] for name in names if name in ids]
            if lines:
                write_text(self.out / f"{split}.txt", "\n".join(lines) + "\n")
