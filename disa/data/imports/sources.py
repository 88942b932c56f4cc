"""Which tool made the files in a folder, and the reader for them."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from disa.data.imports.annotations import Annotations
from disa.data.imports.coco import read_coco
from disa.data.imports.label_studio import read_label_studio
from disa.data.imports.labelme import read_labelme
from disa.data.imports.mask_folders import MASKS, read_mask_folder
from disa.errors import DisaError
from disa.running.reading import MOST_ANNOTATION_BYTES, read_json

KNOWN = (
    "COCO JSON (instances, stuff, panoptic), labelme JSON, Label Studio JSON, or a folder "
    "SegmentationClass of CVAT, labelme or VOC"
)
COCO = "COCO JSON"
LABELME = "labelme JSON"
LABEL_STUDIO = "Label Studio JSON"
VOC = "masks in VOC's layout"
DEPTH = 4  # folders below the one that is given
# Label Studio's export of one PNG a label, which does not say what picture it belongs to.
PNG_A_LABEL = re.compile(r"task-\d+-annotation-\d+-.*\.png")


def read_annotations(source: Path, pictures: Path | None = None) -> Annotations:
    """Return what a file or a folder of another tool holds.

    Pictures lie anywhere below `pictures`, by default below the source. Raises `DisaError` for a
    source that holds nothing known, or several files of which only one can be meant.
    """
    if not source.exists():
        raise DisaError(f"{source}: no such file or folder; give {KNOWN}")
    found = list(_find(source))
    # What masks were made from lies beside them.
    if any(kind == VOC for kind, _ in found):
        found = [each for each in found if each[0] != LABELME]
    if not found:
        hint = " (Label Studio's PNG files; export JSON)" if _has_png_a_label(source) else ""
        raise DisaError(f"{source}: holds nothing that can be imported{hint}; give {KNOWN}")
    kinds = {kind for kind, _ in found}
    first, *others = found
    if len(kinds) > 1 or (others and first[0] != LABELME):
        names = ", ".join(str(path) for _, path in found[:4])
        raise DisaError(f"{source}: holds {len(found)} annotations ({names}); give one of them")

    kind, path = first
    folder = pictures or _folder_of(source)
    if not folder.is_dir():
        raise DisaError(f"{folder}: no such folder; name one with the pictures")
    if kind == VOC:
        return read_mask_folder(path, folder)
    if kind == LABELME:
        return read_labelme([path for _, path in found], folder)
    read = read_coco if kind == COCO else read_label_studio
    return read(path, read_json(path, "export it again", most=MOST_ANNOTATION_BYTES), folder)


def import_hint(root: Path) -> str | None:
    """Return a line on other tools' annotations in a folder, with the command that imports them."""
    # The first is enough, since there may be many large ones.
    for kind, _ in _find(root):
        command = f"disa data import {shlex.quote(str(root))} OUT"
        return f"it holds {kind}: `{command}` makes a data set of it"
    if _has_png_a_label(root):
        return (
            "it holds Label Studio's PNG files of one label each: export JSON there, and "
            "`disa data import FILE.json OUT` makes a data set of it"
        )
    return None


def _find(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield the kind and the place of all annotations in a source."""
    if source.is_file():
        kind = _kind(source)
        if kind:
            yield kind, source
        return
    if source.name in MASKS:
        yield VOC, source
        return
    for parent, folders, names in _walk(source):
        # Indices are read where labelme has written them and coloured previews, too.
        masks = [name for name in MASKS if name in folders and any((parent / name).glob("*.png"))]
        yield from ((VOC, parent / name) for name in masks[:1])
        for name in names:
            path = parent / name
            kind = _kind(path) if path.suffix.lower() == ".json" else None
            if kind:
                yield kind, path


def _walk(source: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for parent, folders, names in os.walk(source):
        place = Path(parent)
        if len(place.relative_to(source).parts) >= DEPTH:
            folders.clear()
        folders.sort()
        yield place, folders, sorted(names)


def _kind(path: Path) -> str | None:
    """Return what a JSON file holds; None for anything else."""
    try:
        data: Any = read_json(path, "", most=MOST_ANNOTATION_BYTES)
    except DisaError:
        return None
    if isinstance(data, dict):
        if {"images", "annotations", "categories"} <= data.keys():
            return COCO
        return LABELME if isinstance(data.get("shapes"), list) else None
    return LABEL_STUDIO if isinstance(data, list) and _are_tasks(data) else None


def _are_tasks(data: Sequence[Any]) -> bool:
    keys = {"annotations", "completions", "annotation_id", "annotator"}
    return bool(data) and all(isinstance(task, dict) and task.keys() & keys for task in data)


def _has_png_a_label(source: Path) -> bool:
    if source.is_file():
        return bool(PNG_A_LABEL.fullmatch(source.name))
    return any(PNG_A_LABEL.fullmatch(name) for _, _, names in _walk(source) for name in names)


def _folder_of(source: Path) -> Path:
    """Return the folder in which the pictures of a source are looked for."""
    folder = source.parent if source.is_file() or source.name in MASKS else source
    # COCO and many exports have `annotations/` and `images/` side by side.
    return folder.parent if folder.name == "annotations" else folder
